"""Mean changes without the highest scores: the mean over targets, its interval, and the comparison with random removals."""

from __future__ import annotations

import numpy as np
import pytest

from trak_cli.attribution.lds.bootstrap import Bootstrap
from trak_cli.attribution.lds.removal import RANDOM, mean_changes

SETTINGS = Bootstrap(400, seed=3)


def drawn(targets: int, subsets: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Changes of the loss by two sets of scores, and of loss and output by random removals."""
    generator = np.random.default_rng(seed)
    random = generator.normal(0, 0.1, (2, subsets, targets))
    return generator.normal(1, 0.3, targets), generator.normal(0.4, 0.3, targets), (random[0], random[1])


@pytest.mark.parametrize("targets", [2, 9, 40])
def test_the_change_is_the_mean_over_targets_within_its_interval(targets: int) -> None:
    first, second, random = drawn(targets)
    losses, outputs = {"a": first, "b": second}, {"a": -2 * first, "b": -second}
    a, b, chance = mean_changes(losses, outputs, random, SETTINGS)
    assert (a.name, b.name, chance.name) == ("a", "b", RANDOM)
    assert a.loss.estimate == pytest.approx(first.mean())
    assert a.output.estimate == pytest.approx(-2 * first.mean())
    assert a.loss.low <= a.loss.estimate <= a.loss.high
    assert chance.loss.estimate == pytest.approx(random[0].mean())
    assert a.difference is None
    assert b.difference is not None
    assert b.difference.interval.estimate == pytest.approx((second - first).mean())
    assert a.per_target == first.tolist()


def test_intervals_have_the_width_of_the_standard_error_of_the_mean() -> None:
    first, second, random = drawn(400)
    a, _, _ = mean_changes({"a": first, "b": second}, {"a": first, "b": second}, random, Bootstrap(4000))
    expected = 2 * 1.96 * first.std() / np.sqrt(len(first))
    assert a.loss.high - a.loss.low == pytest.approx(expected, rel=0.1)


def test_a_constant_difference_has_an_interval_without_width() -> None:
    first, _, random = drawn(30)
    losses = {"a": first, "b": first + 0.25}
    _, b, _ = mean_changes(losses, losses, random, SETTINGS)
    assert b.difference is not None
    found = b.difference.interval
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))
    assert b.difference.p_value.is_upper_bound


def test_the_share_of_random_removals_that_raise_the_loss_as_much() -> None:
    _, _, random = drawn(20)
    for changes, share in ((np.full(20, 9.0), 0.0), (np.full(20, -9.0), 1.0), (np.median(random[0], axis=0), 4 / 7)):
        first, _ = mean_changes({"a": changes}, {"a": changes}, random, SETTINGS)
        assert first.above == pytest.approx(share)


def test_a_single_target_has_no_interval() -> None:
    first, _, random = drawn(1)
    a, chance = mean_changes({"a": first}, {"a": first}, random, SETTINGS)
    assert np.isnan([a.loss.low, a.output.high, chance.loss.low]).all()
    assert chance.difference is not None
    assert str(chance.difference.p_value) == ""
