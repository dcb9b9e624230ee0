"""From a configuration to features in shards.

Read the files in the order in which ``featurize()`` in ``stages/featurize.py`` uses them:

1. ``stages/inputs/run_inputs.py``: opens the device, the plugins, the splits and the checkpoints.
2. ``setup.py``: which coordinates of which function are projected, and by which projection.
3. ``fingerprint.py``: what determines the features; compared with the store.
4. ``task_context.py``: gives the task its context under a checkpoint, through ``statistics_cache.py``.
5. ``model_checks.py``: checks the model on a few samples.
6. ``engine_selection.py``: selects the gradient engine and settles the run plan.
7. ``units.py``: lists the shards, and which of them this worker computes.
8. For each checkpoint: ``engines.py`` builds the featurizer (``adam_scales.py`` scales gradients) and ``code_check.py``
   compares it with stored features.
9. ``featurizer.py``: computes the features of a shard, from ``stages/inputs/prefetch.py`` and ``microbatches.py``.
"""
