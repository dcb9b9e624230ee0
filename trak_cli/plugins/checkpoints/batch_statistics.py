"""The running statistics that layers of batch (or instance) normalisation keep, computed anew for other weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from trak_cli.autograd_settings import as_written


def recompute_statistics(
    model: nn.Module, call: Callable[[Any], object], batches: Iterable[Any], *, frozen: bool = True
) -> None:
    """Replace running means and variances by their means over ``batches``; without such layers, nothing is read.

    The statistics of a checkpoint do not fit other weights: what a layer then passes on is not normalised. Layers that are not
    called keep theirs. No other buffer changes.

    Args:
        model: in evaluation mode.
        call: calls the model with a batch.
        batches: of samples of the training set, about equal in size, each of two samples or more.
        frozen: also those of layers whose weights require no gradient.
    """
    layers = [module for module in model.modules() if isinstance(module, _NormBase) and module.running_mean is not None]
    layers = [layer for layer in layers if frozen or not _is_frozen(layer)]
    if not layers:
        return
    with _copied_buffers(model), _recording(layers) as records, as_written(), torch.no_grad():
        for batch in batches:
            call(batch)
    for layer, statistics in records.items():
        if statistics:
            mean, variance = torch.stack(statistics).mean(dim=0)
            layer.running_mean.copy_(mean)  # type: ignore[union-attr]
            layer.running_var.copy_(variance)  # type: ignore[union-attr]


def _is_frozen(layer: nn.Module) -> bool:
    weights = list(layer.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)


@contextmanager
def _recording(layers: Collection[_NormBase]) -> Iterator[dict[_NormBase, list[Tensor]]]:
    """Inside, layers normalise by the batch, and each call records its mean and variance, (2, channels).

    They are read while the call lasts, because a layer may compute with copies of its buffers (weight_copies.py).
    """
    records: dict[_NormBase, list[Tensor]] = {layer: [] for layer in layers}
    before = [(layer, layer.training, layer.momentum) for layer in layers]
    with ExitStack() as hooks:
        try:
            for layer in layers:
                layer.training, layer.momentum = True, 1.0  # the statistics after a call are those of its batch
                hooks.callback(layer.register_forward_hook(partial(_record, records[layer]), prepend=True).remove)
            yield records
        finally:
            for layer, training, momentum in before:
                layer.training, layer.momentum = training, momentum


def _record(statistics: list[Tensor], layer: _NormBase, *_: Any) -> None:
    statistics.append(torch.stack([layer.running_mean, layer.running_var]).float())  # type: ignore[list-item]


@contextmanager
def _copied_buffers(model: nn.Module) -> Iterator[None]:
    """Inside, calls change copies of the buffers, such as a counter of calls, and not the buffers."""
    before = [(module, dict(module._buffers)) for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    copies = {id(buffer): buffer.clone() for _, buffers in before for buffer in buffers.values() if buffer is not None}
    try:
        for module, buffers in before:
            module._buffers.update({name: copies.get(id(buffer)) for name, buffer in buffers.items()})
        yield
    finally:
        for module, buffers in before:
            module._buffers.clear()
            module._buffers.update(buffers)
