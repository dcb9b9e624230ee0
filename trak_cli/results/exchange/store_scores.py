"""Writes scores of other programs into a store, block by block, as scores of an estimator of a given name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted
from trak_cli.results.exchange.contract import ScoreTable
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.stages.scoring.score_store import ScoreFiles
from trak_cli.store.chosen_targets import ChosenTargets
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.store.json_files import write_json_once
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Json, Reporter, shards_of

_SHARD_ROWS = 65_536
_SCORES_AT_ONCE = 8_000_000


@dataclass(frozen=True)
class Destination:
    """Where imported scores go.

    Attributes:
        name: of the estimator that they are stored as.
        negate: the sign is turned.
        group: one row of scores is of the mean over all targets of the split.
        overwrite: replace other scores of this name.
    """

    layout: Layout
    split: str
    name: str
    negate: bool
    group: bool
    overwrite: bool


def known_rows(layout: Layout, split: str) -> int | None:
    """The number of rows of a split; None if the store does not know it."""
    return rows_of(layout, split) if layout.split(split).exists() else None


def digest_of(path: Path) -> str:
    """The sha256, in hexadecimal, of a file, or of the names and contents of the files of a folder."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def store_scores(table: ScoreTable, where: str, identity: Json, to: Destination, reporter: Reporter) -> ScoreFiles:
    """Write the scores; the store learns the numbers of rows that it does not know.

    Args:
        where: the file, for messages.
        identity: what determines the scores.

    Raises:
        InputError: the scores are of other targets or training rows, or not finite.
        StoreError: there are other scores of this name.
    """
    targets, chosen = _targets(table, where, to)
    expected = known_rows(to.layout, TRAIN)
    if expected not in (None, table.shape[1]):
        raise InputError(_other_rows(table, where, expected, targets))
    shard_rows = min(table.shape[1], _SHARD_ROWS)
    files = ScoreFiles(
        layout=to.layout,
        estimator=to.name,
        split=to.split,
        top_k=None,
        blocks=list(shards_of(table.shape[0], max(1, _SCORES_AT_ONCE // shard_rows))),
        shards=list(shards_of(table.shape[1], shard_rows)),
        fingerprint={
            "kind": "scores",
            "format": FORMAT_VERSION,
            "estimator": {"imported": identity},
            "checkpoints": [],
            "rows": table.shape[1],
            "split": to.split,
            "targets": targets,
            "top_k": None,
            **({} if chosen is None else chosen.entry()),
        },
        overwrite=to.overwrite,
        keys=("--name", "--overwrite"),
    )
    present = files.require_ours()
    sign = np.float32(-1 if to.negate else 1)
    with reporter.meter(f"import {to.name}", table.shape[0] * table.shape[1], "scores") as meter:
        for unit in files.units():
            if unit not in present:
                scores = np.asarray(table.read(unit.targets, unit.rows)).astype(np.float32)
                if not np.isfinite(scores).all():
                    raise InputError(Problem(where, "NaN or infinite scores", "finite numbers", "fix the file"))
                files.write(unit, [(unit.rows, sign * scores)])
            meter.advance(len(unit.targets) * len(unit.rows))
    for split, rows in ((TRAIN, table.shape[1]), (to.split, targets)):
        write_json_once(to.layout.split(split), {"rows": rows})
    files.complete()
    return files


def _targets(table: ScoreTable, where: str, to: Destination) -> tuple[int, ChosenTargets | None]:
    """The number of rows of the split, and the targets if the scores are of some of them only."""
    count = table.shape[0]
    total = known_rows(to.layout, to.split)
    if to.group:
        if count != 1 or total is None:
            found = f"{counted(count, 'row')} of scores" if count != 1 else f"a store that does not know the rows of {to.split}"
            raise InputError(Problem("--group", found, "one row of scores, and a store with the split", "leave out --group"))
        return total, ChosenTargets(tuple(range(total)), group=True)
    rows = range(count) if table.targets is None else table.targets
    if total is None:
        total = max(rows) + 1
    if table.targets is None and count != total:
        hint = "import scores of every target"
        if count == 1:
            hint = "if they are of the mean over all targets, give --group"
        elif table.shape[1] == total:
            hint = "transpose the scores"
        found = f"scores of {counted(count, 'target')}"
        raise InputError(Problem(where, found, f"of the {counted(total, 'row')} of {to.split} in {to.layout.root}", hint))
    if min(rows) < 0 or max(rows) >= total or len(set(rows)) < count:
        found = f"targets from {min(rows)} to {max(rows)}" if len(set(rows)) == count else "a target that is there twice"
        raise InputError(Problem(where, found, f"rows 0 to {total - 1} of {to.split}", "give the split that the scores are of"))
    return total, None if list(rows) == list(range(total)) else ChosenTargets(tuple(rows))


def _other_rows(table: ScoreTable, where: str, expected: int | None, targets: int) -> Problem:
    hint = "transpose the scores" if table.shape == (expected, targets) else "give the store of the same training set"
    return Problem(where, f"scores of {counted(table.shape[1], 'training row')}", f"{expected}, as in the store", hint)
