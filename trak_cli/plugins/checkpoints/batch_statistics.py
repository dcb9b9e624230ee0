"""The statistics that layers of batch normalisation keep, computed anew for other weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trak_cli.autograd_settings import as_in_evaluation


def recompute_statistics(model: nn.Module, call: Callable[[Any], object], batches: Iterable[Any]) -> None:
    """Replace running means and variances by their means over ``batches``; without such layers, nothing is read.

    The statistics of a checkpoint do not fit other weights: what a layer then passes on is not normalised.

    Args:
        call: calls the model with a batch.
        batches: of samples of the training set, about equal in size, each of two samples or more.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]
    if not layers:
        return
    with as_in_evaluation(model), _averaging(layers), torch.no_grad():
        for batch in batches:
            call(batch)


@contextmanager
def _averaging(layers: Iterable[_BatchNorm]) -> Iterator[None]:
    """Layers that average the statistics of batches, each with the same weight, from nothing."""
    momenta = {layer: layer.momentum for layer in layers}
    try:
        for layer in momenta:
            layer.reset_running_stats()
            layer.momentum = None
            layer.training = True
        yield
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
            layer.training = False
