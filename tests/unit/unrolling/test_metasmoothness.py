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
        (lambda z: torch.tensor([1.0, -2.0, 3.0]) * (z - 0.75 * z**2), -1.0),  # every parameter turns back
        (lambda z: torch.tensor([z, z, 2 * (z - 0.75 * z**2)]), 0.6),  # (1 + 1 - 0.5) / 2.5 for the changes 1, 1, 0.5
        (lambda z: torch.tensor([3 * z, min(z, 0.5), 0.0]), 6 / 7),  # one of the changes 3 and 0.5 stops on the way
    ],
)
def test_it_is_the_agreement_of_signs_weighted_by_how_far_parameters_move(
    training: Callable[[float], Tensor], expected: float
) -> None:
    assert measured(training) == pytest.approx(expected)


def test_unrelated_results_have_none() -> None:
    generator = torch.Generator().manual_seed(0)
    places = [[torch.randn(20_000, generator=generator)] for _ in range(3)]
    assert abs(metasmoothness(*places)) < 0.02  # one of three signs agrees, and such a parameter moves twice as far


def test_the_sizes_of_tensors_and_of_the_step_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    places = torch.randn(3, 35, generator=generator, dtype=torch.float64)
    expected = metasmoothness(*([place] for place in places))
    assert metasmoothness(*(list((1e-3 * place).split([1, 4, 30])) for place in places)) == pytest.approx(expected)


def test_a_change_that_moves_nothing_has_no_metasmoothness() -> None:
    assert np.isnan(metasmoothness([torch.ones(3)], [torch.zeros(3)], [torch.ones(3)]))
