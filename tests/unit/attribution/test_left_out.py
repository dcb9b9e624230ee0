"""The residual of a sample that a regression leaves out, against a regression that is solved again without it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.attribution.estimator.rows import unit_rows
from trak_cli.attribution.left_out import RIDGE, LeftOut

Array = np.ndarray


def solved_without(i: int, features: Array, responses: Array) -> float:
    """The residual of row i in a ridge regression on all other rows."""
    rows = unit_rows(features.astype(np.float64))
    others = np.arange(len(rows)) != i
    system = rows[others].T @ rows[others] + RIDGE * np.eye(rows.shape[1])
    return float(responses[i] - rows[i] @ np.linalg.solve(system, rows[others].T @ responses[others]))


def streamed(features: Array, q: Array, f: Array, block: int) -> tuple[Array, LeftOut]:
    regression = LeftOut(features.shape[1])
    blocks = [slice(start, start + block) for start in range(0, len(features), block)]
    for rows in blocks:
        regression.add(features[rows], q[rows], f[rows])
    regression.solve()
    return np.concatenate([regression.residuals(features[rows], q[rows], f[rows]) for rows in blocks]), regression


@settings(max_examples=12, deadline=None)
@given(rows=st.integers(1, 40), dim=st.integers(1, 30), block=st.integers(1, 17), seed=st.integers(0, 99))
def test_it_is_the_residual_of_a_regression_solved_without_the_sample(rows: int, dim: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, f = rng.standard_normal((rows, dim)).astype(np.float32), rng.standard_normal(rows).astype(np.float32)
    found, _ = streamed(features, rng.random(rows).astype(np.float32), f, block)
    assert found == pytest.approx([solved_without(i, features, np.ones(rows)) for i in range(rows)], rel=1e-6, abs=1e-9)


def test_labels_that_are_numbers_are_predicted_and_the_magnitude_of_the_residual_counts() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((25, 7)).astype(np.float32)
    labels, f = rng.normal(3, 2, 25), rng.standard_normal(25)
    found, regression = streamed(features, labels - f, f, 10)
    assert not regression.probabilities
    expected = [abs(solved_without(i, features, labels - labels.mean())) for i in range(25)]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_row_of_zeros_has_the_residual_of_a_sample_that_nothing_supports() -> None:
    features = np.eye(4, 3, dtype=np.float32)
    found, _ = streamed(features, np.full(4, 0.5, np.float32), np.zeros(4, np.float32), 4)
    assert found == pytest.approx(np.ones(4))


def test_a_wrong_label_that_opposes_similar_samples_is_the_most_suspicious() -> None:
    rng = np.random.default_rng(1)
    features = (np.repeat(rng.standard_normal((3, 12)), 10, axis=0) + 0.3 * rng.standard_normal((30, 12))).astype(np.float32)
    features[17] *= -1  # the gradient of the log-odds of the other class
    found, _ = streamed(features, np.full(30, 1e-4, np.float32), np.full(30, 9, np.float32), 8)
    assert int(found.argmax()) == 17
