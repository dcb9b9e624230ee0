"""Scores from outside the store: the score file of another trak store, or a file of another tool."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted
from trak_cli.stages.evaluation.score_source import BlockIterator, ScoreSource
from trak_cli.stages.evaluation.user_arrays import read_array_file
from trak_cli.store.container import read_image
from trak_cli.store.header import VIRTUAL, is_store_file, read_header
from trak_cli.store.layout import Layout
from trak_cli.store.shards import inspect_features
from trak_cli.store.virtual import WholeScores, open_scores, score_blocks
from trak_cli.types import TRAIN, Reporter, Rows


@dataclass(frozen=True)
class ForeignScores:
    """Opens the files of ``lds.scores`` and checks that they score the targets and training rows of this store.

    Attributes:
        layout: this store.
        split: the evaluated target split.
        targets: how many targets it has.
        training_rows: how many training rows it has.
    """

    layout: Layout
    split: str
    targets: int
    training_rows: int
    reporter: Reporter

    def open(self, name: str, path: Path) -> ScoreSource:
        """The scores of one file: the score file of a trak store, or a file of another tool.

        The latter is a .npy file, or holds the array ``scores`` (.npz, .safetensors, .pt or HDF5).

        Raises:
            InputError: the file cannot be read, or its scores have a wrong shape, a wrong dtype or values that are not finite;
                or they are of other samples.
            StoreError: a file of the other store is missing or damaged, or has changed since the scores were assembled.
        """
        where = f"lds.scores.{name} ({path})"
        every = np.arange(self.targets)
        if path.is_dir():
            raise InputError(_folder(where, path))
        real = path.resolve()  # the file may be a link; what the scores consist of may not
        if not (path.is_file() and is_store_file(real)):
            scores = read_array_file(path, ("scores",))["scores"]
            self._check_shape(where, scores.shape, scores.dtype, self.targets)
            block = (Rows(0, self.targets), Rows(0, self.training_rows), scores)
            return ScoreSource(name, where, None, every, False, self.training_rows, lambda: _finite(where, iter([block])))
        if read_header(real).kind != VIRTUAL:
            raise InputError(_incomplete(where, real))
        whole = open_scores(real)
        chosen = whole.target_rows
        self._check_shape(where, whole.shape, np.dtype(np.float32), self.targets if chosen is None else whole.shape[0])
        _require_inside(where, whole)
        self._compare_samples(where, whole.path)
        averaged = whole.fingerprint.get("checkpoints")
        checkpoints = len(averaged) if isinstance(averaged, list) else None
        targets = every if chosen is None else chosen
        blocks = partial(_finite_blocks, where, whole)
        return ScoreSource(name, where, checkpoints, targets, whole.group, self.training_rows, blocks)

    def _check_shape(self, where: str, shape: tuple[int, ...], dtype: np.dtype, targets: int) -> None:
        rows = self.training_rows
        if shape == (targets, rows) and dtype.kind in "fiu":
            return
        hint = "transpose it" if shape == (rows, targets) else "score the same targets and training rows"
        expected = f"numbers of shape (targets, training rows) = ({targets}, {rows})"
        raise InputError(Problem(where, f"{dtype} of shape {shape}", expected, hint))

    def _compare_samples(self, where: str, path: Path) -> None:
        """Compare the digests of all samples that are known in both stores."""
        other = Layout(path.parents[min(2, len(path.parents) - 1)])
        if other.root == self.layout.root.resolve():
            return
        problems = []
        for split, theirs in ((TRAIN, TRAIN), (self.split, path.stem)):
            ours = self._samples[split]
            digests = sample_digests(other, theirs, len(ours))
            known = (ours != 0) & (digests != 0)
            if not known.any():
                self.reporter.log(
                    f"{where}: samples of {split} not compared, because one of the stores has no features of them"
                )
            elif (changed := known & (ours != digests)).any():
                found = f"{counted(int(changed.sum()), 'sample')} unlike those of {self.layout.root}, the first in row"
                found, remedy = f"{found} {int(changed.argmax())}", _export(path)
                if set(ours.tolist()) == set(digests.tolist()):
                    found += " (the same samples in another order)"
                    remedy = "use one order in both stores, and score again"
                problems.append(Problem(f"{where}: split {split}", found, "the same samples in the same order", remedy))
        if problems:
            raise InputError(problems)

    @cached_property
    def _samples(self) -> dict[str, npt.NDArray[np.uint64]]:
        """The digests of the samples of this store, by split."""
        rows = {TRAIN: self.training_rows, self.split: self.targets}
        return {split: sample_digests(self.layout, split, count) for split, count in rows.items()}


def sample_digests(layout: Layout, split: str, rows: int) -> npt.NDArray[np.uint64]:
    """The digests of the samples of a split as its shards have them: (rows,) uint64, 0 for a row without an intact shard."""
    digests = np.zeros(rows, np.uint64)
    for checkpoint in layout.checkpoints():
        for index in layout.shards(checkpoint, split):
            shard = inspect_features(layout.features(checkpoint, split, index), None, None)
            if shard.rows is not None and shard.sample_ids is not None:
                digests[shard.rows.start : shard.rows.stop] = shard.sample_ids[: max(0, rows - shard.rows.start)]
        if digests.all():
            break
    return digests


def _finite_blocks(where: str, scores: WholeScores) -> BlockIterator:
    return _finite(where, score_blocks(scores))


def _finite(where: str, blocks: BlockIterator) -> BlockIterator:
    for targets, rows, scores in blocks:
        if not np.isfinite(scores).all():
            raise InputError(Problem(where, "NaN or infinite scores", "finite numbers", "fix the file"))
        yield targets, rows, scores.astype(np.float32, copy=False)


def _require_inside(where: str, scores: WholeScores) -> None:
    """Refuse scores whose parts are links to files outside their folder."""
    folder = scores.path.parent
    for source, _ in scores.sources:
        if not source.path.resolve().is_relative_to(folder):
            remedy = "copy the scores with the files that they consist of (cp -rL), and give the copy"
            found = f"a part that is a link to another folder: {source.path} -> {source.path.resolve()}"
            raise InputError(Problem(where, found, f"files in {folder}", remedy))


def _incomplete(where: str, path: Path) -> Problem:
    """The problem of a file that does not hold complete scores."""
    found, remedy = "a file that is only part of a store", "give STORE/scores/ESTIMATOR/SPLIT.h5"
    if "top_rows" in read_image(path, only=()).shapes:
        found = "only the highest and lowest scores of each target (score.top_k)"
        remedy = "in that store, run trak score score.top_k=null score.overwrite=true, or keep both with estimator.name=NAME"
    return Problem(where, found, "the complete scores of a store", remedy)


def _folder(where: str, path: Path) -> Problem:
    """The problem of a folder, which may be a store."""
    layout = Layout(path)
    files = [str(layout.scores(name, split)) for name in layout.estimators() for split in layout.scored_splits(name)]
    remedy = f"give one of: {', '.join(files)}" if files else "give STORE/scores/ESTIMATOR/SPLIT.h5"
    if not files:
        remedy += f"; if another program wrote it, run trak import --file {shlex.quote(str(path))} --name NAME"
    return Problem(where, "a folder", "a file of scores", remedy)


def _export(path: Path) -> str:
    copy = path.with_suffix(".npy").name
    code = f'import h5py, numpy; numpy.save({json.dumps(copy)}, h5py.File({json.dumps(str(path))})["scores"])'
    return (
        f"score the same data sets in both stores; if they hold the same samples in different forms, give {copy}, made by:"
        f" python -c {shlex.quote(code)}"
    )
