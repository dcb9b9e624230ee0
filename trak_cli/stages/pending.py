"""Which shards still have to be computed, and whether those that are there may stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trak_cli.errors import InputError, Problem, StoreError
from trak_cli.plugins import sample_id
from trak_cli.stages.job import Job, Unit
from trak_cli.store import Condition, Layout, inspect_features, set_aside
from trak_cli.types import Reporter


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
        raise InputError(changed)
    return pending


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
