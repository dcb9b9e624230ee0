"""The training rows with the highest and lowest scores of one target, as people see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from trak_cli.attribution.topk import TopBottom
from trak_cli.report.payload import Prediction
from trak_cli.results.samples import Samples


@dataclass(frozen=True)
class Neighbour:
    """A training row, its score, the dataset's description of it (may be empty), and the model's prediction, if it is known."""

    row: int
    score: float
    description: str
    predicted: Prediction | None = None


@dataclass(frozen=True)
class TargetTop:
    """The rows with the largest positive (helpful) and negative (harmful) scores of one target, largest effect first.

    ``row`` is None for a group (scores of the mean of f over several targets), and for a target that is in no split.
    """

    row: int | None
    description: str
    helpful: list[Neighbour]
    harmful: list[Neighbour]
    predicted: Prediction | None = None


def target_top(row: int | None, description: str, ends: TopBottom, describe: Callable[[int], str]) -> TargetTop:
    """One target with its rows.

    Args:
        ends: the scores of this target alone: (1, k) of each end.
        describe: training row -> its description.
    """
    helpful, harmful = ([Neighbour(row, score, describe(row)) for row, score in pairs] for pairs in helpful_and_harmful(ends))
    return TargetTop(row, description, helpful, harmful)


def with_predictions(target: TargetTop, training: Mapping[int, Prediction]) -> TargetTop:
    """The target with the predictions for its training rows, as far as they are known, by row."""
    helpful, harmful = (
        [replace(one, predicted=training.get(one.row)) for one in side] for side in (target.helpful, target.harmful)
    )
    return replace(target, helpful=helpful, harmful=harmful)


def describer(samples: Samples | None) -> Callable[[int], str]:
    """A function from row to description; empty without samples."""
    return (lambda _: "") if samples is None else samples.words


def helpful_and_harmful(ends: TopBottom) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """The rows with positive scores and those with negative ones, with these scores, of one target: (1, k) of each end."""
    top, bottom = (list(zip(end.indices[0].tolist(), end.values[0].tolist(), strict=True)) for end in (ends.top, ends.bottom))
    return [(row, score) for row, score in top if score > 0], [(row, score) for row, score in bottom if score < 0]
