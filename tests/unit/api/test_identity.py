"""The identity of objects in memory: equal for equal objects of any process, different where results could differ."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import nn

from trak_cli.api.identity import model_identity, object_identity
from trak_cli.tasks import Classification, Regression


class Scaled(nn.Module):
    """A model whose output depends on a tensor that its state dict does not have."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)


class Weighted(Classification):
    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = weights


def padded(samples: list[Any], width: int = 3) -> Any:
    return samples[:width]


def test_the_weights_of_a_model_are_no_part_of_its_identity() -> None:
    assert model_identity(nn.Linear(3, 2)) == model_identity(nn.Linear(3, 2))
    trained = copy.deepcopy(model := nn.BatchNorm1d(3))
    trained(torch.randn(4, 3))
    assert model_identity(trained) == model_identity(model)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.Linear(3, 2), nn.Linear(3, 2, bias=False)),
        (nn.Sequential(nn.Linear(3, 2), nn.ReLU()), nn.Sequential(nn.Linear(3, 2), nn.Tanh())),
        (nn.LayerNorm(3), nn.LayerNorm(3, eps=0.1)),
        (Scaled(1.0), Scaled(2.0)),
    ],
)
def test_models_that_compute_something_else_differ(first: nn.Module, second: nn.Module) -> None:
    assert model_identity(first) != model_identity(second)


def test_tasks_differ_by_class_argument_and_array() -> None:
    tasks = [
        Classification(),
        Classification(label="y"),
        Regression(),
        Weighted(torch.ones(2)),
        Weighted(torch.tensor([1.0, 2.0])),
    ]
    identities = [object_identity(task) for task in tasks]
    assert all(identities.count(one) == 1 for one in identities)
    assert object_identity(Weighted(torch.ones(2))) == identities[3]


def test_a_function_has_its_name_and_a_partial_its_arguments() -> None:
    assert object_identity(padded) == object_identity(padded)
    two, three = functools.partial(padded, width=2), functools.partial(padded, width=3)
    assert object_identity(two) != object_identity(three)
    assert object_identity(two) != object_identity(padded)
