"""Systems with weights that change: against direct solutions."""

import numpy as np
import pytest

from trak_cli.attribution.linalg.weighted_systems import WeightedSystems


def _rows(m, k, seed=0):
    """Rows with directions of decreasing length."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal((m, k)) * np.logspace(0, -3, k), generator


def _direct(rows, weights, right):
    return np.linalg.solve(np.eye(rows.shape[1]) + (rows.T * weights) @ rows, right)


def _assert_solved(rows, weights, right, found):
    """The error in the norm of the system is a few times 1e-9 at most."""
    expected = _direct(rows, weights, right)
    error = found - expected
    size = expected @ right
    assert error @ error + weights @ (rows @ error) ** 2 <= 1e-16 * size


@pytest.mark.parametrize(("m", "k"), [(40, 7), (300, 259), (411, 300), (301, 520)])
def test_systems_of_growing_weights_are_solved(m, k):
    rows, generator = _rows(m, k)
    systems = WeightedSystems(rows)
    weights = generator.random(m)
    for step in range(20):
        weights = weights * generator.uniform(1.0, 1.3, m) * (1.0 if step % 10 else 3.0)
        right = rows.T @ generator.standard_normal(m)
        _assert_solved(rows, weights, right, systems.solve(weights, right))


def test_a_system_that_has_nothing_to_do_with_the_last_one_is_solved():
    rows, generator = _rows(500, 320)
    systems = WeightedSystems(rows)
    for scale in (1.0, 1e9, 1e-9, 1e4, 0.0):
        weights, right = scale * generator.random(500) ** 8, generator.standard_normal(320)
        _assert_solved(rows, weights, right, systems.solve(weights, right))


def test_a_right_side_of_zeros_gives_zeros():
    rows, _ = _rows(400, 300)
    np.testing.assert_array_equal(WeightedSystems(rows).solve(np.ones(400), np.zeros(300)), np.zeros(300))
