"""Group scores and the choice by them, against plain NumPy on whole matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.attribution.selection import GROUPS, GroupScores, choose, choose_balanced, extreme_scores
from trak_cli.attribution.topk import TopK

WHOLE = {"mean": lambda s: s.mean(0), "sum": lambda s: s.sum(0), "max": lambda s: s.max(0)}


@pytest.mark.parametrize("group", GROUPS)
@settings(max_examples=10, deadline=None)
@given(targets=st.integers(1, 9), rows=st.integers(1, 30), width=st.integers(1, 12), seed=st.integers(0, 99))
def test_blocks_in_any_order_give_the_score_of_the_whole(group: str, targets: int, rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((targets, rows)).astype(np.float32)
    total, lowest = GroupScores(group, rows), GroupScores(group, rows, lowest=True)
    pieces = [(t, r) for t in range(0, targets, 4) for r in range(0, rows, width)]
    for t, r in rng.permutation(pieces):
        total.add(scores[t : t + 4, r : r + width], r)
        lowest.add(scores[t : t + 4, r : r + width], r)
    assert total.result(targets) == pytest.approx(WHOLE[group](scores.astype(np.float64)), rel=1e-6, abs=1e-9)
    if group == "max":
        assert lowest.result(targets) == pytest.approx(scores.min(0))


@pytest.mark.parametrize("lowest", [False, True])
def test_the_extremes_of_each_target_give_the_same_choice_as_all_scores(lowest: bool) -> None:
    scores = np.random.default_rng(3).standard_normal((7, 50)).astype(np.float32)
    best = TopK(7, 6)
    best.update(scores, 0)
    kept = best.result()
    found = extreme_scores(kept.bottom if lowest else kept.top, 50, lowest)
    whole = scores.min(0) if lowest else scores.max(0)
    assert choose(found, 6, lowest).tolist() == choose(whole.astype(np.float64), 6, lowest).tolist()


def test_equal_scores_are_taken_in_the_order_of_the_rows() -> None:
    assert choose(np.array([1.0, 2.0, 2.0, 0.0]), 3).tolist() == [1, 2, 0]
    assert choose(np.array([1.0, 2.0, 2.0, 0.0]), 3, lowest=True).tolist() == [3, 0, 1]


def test_a_balanced_choice_has_equal_numbers_of_each_label_until_one_is_used_up() -> None:
    scores = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 1.0, 0.5, -3.0])
    labels = ["a", "a", "a", "a", "a", "b", "b", "c"]
    assert choose_balanced(scores, labels, 4).tolist() == [0, 1, 5, 7]
    assert choose_balanced(scores, labels, 7).tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert choose_balanced(scores, labels, 3, lowest=True).tolist() == [7, 6, 4]
