"""The metrics beside the LDS, against their definitions written out as loops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from trak_cli.attribution.lds.bootstrap import Bootstrap
from trak_cli.attribution.metrics.brittleness import smallest_flips
from trak_cli.attribution.metrics.classes import same_class_shares
from trak_cli.attribution.metrics.correlations import leave_one_out_correlations, randomization_correlations
from trak_cli.attribution.metrics.detection import detection_auc, inspection_area
from trak_cli.attribution.metrics.means import mean_interval
from trak_cli.attribution.metrics.retrieval import rank_relevant
from trak_cli.types import Float32, Rows

GENERATOR = np.random.default_rng(0)


def drawn(shape: tuple[int, ...], ties: bool) -> Float32:
    """Scores, with many equal ones if ``ties``."""
    values = GENERATOR.standard_normal(shape)
    return (values.round() if ties else values).astype(np.float32)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("rows", "count"), [(2, 1), (17, 3), (61, 60)])
def test_detection_auc_is_the_share_of_pairs_in_the_right_order(rows: int, count: int, ties: bool) -> None:
    suspicion, flagged = drawn((rows,), ties), np.arange(rows) < count
    pairs = [(a > b) + 0.5 * (a == b) for a in suspicion[flagged] for b in suspicion[~flagged]]
    assert detection_auc(suspicion, flagged) == pytest.approx(np.mean(pairs))


def test_inspection_area_of_perfect_suspicion_is_what_its_docstring_says() -> None:
    flagged = np.arange(20) < 4
    assert inspection_area(flagged.astype(float), flagged) == pytest.approx(1 - 4 / 40 - 1 / 160)
    assert inspection_area(-flagged.astype(float), flagged) == pytest.approx(
        sum(2 * k - 1 for k in (1, 2, 3, 4)) / (2 * 4 * 20)
    )


def blocks_of(scores: Float32, targets: int, rows: int) -> Iterator[tuple[Rows, Rows, Float32]]:
    for t in range(0, scores.shape[0], targets):
        for r in reversed(range(0, scores.shape[1], rows)):
            block = scores[t : t + targets, r : r + rows]
            yield Rows(t, t + block.shape[0]), Rows(r, r + block.shape[1]), block


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("block", [(1, 1), (2, 7), (5, 100)])
def test_ranks_of_relevant_rows_do_not_depend_on_blocks(block: tuple[int, int], ties: bool) -> None:
    scores = drawn((5, 23), ties)
    relevant = [np.sort(GENERATOR.permutation(23)[:count]) for count in (1, 2, 5, 22, 23)]
    for target, found in enumerate(rank_relevant(lambda: blocks_of(scores, *block), relevant)):
        order = sorted(range(23), key=lambda row: (-scores[target, row], row))
        ranks = [order.index(row) + 1 for row in relevant[target]]
        assert found.ranks.tolist() == ranks
        assert found.recall(4) == pytest.approx(np.mean([rank <= 4 for rank in ranks]))
        assert found.hit(4) == float(min(ranks) <= 4)
        assert found.reciprocal_rank() == pytest.approx(1 / min(ranks))
        own = scores[target, relevant[target]]
        precisions = [(own >= s).sum() / (scores[target] >= s).sum() for s in own]
        assert found.average_precision() == pytest.approx(np.mean(precisions))


def test_class_shares_count_the_highest_rows_of_the_class() -> None:
    classes, top = np.array([0, 1, 1, 2]), np.array([[1, 2], [0, 3]])
    assert same_class_shares(top, classes, np.array([1, 2])).tolist() == [1.0, 0.5]


def test_correlations_are_those_of_numpy() -> None:
    first, second = drawn((4, 30), False), drawn((4, 30), False)
    ranks = [np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1] for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(randomization_correlations(first, second), ranks)
    pearson = [np.corrcoef(a, -b)[0, 1] for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(leave_one_out_correlations(first, second.T), pearson, rtol=1e-5)


def test_the_smallest_flip_is_infinite_where_nothing_flips() -> None:
    flipped = np.array([[False, False, True], [False, True, False]])
    assert smallest_flips(np.array([10, 20]), flipped).tolist() == [np.inf, 20, 10]


def test_an_interval_of_a_mean_contains_it_and_leaves_out_undefined_targets() -> None:
    values = np.append(GENERATOR.random(50), np.nan)
    interval = mean_interval(values, Bootstrap(resamples=200))
    assert interval.estimate == pytest.approx(np.nanmean(values))
    assert interval.low < interval.estimate < interval.high
    assert interval.high - interval.low == pytest.approx(4 * np.nanstd(values) / np.sqrt(50), rel=0.3)
    assert np.isnan(mean_interval(values[-2:], Bootstrap(resamples=200)).low), "one target has no interval"
