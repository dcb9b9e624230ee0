"""``trak import``: scores of other programs, stored as an estimator of the store; ground truths, as a file for the LDS."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.config.schema import TrakConfig
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plurals import counted
from trak_cli.results.exchange.contract import ArrayStream, Source
from trak_cli.results.exchange.formats.npz import write_arrays
from trak_cli.results.exchange.ground_truth import read_truth
from trak_cli.results.exchange.registry import chosen_format, read_table
from trak_cli.results.exchange.staging import require_free, staged
from trak_cli.results.exchange.store_scores import Destination, digest_of, known_rows, store_scores
from trak_cli.stages.scoring.score_notes import write_notes
from trak_cli.store.atomic_write import writing
from trak_cli.store.failures import reading
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Reporter
from trak_cli.user_files import parsing


@dataclass(frozen=True)
class Import:
    """What is imported.

    Attributes:
        file: a file or folder of another program.
        name: of the estimator that the scores are stored as, or of the ground truth.
        format: of the scores; None: as the path tells.
        experiment: the name of the scores in a folder that has several.
        split: of the targets; None: the only one.
        ground_truth: a ground truth instead of scores.
        negate: turn the sign.
        group: one row of scores is of the mean over all targets of the split.
        overwrite: replace other scores, or another ground truth, of this name.
    """

    file: Path
    name: str
    format: str | None = None
    experiment: str | None = None
    split: str | None = None
    ground_truth: bool = False
    negate: bool = False
    group: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class ImportSummary:
    """What was stored.

    Attributes:
        format: of the file, or the kind of ground truth.
        targets, rows: numbers of targets and of training rows.
        models: of a ground truth; None for scores.
        path: the file of the complete scores, or of the ground truth.
        notes: what the file does not say and was assumed.
    """

    store: Path
    name: str
    format: str
    split: str
    targets: int
    rows: int
    models: int | None
    path: Path
    notes: list[str]


def import_scores(loaded: Loaded, reporter: Reporter, *, of: Import) -> ImportSummary:
    """Store scores, or a ground truth, of another program.

    Raises:
        ConfigError: the options do not say what to read.
        InputError: the file cannot be read, or is of other targets or training rows.
        StoreError: the store has other scores of this name.
    """
    layout = Layout(Path(loaded.config.store))
    if not of.file.exists():
        raise InputError(Problem("--file", f"{of.file}, which does not exist", "a file or folder", "correct the path"))
    split = of.split or _only_split(loaded.config, layout)
    if split == TRAIN:
        raise ConfigError(
            Problem("--split", TRAIN, "the split of the targets", "give the training set as targets another name")
        )
    if of.ground_truth:
        return _import_truth(layout, split, of)
    name, format = chosen_format(of.file, of.format, to_write=False)
    with reading(of.file):
        digest = digest_of(of.file)
    identity = {"format": name, "experiment": of.experiment, "negated": of.negate, "sha256": digest}
    to = Destination(layout, split, of.name, of.negate, of.group, of.overwrite)
    with _scratch(layout.root) as scratch, reading(of.file, "importing"):
        table = read_table(format, Source(of.file, of.experiment, scratch))
        files = store_scores(table, str(of.file), identity, to, reporter)
    write_notes(layout, of.name, split, table.notes, {"imported": {**identity, "path": str(of.file)}})
    targets, rows = table.shape
    return ImportSummary(layout.root, of.name, name, split, targets, rows, None, files.complete_path, list(table.notes))


def _import_truth(layout: Layout, split: str, of: Import) -> ImportSummary:
    path = layout.imported_truth(of.name)
    require_free(path, of.overwrite, lambda _: False)
    with parsing(of.file, "a ground truth of dattri, or of MadryLab/trak"):
        masks, outputs, kind = read_truth(of.file, known_rows(layout, TRAIN))
    expected = (known_rows(layout, TRAIN) or masks.shape[1], known_rows(layout, split) or outputs.shape[1])
    if (masks.shape[1], outputs.shape[1]) != expected:
        found = f"{counted(masks.shape[1], 'training row')} and {counted(outputs.shape[1], 'target')}"
        remedy = "give the store and the split that the ground truth is of"
        raise InputError(Problem(str(of.file), found, f"{expected[0]} and {expected[1]}, as in {layout.root}", remedy))
    values = {"masks": masks, "outputs": -outputs if of.negate else outputs}
    arrays = {name: (array.shape, array.dtype) for name, array in values.items()}
    with staged(path, of.overwrite) as temporary:
        parts = ((name, (slice(None),), array) for name, array in values.items())
        write_arrays(temporary, ArrayStream(arrays, {}, lambda: parts))
    return ImportSummary(layout.root, of.name, kind, split, outputs.shape[1], masks.shape[1], len(masks), path, [])


def _only_split(config: TrakConfig, layout: Layout) -> str:
    stored = [split for split in layout.described_splits() if split != TRAIN]
    splits = stored or list(config.dataset.targets)
    if len(splits) != 1:
        expected = f"one of: {', '.join(splits)}" if splits else "the name of the split that the targets are in"
        raise ConfigError(Problem("--split", "nothing", expected, f"give --split {splits[0] if splits else 'test'}"))
    return splits[0]


@contextmanager
def _scratch(store: Path) -> Iterator[Path]:
    """A folder for temporary files on the disk of the store, removed at the end."""
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".import-", dir=store)
    with folder as scratch:
        yield Path(scratch)
