"""The bisection for the smallest removal that flips a prediction, against trying every number."""

from __future__ import annotations

import math

import pytest

from trak_cli.attribution.metrics.flip_search import PRECISION, smallest_flip


def searched(most: int, smallest: int) -> tuple[int | None, list[int]]:
    """What is found if every number from ``smallest`` on flips, and the numbers that were tried."""
    tried: list[int] = []

    def flips(count: int) -> bool:
        tried.append(count)
        return count >= smallest

    return smallest_flip(most, flips), tried


@pytest.mark.parametrize("most", [1, 2, 3, 7, 40, 333])
def test_the_smallest_number_is_found_up_to_a_tenth(most: int) -> None:
    for smallest in range(1, most + 1):
        found, tried = searched(most, smallest)
        assert found is not None
        assert smallest <= found <= max(smallest, math.ceil(PRECISION * (smallest - 1)))
        assert len(tried) == len(set(tried))
        assert all(1 <= count <= most for count in tried)
        assert len(tried) <= 3 + math.log2(1 + math.log(most) / math.log(PRECISION))


def test_small_numbers_are_exact() -> None:
    assert [searched(1000, smallest)[0] for smallest in range(1, 11)] == list(range(1, 11))


def test_if_the_largest_number_does_not_flip_nothing_else_is_tried() -> None:
    assert searched(50, 51) == (None, [50])
