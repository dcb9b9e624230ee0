"""Replaces a target split: removes only what was computed from samples that the data set no longer has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote

from trak_cli.errors import Problem, StoreError
from trak_cli.plurals import counted
from trak_cli.stages.index.split_sizes import check_rows
from trak_cli.stages.inputs.sample_identity import sample_ids
from trak_cli.stages.inputs.split import Split
from trak_cli.store.atomic_write import remove, remove_empty_folders
from trak_cli.store.container import read_image
from trak_cli.store.failures import MissingError
from trak_cli.store.header import read_header
from trak_cli.store.layout import Layout
from trak_cli.store.shards import inspect_features
from trak_cli.types import TRAIN, Reporter


def replace_splits(layout: Layout, splits: Sequence[Split], reporter: Reporter) -> None:
    """Remove the features of samples that these splits no longer have, under every checkpoint, and all scores of such a split.

    Scores are removed first: they are never there without the features that they belong to. Shards whose samples are all
    unchanged stay, so that a second worker, or a call after an interruption, removes nothing that was computed since.

    Raises:
        StoreError: the ground truth of `trak retrain` in the store belongs to the old samples.
    """
    for split in splits:
        stale = dict(_stale_shards(layout, split))
        if stale:
            _require_no_ground_truth(layout, split.name)
            scored = _remove_scores(layout, split.name)
            for path, digest in stale.items():
                _remove_if(path, digest)
            reporter.log(
                f"dataset.replace: {counted(len(stale), 'shard')} of {split.name} with other samples removed"
                + (f", and its scores by {', '.join(scored)}" if scored else "")
            )
        check_rows(layout, split.name, split.rows)


def offer_replacement(problem: Problem, split: str) -> Problem:
    """The problem of a sample of the split that has changed; for a target split, the remedy names ``dataset.replace``."""
    if split == TRAIN:
        return problem
    option = quote(f"dataset.replace=[{split}]")
    return replace(problem, remedy=f"to replace the split and remove its scores, give {option}; or give it another name")


def _stale_shards(layout: Layout, split: Split) -> Iterator[tuple[Path, str]]:
    """(path, digest) of every stored shard with a sample that the data set does not have at its row."""
    current: Mapping[int, int] | None = None
    for checkpoint in layout.checkpoints():
        for index in layout.shards(checkpoint, split.name):
            path = layout.features(checkpoint, split.name, index)
            stored = inspect_features(path, None, None)
            if stored.rows is None or stored.sample_ids is None:
                continue  # damaged or foreign shards are reported or set aside when they are needed
            current = sample_ids(split.dataset, range(split.rows)) if current is None else current
            if [current.get(row) for row in range(stored.rows.start, stored.rows.stop)] != stored.sample_ids.tolist():
                yield path, read_header(path).digest


def _remove_if(path: Path, digest: str) -> None:
    """Remove a file unless another worker has removed or replaced it meanwhile."""
    with suppress(MissingError):
        if read_header(path).digest == digest:
            remove(path)


def _remove_scores(layout: Layout, split: str) -> list[str]:
    """Remove every score of the split and the LDS reports on them, and return the names of the estimators."""
    estimators = [name for name in layout.estimators() if split in layout.begun_scores(name)]
    for estimator in estimators:
        remove(layout.scores(estimator, split))  # before its parts, to which it refers
        remove(layout.scores_top(estimator, split))
        remove(layout.scores_notes(estimator, split))
        for block in layout.score_blocks(estimator, split):
            for shard in layout.score_shards(estimator, split, block):
                remove(layout.scores_shard(estimator, split, block, shard))
        remove_empty_folders(layout.scores_folder(estimator, split))
    for path in (*layout.refined_files(split), *layout.unrolled_files(split)):
        remove(path)
    for report in (layout.lds_report(split), layout.lds_plot(split), layout.tune_report(split)):
        if report.exists():
            remove(report)
    return estimators


def _require_no_ground_truth(layout: Layout, split: str) -> None:
    runs = (None, *layout.retrained_runs())
    paths = [layout.retrained(subset, run) for run in runs for subset in layout.retrained_subsets(run)[:1]]
    for path in paths:
        if f"outputs_{split}" in read_image(path, only=()).shapes:
            found = f"{split}; {path.parent} has outputs of retrained models on its old samples"
            remedy = "give the new samples another name in dataset.targets, or use another store"
            raise StoreError(Problem("dataset.replace", found, "a split without such outputs", remedy))
