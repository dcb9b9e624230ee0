"""``trak select``: the training samples that help, or harm, a group of targets most.

The samples with the highest scores for a group of validation targets are what LESS trains on (Xia et al. 2024,
arXiv 2402.04333); there, the group score is the maximum over subtasks of the mean over the targets of a subtask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.attribution.selection import GROUPS, GroupScores, choose, choose_balanced, extreme_scores
from trak_cli.attribution.topk import Extremes
from trak_cli.config.load import Loaded
from trak_cli.config.wording import unknown
from trak_cli.errors import ConfigError, Problem
from trak_cli.plurals import counted
from trak_cli.results.chosen_samples import check_selection, write_selection
from trak_cli.results.samples import Samples, open_samples
from trak_cli.results.scored import Scored, open_scored
from trak_cli.types import TRAIN, Float64, Reporter


@dataclass(frozen=True)
class Choice:
    """Which targets, and how many training samples.

    Attributes:
        splits: target splits; with several, a sample counts by its best split. None: the only one that has scores.
        targets: rows of the split; none: all that have scores.
        group: a name in :data:`~trak_cli.attribution.selection.GROUPS`: how the scores of the targets of a split become one.
        k: how many training samples; None: by ``share``.
        share: the share of the training set.
        bottom: the most harmful samples instead of the most helpful ones.
        balance: as equal numbers of every label as possible.
    """

    splits: Sequence[str] = ()
    targets: Sequence[int] = ()
    group: str = "mean"
    k: int | None = None
    share: float = 0.05
    bottom: bool = False
    balance: bool = False


@dataclass(frozen=True)
class Selected:
    """A training sample with its group score."""

    row: int
    score: float
    description: str


@dataclass(frozen=True)
class SelectSummary:
    """The chosen training samples.

    Attributes:
        targets: number of targets in each split.
        rows: the chosen training rows, best first.
        scores: their group scores.
        training: size of the training set.
        mean_score: over the chosen samples.
        mean_of_all: over the training set; None if only the highest and lowest scores are stored.
        expected_overlap: how many of the chosen samples a random choice of the same size has on average.
        shown: the first samples with their descriptions.
        out: what was written.
        warnings: about the scores, by the command that wrote them.
    """

    store: Path
    estimator: str
    targets: dict[str, int]
    group: str
    bottom: bool
    training: int
    rows: list[int]
    scores: list[float]
    mean_score: float
    mean_of_all: float | None
    expected_overlap: float
    shown: list[Selected]
    out: Path | None
    warnings: list[str]


#: Samples that are described in the summary.
SHOWN = 10


def select(loaded: Loaded, reporter: Reporter, *, choice: Choice, out: Path | None = None) -> SelectSummary:
    """Choose training samples by stored scores, each file of which is read once.

    Args:
        out: a .txt file (row numbers), a .jsonl file (records with row and score) or a folder for ``datasets``.

    Raises:
        ConfigError: options that do not fit the scores, or a file that cannot be written.
        StoreError: there are no scores that can be combined like this, or they are damaged.
        InputError: the data set cannot describe a row.
    """
    _check(choice)
    samples = open_samples(loaded.config, TRAIN)
    if out is not None:
        check_selection(out, samples)
    opened = [open_scored(loaded, split) for split in dict.fromkeys(choice.splits)] or [open_scored(loaded, None)]
    training = opened[0].rows
    count = choice.k if choice.k is not None else max(1, round(choice.share * training))
    if count > training:
        raise ConfigError(Problem("-k", str(count), f"at most {training}, the size of the training set", f"give -k {training}"))
    groups = []
    with reporter.meter("scores", sum(one.count for one in opened) * training, "scores") as meter:
        for scored in opened:
            groups.append(_group_scores(scored, choice, count))
            meter.advance(scored.count * training)
    scores = (np.min if choice.bottom else np.max)(np.stack(groups), axis=0)
    if choice.balance:
        chosen = choose_balanced(scores, _labels(samples, training), count, choice.bottom)
    else:
        chosen = choose(scores, count, choice.bottom)
    rows, values = chosen.tolist(), scores[chosen].tolist()
    if out is not None:
        write_selection(out, rows, values, samples)
    shown = [Selected(row, value, samples.words(row) if samples else "") for row, value in zip(rows, values, strict=True)][
        :SHOWN
    ]
    return SelectSummary(
        store=opened[0].layout.root,
        estimator=opened[0].estimator,
        targets={one.split: len(choice.targets or one.group or one.target_rows) for one in opened},
        group=choice.group,
        bottom=choice.bottom,
        training=training,
        rows=rows,
        scores=values,
        mean_score=float(np.mean(values)),
        mean_of_all=float(scores.mean()) if np.isfinite(scores).all() else None,
        expected_overlap=count * count / training,
        shown=shown,
        out=out,
        warnings=[warning for one in opened for warning in one.warnings],
    )


def _check(choice: Choice) -> None:
    problems = []
    if choice.group not in GROUPS:
        problems.append(unknown("--group", choice.group, GROUPS))
    if choice.k is None and not 0 < choice.share <= 1:
        problems.append(Problem("--share", f"{choice.share:g}", "above 0 and at most 1", "give for example --share 0.05"))
    if choice.targets and len(choice.splits) > 1:
        found = f"with the splits {', '.join(choice.splits)}"
        problems.append(Problem("--target", found, "one split whose rows they are", "leave out --target, or name one split"))
    ConfigError.raise_for(problems)


def _group_scores(scored: Scored, choice: Choice, count: int) -> Float64:
    """One score for each training sample, (n,) float64."""
    group = scored.group
    if group is not None and choice.group == "max":
        found, expected = "max", f"mean or sum: {scored.path} has the scores of the mean over {counted(len(group), 'target')}"
        raise ConfigError(Problem("--group", found, expected, "give --group mean"))
    positions = scored.positions(choice.targets) if choice.targets else list(range(scored.count))
    if not scored.dense and (choice.group == "max" or len(positions) == 1):
        scores = _of_extremes(scored, choice, positions, count)
    else:
        wanted = np.zeros(scored.count, bool)
        wanted[positions] = True
        total = GroupScores(choice.group, scored.rows, choice.bottom)
        for part, rows, block in scored.pieces():
            some = wanted[part.start : part.stop]
            total.add(block if some.all() else block[some], rows.start)
        scores = total.result(int(wanted.sum()))
    return scores * len(group) if group is not None and choice.group == "sum" else scores


def _of_extremes(scored: Scored, choice: Choice, positions: Sequence[int], count: int) -> Float64:
    """From the highest or lowest scores of each target: exact for as many samples as are kept of each."""
    kept = scored.kept()
    available = kept.top.indices.shape[1]
    if available < scored.rows and (count > available or choice.balance):
        found = counted(count, "sample") + (" balanced by label" if choice.balance else "")
        expected = f"at most {available} without --balance, as many as {scored.path} keeps for each target"
        remedy = f"give -k {available}, or score with score.top_k=null under another name (estimator.name=NAME)"
        raise ConfigError(Problem("-k", found, expected, remedy))
    end = kept.bottom if choice.bottom else kept.top
    return extreme_scores(Extremes(end.indices[positions], end.values[positions]), scored.rows, choice.bottom)


def _labels(samples: Samples | None, rows: int) -> list[object]:
    """The labels of all training samples.

    Raises:
        ConfigError: the data set gives none, or numbers that are no classes.
    """
    labels: list[object] = [] if samples is None else [samples.label(row) for row in range(rows)]
    strange = [
        label for label in labels if not isinstance(label, str | int) and not (isinstance(label, float) and label.is_integer())
    ]
    if not labels or strange:
        found = "no dataset.train" if samples is None else f"the label {strange[0]!r}"
        expected = "a text or a whole number as label of every training sample"
        raise ConfigError(Problem("--balance", found, expected, "leave out --balance, or give the data set labels"))
    return labels
