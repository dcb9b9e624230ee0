"""Which shards still have to be computed, and whether those that are there may stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trak_cli.errors import InputError, Problem, StoreError
from trak_cli.plugins.samples import sample_id
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.featurizing.prepare import Job, Unit
from trak_cli.stages.inputs.plugins import Checkpoint
from trak_cli.stages.inputs.split import Microbatch
from trak_cli.store.atomic_write import set_aside
from trak_cli.store.layout import Layout
from trak_cli.store.shards import Condition, inspect_features, read_features
from trak_cli.types import FloatArray, Reporter

#: How far apart a sample's features may be when computed again: devices, batches and dtypes round otherwise, by far less.
SAME = 0.1


def pending_units(job: Job, units: Sequence[Unit], reporter: Reporter) -> list[Unit]:
    """The units without a whole shard of their own.

    A shard that is damaged is set aside (renamed, not deleted) and computed again; one that holds the first rows of a
    split that has grown is computed again and replaced.

    Raises:
        StoreError: shards of another run lie where ours belong, all of them named.
        InputError: the dataset no longer gives the samples from which the shards were made.
    """
    pending: list[Unit] = []
    foreign: list[Problem] = []
    changed: list[Problem] = []
    for unit in units:
        path = job.layout.features(unit.checkpoint.name, unit.split.name, unit.index)
        found = inspect_features(path, unit.rows, unit.fingerprint)
        if found.condition is Condition.FOREIGN:
            foreign += found.problems
            continue
        if found.condition is Condition.DAMAGED:
            reporter.log(f"{path} is damaged: set aside as {set_aside(path).name}, to be computed again")
        elif found.sample_ids is not None:
            changed += _changed_samples(unit, found.sample_ids.tolist())
        if found.condition is not Condition.WHOLE:
            pending.append(replace(unit, shorter=found.condition is Condition.SHORTER))
    if foreign:
        raise StoreError(foreign)
    if changed:
        raise InputError(dict.fromkeys(changed))  # the same rows under every checkpoint
    return pending


def check_same_code(job: Job, featurizer: Featurizer, checkpoint: Checkpoint) -> None:
    """Compute a sample of a shard that is there again, before more are added: plugins are code, which no fingerprint sees.

    Raises:
        StoreError: its output or its features have become others.
    """
    for unit in job.units:
        if unit.checkpoint is not checkpoint:
            continue
        path = job.layout.features(checkpoint.name, unit.split.name, unit.index)
        if inspect_features(path, None, unit.fingerprint).condition is not Condition.WHOLE:
            continue
        shard = read_features(path, with_terms=False)
        row = shard.rows.start
        now = featurizer.columns(unit.split, Microbatch([row], unit.split.samples([row])))
        apart = {
            "features": _apart(now["features"], shard.features),
            "output": _apart(now["outputs"][:, None], shard.outputs[:, None]),
        }
        if max(apart.values()) > SAME:
            found = ", ".join(f"{what} {value:.0%} away" for what, value in apart.items())
            raise StoreError(
                Problem(
                    str(path),
                    f"sample {row} of {unit.split.name}, computed again: {found}",
                    f"what the shard holds, to {SAME:.0%}: all shards of a store are made by the same code",
                    "undo the change of model, task or dataset code, or use another store (name=NAME)",
                )
            )
        return


def _apart(now: FloatArray, shard: FloatArray) -> float:
    """‖now − before‖ of the first row over ‖before‖; over that of other rows where it is short and so mostly rounding."""
    lengths = np.linalg.norm(shard.astype(np.float64), axis=1)
    scale = max(float(lengths[0]), 0.1 * float(np.median(lengths)), 1e-30)
    return float(np.linalg.norm(now[0].astype(np.float64) - shard[0])) / scale


def is_done(layout: Layout, unit: Unit) -> bool:
    """Whether a whole shard of this unit is there by now."""
    path = layout.features(unit.checkpoint.name, unit.split.name, unit.index)
    return inspect_features(path, unit.rows, unit.fingerprint).condition is Condition.WHOLE


def _changed_samples(unit: Unit, sample_ids: Sequence[int]) -> list[Problem]:
    """Compare the first and the last sample of a shard with the dataset (all of them would cost a whole pass)."""
    for position in (0, len(sample_ids) - 1):
        row = unit.rows.start + position
        if sample_id(unit.split.dataset[row]) != sample_ids[position]:
            return [
                Problem(
                    f"sample {row} of {unit.split.name}",
                    "other content than when its features were made",
                    "the same samples in the same order (new ones only at the end)",
                    "give back the old data set, or use another store",
                )
            ]
    return []
