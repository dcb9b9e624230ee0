"""Scores from outside the store: the score file of another trak store, or a file of another tool."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trak_cli.attribution.lds.lds import streamed_predictions
from trak_cli.errors import InputError, Problem
from trak_cli.stages.evaluation.user_arrays import read_array_file
from trak_cli.store.container import read_image
from trak_cli.store.header import VIRTUAL, is_store_file, read_header
from trak_cli.store.layout import Layout
from trak_cli.store.shards import inspect_features
from trak_cli.store.virtual import WholeScores, open_scores, score_blocks
from trak_cli.types import TRAIN, BoolArray, Float32, Float64, Reporter, Rows

_Blocks = Iterator[tuple[Rows, Rows, Float32]]


@dataclass(frozen=True)
class ForeignScores:
    """Reads the files of ``lds.scores`` and checks that they score the targets and training rows of this store.

    Attributes:
        layout: this store.
        split: the evaluated target split.
        targets: how many targets it has.
        masks: (subsets, training rows) bool of the ground truth.
    """

    layout: Layout
    split: str
    targets: int
    masks: BoolArray
    reporter: Reporter

    def read(self, name: str, path: Path) -> tuple[Float64, int | None]:
        """Sum up the scores of one file over every subset: the score file of a trak store, or a file of another tool.

        The latter is a .npy file, or holds the array ``scores`` (.npz, .safetensors, .pt or HDF5).

        Returns:
            (targets, subsets) float64 sums of scores, and how many checkpoints they average (None for another tool).

        Raises:
            InputError: the file cannot be read, or its scores have a wrong shape, a wrong dtype or values that are not finite;
                or they are of other samples.
            StoreError: a file of the other store is missing or damaged, or has changed since the scores were assembled.
        """
        where = f"lds.scores.{name} ({path})"
        if path.is_dir():
            raise InputError(_folder(where, path))
        blocks: _Blocks
        if not (path.is_file() and is_store_file(path)):
            scores = read_array_file(path, ("scores",))["scores"]
            self._check_shape(where, scores.shape, scores.dtype)
            blocks, checkpoints = iter([(Rows(0, self.targets), Rows(0, scores.shape[1]), scores)]), None
        elif read_header(path).kind != VIRTUAL:
            raise InputError(_incomplete(where, path))
        else:
            whole = open_scores(path.resolve())
            self._check_shape(where, whole.shape, np.dtype(np.float32))
            _require_inside(where, whole)
            self._compare_samples(where, whole.path)
            averaged = whole.fingerprint.get("checkpoints")
            blocks, checkpoints = score_blocks(whole), len(averaged) if isinstance(averaged, list) else None
        return streamed_predictions(_finite(where, blocks), self.masks, self.targets), checkpoints

    def _check_shape(self, where: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        targets, rows = self.targets, self.masks.shape[1]
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
                found = f"{int(changed.sum())} samples that differ from those of {self.layout.root}, the first in row"
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
        rows = {TRAIN: self.masks.shape[1], self.split: self.targets}
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


def _finite(where: str, blocks: _Blocks) -> _Blocks:
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
    return Problem(where, "a folder", "a file of scores", remedy)


def _export(path: Path) -> str:
    copy = path.with_suffix(".npy").name
    code = f'import h5py, numpy; numpy.save({json.dumps(copy)}, h5py.File({json.dumps(str(path))})["scores"])'
    return (
        f"score the same data sets in both stores; if they hold the same samples in different forms, give {copy}, made by:"
        f" python -c {shlex.quote(code)}"
    )
