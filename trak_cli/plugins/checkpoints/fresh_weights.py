"""Whether a model plugin gives new random weights, which members that are blended with them need."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.derived import initialised


def require_fresh_weights(build: Callable[[], nn.Module]) -> None:
    """Check that the weights of new models are random, and a function of the seed.

    Raises:
        InputError: they are the same for every seed, so that all members would be one, or differ for one seed, so that the
            workers of a run would not have the same members.
    """
    first, remedy = _weights(build, 0), "give ensemble.kind=mask, or ensemble.members=0"
    if not _equal(first, _weights(build, 0)):
        found = "fresh, with a model plugin that returns other weights for the same seed of PyTorch, NumPy and Python"
        expected = "initial weights that are drawn from the global random numbers"
        raise InputError(Problem("ensemble.kind", found, expected, remedy))
    if _equal(first, _weights(build, 1)):
        found = "fresh, with a model plugin that returns the same weights each time"
        expected = "new random weights, like those that the checkpoints were trained from"
        raise InputError(Problem("ensemble.kind", found, expected, remedy))


def starts_random(build: Callable[[], nn.Module]) -> bool:
    """Whether most of the numbers in a new model are random, a function of the seed, and changed by training.

    They are not if a plugin returns pretrained weights to which only a head or an adapter is added.
    """
    model = initialised(build, 0)
    half, first = sum(weight.numel() for weight in model.parameters()) / 2, _trained(model)
    del model
    if not _equal(first, _weights(build, 0)):
        return False
    other = _weights(build, 1)
    if {name: weight.shape for name, weight in first.items()} != {name: weight.shape for name, weight in other.items()}:
        return False
    return sum(int((weight != other[name]).sum()) for name, weight in first.items()) > half


def _weights(build: Callable[[], nn.Module], seed: int) -> dict[str, Tensor]:
    return _trained(initialised(build, seed))


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """The weights that training changes, on the CPU, so that only one model at a time is on the device."""
    return {name: weight.detach().cpu() for name, weight in model.named_parameters() if weight.requires_grad}


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(weight, other[name]) for name, weight in one.items())
