"""Histograms of scores whose range is not known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from trak_cli.attribution.histogram import Histograms, pooled


@pytest.mark.parametrize("seed", range(3))
def test_the_counts_are_those_of_numpy_for_any_order_of_the_blocks(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = (generator.normal(size=(5, 997)) * 10.0 ** generator.integers(-6, 6, size=(5, 1))).astype(np.float32)
    blocks = np.array_split(np.arange(997), 13)
    found = Histograms(5, bins=32)
    for block in generator.permutation(13):
        for places in np.array_split(generator.permutation(5), 2):
            found.update(places, scores[np.ix_(places, blocks[block])])
    for row, (counts, reach) in enumerate(zip(found.counts, found.reaches, strict=True)):
        assert reach / 2 <= np.abs(scores[row]).max() < reach
        expected, _ = np.histogram(scores[row].astype(np.float64), bins=32, range=(-reach, reach))
        assert (counts == expected).all()


def test_scores_of_zero_are_counted_just_above_the_middle() -> None:
    found = Histograms(1, bins=4)
    found.update(np.array([0]), np.zeros((1, 6), np.float32))
    assert found.counts.tolist() == [[0, 0, 6, 0]]
    found.update(np.array([0]), np.array([[-1.5]], np.float32))
    assert found.counts.tolist() == [[1, 0, 6, 0]]
    assert found.reaches == [2.0]


def test_an_odd_number_of_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        Histograms(1, bins=5)


def test_pooled_histograms_are_one_of_all_scores_in_standard_deviations_of_their_targets() -> None:
    generator = np.random.default_rng(0)
    scores = (generator.standard_t(3, size=(3, 2000)) * [[1e-9], [1.0], [1e5]] + [[0.0], [0.5], [0.0]]).astype(np.float32)
    found = Histograms(3, bins=2**14)
    found.update(np.arange(3), scores)
    centres, shares = pooled(found.counts, found.reaches, bins=9, span=3.0)
    standard = scores / scores.std(axis=1, dtype=np.float64, keepdims=True)
    assert np.abs(standard).max() > 3
    expected, edges = np.histogram(np.clip(standard, -3, 3), bins=9, range=(-3, 3))
    np.testing.assert_allclose(centres, (edges[1:] + edges[:-1]) / 2, atol=1e-12)
    np.testing.assert_allclose(shares, expected / scores.size, atol=1e-3)
