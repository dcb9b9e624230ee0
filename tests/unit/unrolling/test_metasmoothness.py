"""Metasmoothness of trainings whose parameters are known functions of the weights of their samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from trak_cli.unrolling.metasmoothness import metasmoothness


def measured(training: Callable[[float], Tensor], h: float = 0.5) -> float:
    """Along the direction from z = 0, with the parameters in two tensors."""
    parts = [list(training(place * h).split([2, 1])) for place in range(3)]
    return metasmoothness(*parts)


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        (lambda z: torch.tensor([1.0, -2.0, 3.0]) * z, 1.0),  # linear
        (lambda z: torch.tensor([1.0, -2.0, 3.0]) * z**2, 1.0),  # monotonous
        (lambda z: torch.tensor([1.0, -2.0, 3.0]) * (z - z**2), -1.0),  # every parameter returns
        (lambda z: torch.tensor([z, z, 2 * (z - z**2)]), 1 / 3),  # (1 + 1 - 1) / 3 for the changes 0.5, 0.5, 0.5
        (lambda z: torch.tensor([3 * z, min(z, 0.5), 0.0]), 0.75),  # one of the changes 1.5 and 0.5 does not go on
    ],
)
def test_it_is_the_share_of_the_change_that_goes_on(training: Callable[[float], Tensor], expected: float) -> None:
    assert measured(training) == pytest.approx(expected)


def test_unrelated_changes_have_none() -> None:
    generator = torch.Generator().manual_seed(0)
    places = [[torch.randn(20_000, generator=generator)] for _ in range(3)]
    # successive differences of noise overlap in one place: signs differ with probability 2/3, more often for large ones
    assert metasmoothness(*places) < -0.3


def test_a_change_that_moves_nothing_has_no_metasmoothness() -> None:
    assert np.isnan(metasmoothness([torch.ones(3)], [torch.ones(3)], [torch.zeros(3)]))
