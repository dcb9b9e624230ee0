"""The shards of a run: which exist, which this worker computes, and which are stored already."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trak_cli.cluster.share import Share
from trak_cli.errors import InputError, Problem, StoreError
from trak_cli.stages.featurizing.replaced_splits import offer_replacement
from trak_cli.stages.index.feature_status import least_bytes
from trak_cli.stages.index.fingerprints import shard_fingerprint
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.run_inputs import RunInputs
from trak_cli.stages.inputs.sample_identity import check_ends
from trak_cli.stages.inputs.split import Split
from trak_cli.store.atomic_write import set_aside
from trak_cli.store.layout import Layout
from trak_cli.store.shards import Condition, State, inspect_features
from trak_cli.types import Json, Reporter, Rows, evenly_spaced, shards_of

#: Stored shards whose bytes are checked before the work begins; of more, evenly spaced ones, and at most so many bytes.
INSPECTED = 1000
INSPECTED_BYTES = 1 << 28


@dataclass(frozen=True)
class Unit:
    """One shard, the unit of work.

    Attributes:
        path: its file.
        replaces_shorter: a file with fewer rows is there and is to be replaced.
    """

    checkpoint: Checkpoint
    split: Split
    rows: Rows
    path: Path
    fingerprint: Json
    replaces_shorter: bool = False

    def inspect(self) -> State:
        """What is stored at ``path``."""
        return inspect_features(self.path, self.rows, self.fingerprint)


@dataclass(frozen=True)
class Work:
    """The shards of a run.

    Attributes:
        units: all shards of the store, in an order on which all workers agree.
        own: those of this worker's share.
        pending: those of ``own`` that are not stored.
    """

    units: list[Unit]
    own: list[Unit]
    pending: list[Unit]


def list_work(
    layout: Layout, inputs: RunInputs, fingerprints: Mapping[str, Json], shard_rows: int, share: Share, reporter: Reporter
) -> Work:
    """All shards of the store, this worker's share of them, and those of the share that are still to be computed.

    Raises:
        StoreError: shards of another run are stored at the same paths; all of them are named.
        InputError: the data set no longer has the samples from which the shards were computed.
    """
    units = []
    for checkpoint in inputs.checkpoints:
        for split in inputs.splits:
            shards = list(shards_of(split.rows, shard_rows))
            paths = layout.feature_shards(checkpoint.name, split.name, len(shards))
            fingerprint = shard_fingerprint(fingerprints[checkpoint.name], split.name)
            units += [Unit(checkpoint, split, rows, path, fingerprint) for rows, path in zip(shards, paths, strict=True)]
    own = share.of(units)
    return Work(units, own, pending_units(own, reporter))


def pending_units(units: Sequence[Unit], reporter: Reporter) -> list[Unit]:
    """The units that are not stored as a whole.

    A damaged shard is set aside (renamed, not deleted) and computed again. A shard that ends before the split does, because
    the split has grown, is computed again and replaced. Of very many shards, not all are read (:func:`_to_inspect`).

    Raises:
        StoreError, InputError: see :func:`list_work`.
    """
    pending: list[Unit] = []
    foreign: list[Problem] = []
    changed: list[Problem] = []
    for unit in _to_inspect(units):
        stored = unit.inspect()
        if stored.condition is Condition.FOREIGN:
            foreign += stored.problems
            continue
        if stored.condition is Condition.DAMAGED:
            reporter.log(f"{unit.path} is damaged: renamed to {set_aside(unit.path).name} and computed again")
        elif stored.sample_ids is not None:
            ids = stored.sample_ids.tolist()
            rows = range(unit.rows.start, unit.rows.start + len(ids))
            differing = check_ends(unit.split.name, unit.split.dataset, rows, ids, "its features were made")
            changed += [offer_replacement(problem, unit.split.name) for problem in differing]
        if stored.condition is not Condition.WHOLE:
            pending.append(replace(unit, replaces_shorter=stored.condition is Condition.SHORTER))
    StoreError.raise_for(foreign)
    InputError.raise_for(changed)
    return pending


def _to_inspect(units: Sequence[Unit]) -> list[Unit]:
    """The units that are not stored, by the sizes of their files, and some of the others if there are more than
    :data:`INSPECTED`.

    Reading all shards of a large store would take longer than the work of a worker that starts. finalize and score check
    every byte that they read.
    """
    least: dict[tuple[str, str], Callable[[Rows], int]] = {}
    stored, largest = [], 1
    for number, unit in enumerate(units):
        key = unit.checkpoint.name, unit.split.name
        if key not in least:
            least[key] = least_bytes(unit.fingerprint, unit.split.name)
        if (size := _size(unit.path)) >= least[key](unit.rows):
            stored.append(number)
            largest = max(largest, size)
    if len(stored) <= INSPECTED:
        return list(units)
    count = max(min(INSPECTED, INSPECTED_BYTES // largest), 2)
    certain = set(stored) - {stored[place] for place in evenly_spaced(len(stored), count)}
    return [unit for number, unit in enumerate(units) if number not in certain]


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
