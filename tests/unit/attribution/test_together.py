"""A group chosen together: against an inverse written out at every step, and against ridge regression without the group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.attribution import Candidates, choose_group


def candidates(A: np.ndarray, X: np.ndarray, U: np.ndarray, t: np.ndarray) -> Candidates:
    inverse = np.linalg.inv(A)
    return Candidates(t @ inverse @ X.T, t @ inverse @ U.T, U @ inverse @ X.T, U @ inverse @ U.T)


def written_out(A: list[np.ndarray], U: np.ndarray, X: np.ndarray, t: np.ndarray, group: list[int]) -> np.ndarray:
    """The mean kernel of all candidates without the group."""
    left = (np.linalg.inv(one - u[group].T @ u[group]) for one, u in zip(A, U, strict=True))
    return np.mean([target[0] @ inverse @ x.T for target, inverse, x in zip(t, left, X, strict=True)], axis=0)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 9), k=st.integers(1, 6), checkpoints=st.integers(1, 3))
def test_every_step_takes_the_highest_score_under_what_is_left(seed: int, n: int, k: int, checkpoints: int) -> None:
    draw = np.random.default_rng(seed)
    X, U, t = (draw.normal(size=(checkpoints, rows, k)) for rows in (n, n, 1))
    A = [one.T @ one + 0.3 * np.eye(k) for one in U]
    front = draw.uniform(0.1, 1, n)
    size = n - 1
    group = choose_group([candidates(A[m], X[m], U[m], t[m, 0]) for m in range(checkpoints)], front, size)
    assert len(set(group.chosen.tolist())) == size
    for step, best in enumerate(group.chosen):
        before = group.chosen[:step].tolist()
        scores = front * written_out(A, U, X, t, before)
        scores[before] = -np.inf
        assert scores[best] == pytest.approx(scores.max(), rel=1e-6, abs=1e-9)
        assert group.scores[step] == pytest.approx(scores[best], rel=1e-6, abs=1e-9)
    every = group.chosen.tolist()
    effect = (front * written_out(A, U, X, t, every))[every].sum()
    assert group.effect == pytest.approx(effect, rel=1e-6, abs=1e-8)


def test_the_effect_is_that_of_ridge_regression_without_the_group() -> None:
    draw = np.random.default_rng(0)
    X, y, t = draw.normal(size=(40, 5)), draw.normal(size=40), draw.normal(size=5)

    def fitted(rows: list[int]) -> np.ndarray:
        return np.linalg.solve(X[rows].T @ X[rows] + 2 * np.eye(5), X[rows].T @ y[rows])

    whole = list(range(40))
    residual = y - X @ fitted(whole)
    group = choose_group([candidates(X.T @ X + 2 * np.eye(5), X, X, t)], residual, 7)
    rest = [row for row in whole if row not in group.chosen]
    assert group.effect == pytest.approx(t @ fitted(whole) - t @ fitted(rest))


def test_copies_of_one_sample_are_found_that_no_single_score_tells() -> None:
    """Ten copies say what the target asks; three other samples say a little of it each, and nobody says it beside them."""
    copies = np.tile([1.0, 0, 0, 0], (10, 1))
    others = np.array([[0.25, 1, 0, 0], [0.25, 0, 1, 0], [0.25, 0, 0, 1]])
    X, t = np.concatenate([copies, others]), np.array([1.0, 0, 0, 0])
    A = X.T @ X + 0.1 * np.eye(4)
    group = choose_group([candidates(A, X, X, t)], np.ones(13), 10)
    single = candidates(A, X, X, t).score
    assert set(group.chosen.tolist()) == set(range(10))
    assert group.effect > 3 * single[group.chosen].sum()


def test_a_front_of_each_checkpoint_counts_for_it_alone() -> None:
    draw = np.random.default_rng(1)
    X, t = draw.normal(size=(2, 6, 3)), draw.normal(size=(2, 3))
    both = [candidates(one.T @ one + np.eye(3), one, one, target) for one, target in zip(X, t, strict=True)]
    front = np.stack([np.ones(6), np.zeros(6)])
    alone, mixed = choose_group(both[:1], np.ones(6), 3), choose_group(both, front, 3)
    assert mixed.chosen.tolist() == alone.chosen.tolist()
    assert mixed.effect == pytest.approx(alone.effect / 2)
