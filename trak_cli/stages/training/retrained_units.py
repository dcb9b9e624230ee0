"""What `trak retrain` trains: each unit is one file, the models of one subset or one set of sample weights.

There are two protocols (docs/protocols.md). With other seeds, models are trained on random subsets alone, each with a seed of
its own. With the same seed, one run of `trak train` is trained again on all samples; those that are left out have weight 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import target_of
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.stages.training.trainer_run import Training
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.store.layout import Layout
from trak_cli.types import BoolArray, IntArray, Json

#: Added to ``seed``, so that models of other seeds share none with the checkpoints of `trak train`, and to draw subsets.
SEED_OFFSET = 1000


@dataclass(frozen=True)
class Unit:
    """The models of one file.

    Attributes:
        path: the file.
        seeds: of its models.
        left_out: the training samples that are left out, as row numbers in ascending order.
        entry: what its fingerprint adds to that of all units.
    """

    path: Path
    seeds: tuple[int, ...]
    left_out: Callable[[], IntArray]
    entry: Json = field(default_factory=dict)


def subset_units(config: TrakConfig, layout: Layout, rows: int) -> Iterator[Unit]:
    """The full run (with the same seed), and the random subsets."""
    run = config.retrain.own_run
    if run is not None:
        yield Unit(layout.retrained_full(run), run_seeds(config), _nothing)
    for subset in range(config.retrain.subsets):
        seeds = subset_seeds(config, subset) if run is None else run_seeds(config)
        yield Unit(layout.retrained(subset, run), seeds, partial(_outside, config, rows, subset))


def run_seeds(config: TrakConfig) -> tuple[int, ...]:
    """The seeds of ``models_per_subset`` runs of `trak train`, from ``run`` on."""
    first = config.seed + config.retrain.run
    return tuple(range(first, first + config.retrain.models_per_subset))


def subset_seeds(config: TrakConfig, subset: int) -> tuple[int, ...]:
    """Different seeds for every model of every subset."""
    entropy = [[config.seed + SEED_OFFSET, subset, repeat] for repeat in range(config.retrain.models_per_subset)]
    return tuple(int(np.random.SeedSequence(numbers).generate_state(1)[0]) for numbers in entropy)


def subset_mask(rows: int, kept: float, seed: int, subset: int) -> BoolArray:
    """Random subset number ``subset``: (rows,) bool, of which ``subset_size`` are true."""
    generator = np.random.default_rng([seed, subset])
    mask = np.zeros(rows, dtype=np.bool_)
    mask[generator.permutation(rows)[: subset_size(rows, kept)]] = True
    return mask


def subset_size(rows: int, kept: float) -> int:
    """round(kept · rows), but at least one sample is kept and one is left out."""
    return max(1, min(round(kept * rows), rows - 1))


def _outside(config: TrakConfig, rows: int, subset: int) -> IntArray:
    return np.flatnonzero(~subset_mask(rows, config.retrain.kept, config.seed + SEED_OFFSET, subset))


def _nothing() -> IntArray:
    return np.empty(0, np.int64)


def retrained_fingerprint(config: TrakConfig, training: Training) -> Json:
    """What determines the outputs of retrained models, but for the samples that are left out."""
    targets = {name: len(dataset) for name, dataset in training.splits.items()}
    run = config.retrain.own_run
    return {
        "kind": "retrained",
        "format": FORMAT_VERSION,
        "model": target_of(config.model),
        "task": target_of(config.task),
        "trainer": target_of(config.trainer),
        "rows": targets,
        "fraction": config.retrain.kept,
        "models_per_subset": config.retrain.models_per_subset,
        "seed": config.seed + SEED_OFFSET,
        **({} if run is None else {"run": config.seed + run}),
        **_beginning(config),
    }


def _beginning(config: TrakConfig) -> Json:
    """The start and the trained parameters, where models are not trained as a whole from scratch."""
    start = {} if config.train.start is None else {"start": sha256(Path(config.train.start))}
    return {**start, "parameters": asdict(config.parameters)} if config.train.only_parameters else start
