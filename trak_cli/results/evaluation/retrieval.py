"""Planted sources, shortcuts and classes: where the right training samples stand among the scores of a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trak_cli.attribution.metrics.classes import same_class_shares
from trak_cli.attribution.metrics.retrieval import Ranked, rank_relevant
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plurals import counted
from trak_cli.results.evaluation.contract import Evaluated, Metric
from trak_cli.results.evaluation.row_files import encoded, read_classes, read_flags, read_relevant
from trak_cli.results.samples import Samples, open_samples
from trak_cli.results.scored import Scored
from trak_cli.types import TRAIN, Float32, IntArray, Rows


def planted_sources(evaluated: Evaluated, path: Path) -> list[Metric]:
    """recall@k, hit@k and the MRR of the sources of every target that has some."""
    scored, k = evaluated.scored, evaluated.inputs.k
    sources = read_relevant("--planted", path, scored.targets, scored.rows)
    rows = [row for row in scored.target_rows if row in sources]
    if not rows:
        found = f"sources of targets {', '.join(map(str, list(sources)[:5]))}"
        raise InputError(Problem(f"--planted {path}", found, "sources of targets that were scored", "score these targets"))
    ranked = _ranked(evaluated, rows, [sources[row] for row in rows])
    return [
        evaluated.mean(f"recall@{k}", [one.recall(k) for one in ranked], rows),
        evaluated.mean(f"hit@{k}", [one.hit(k) for one in ranked], rows),
        evaluated.mean("MRR", [one.reciprocal_rank() for one in ranked], rows),
    ]


def shortcut_detection(evaluated: Evaluated, path: Path | Sequence[int]) -> list[Metric]:
    """The mean average precision of the training samples with a shortcut, over the targets that fall for it."""
    scored, chosen = evaluated.scored, evaluated.inputs.shortcut_targets
    flags = read_flags("--shortcut", path, scored.rows)
    rows = list(scored.target_rows)
    if chosen is not None:
        falling = read_flags("--shortcut-targets", chosen, scored.targets)
        rows = [row for row in rows if falling[row]]
        if not rows:
            found = "targets that were not scored"
            raise InputError(Problem(f"--shortcut-targets {chosen}", found, "some that were", "score these targets"))
    ranked = _ranked(evaluated, rows, [np.flatnonzero(flags)] * len(rows))
    return [evaluated.mean("shortcut detection (AUPRC)", [one.average_precision() for one in ranked], rows)]


def class_detection(evaluated: Evaluated) -> list[Metric]:
    """The share of the highest scores that are of the class of the target, by the labels of the samples."""
    scored = evaluated.scored
    labels = []
    for split, count in ((TRAIN, scored.rows), (scored.split, scored.targets)):
        samples = open_samples(evaluated.loaded.config, split)
        labels.append(_labels(samples, split, count))
    return [_class_metric(evaluated, "class detection", *encoded(*labels))]


def subclass_detection(evaluated: Evaluated, path: Path) -> list[Metric]:
    """The share of the highest scores that are of the subclass of the target."""
    classes = read_classes("--subclasses", path, evaluated.scored.targets, evaluated.scored.rows)
    return [_class_metric(evaluated, "subclass detection", *classes)]


def _class_metric(evaluated: Evaluated, name: str, classes: IntArray, of_targets: IntArray) -> Metric:
    scored, rows = evaluated.scored, list(evaluated.scored.target_rows)
    count = min(evaluated.inputs.top, scored.rows)
    shares = same_class_shares(_top_rows(scored, count), classes, of_targets[rows])
    return evaluated.mean(f"{name} (top {count})", shares, rows)


def _labels(samples: Samples | None, split: str, count: int) -> list[str | int | float]:
    where = f"--classes: split {split}"
    remedy = "give the classes as a file with --subclasses FILE.npz (arrays train and targets)"
    if samples is None:
        raise ConfigError(Problem(where, "no data set in the configuration", "a data set with labels", remedy))
    if len(samples) < count:
        raise InputError(Problem(where, counted(len(samples), "sample"), f"the {count} that were scored", remedy))
    labels = []
    for row in range(count):
        label = samples.label(row)
        if label is None:
            raise InputError(Problem(where, f"sample {row} without a label", "samples with labels", remedy))
        labels.append(label)
    return labels


def _ranked(evaluated: Evaluated, rows: Sequence[int], relevant: Sequence[IntArray]) -> list[Ranked]:
    """The relevant training rows among the scores of the targets in these rows of the split."""
    places = evaluated.scored.positions(rows)
    index = {place: number for number, place in enumerate(places)}

    def blocks() -> Iterator[tuple[Rows, Rows, Float32]]:
        for targets, training, block in evaluated.scored.pieces():
            for place in targets:
                if place in index:
                    number = index[place]
                    yield Rows(number, number + 1), training, block[place - targets.start][None]

    return rank_relevant(blocks, relevant)


def _top_rows(scored: Scored, count: int) -> IntArray:
    """The training rows of the highest scores of every target, (t, count)."""
    return np.concatenate([ends.top.indices for ends in scored.extremes(range(scored.count), count)])
