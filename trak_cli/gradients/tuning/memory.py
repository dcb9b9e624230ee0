"""How many samples fit: the microbatch size from a memory limit, by counting the bytes of one sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import first_repeated
from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.parameters import only
from trak_cli.gradients.rules.pieces import FILTER_BYTES
from trak_cli.gradients.transforms.autocast import Autocast

#: What autograd saves is at most about half of what exists at the peak of a backward pass; and a gradient exists twice
#: while a consumer converts it or makes it contiguous.
_TWICE = 2

#: Pieces of gradients that exist at once: one in the making, one with its consumer, and a copy.
_PIECES = 3


def activation_bytes(model: nn.Module, task: ModelOutput, sample: Any, parameters: Mapping[str, Tensor]) -> int:
    """Bytes that autograd saves for the backward pass of one sample (B = 1); each storage once, the model's own not.

    Under autocast it saves narrow copies of the weights too, once for all samples: what a second sample adds is counted.
    """
    if isinstance(task, Autocast):
        return _saved_bytes(model, task, first_repeated(sample, 2), parameters) - _saved_bytes(model, task, sample, parameters)
    return _saved_bytes(model, task, sample, parameters)


def _saved_bytes(model: nn.Module, task: ModelOutput, sample: Any, parameters: Mapping[str, Tensor]) -> int:
    own = {tensor.untyped_storage().data_ptr() for tensor in chain(model.parameters(), model.buffers())}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold the graph that holds it, and neither would ever be let go

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with only(model, parameters), torch.enable_grad(), hooks:
        output = task.output(model, sample)  # held to the end: it keeps the storages, and so their addresses, apart
        total = sum(saved.values())
        del output
    return total


def choose_microbatch(
    engine: str,
    model: nn.Module,
    task: ModelOutput,
    sample: Any,
    parameters: Mapping[str, Tensor],
    memory_mb: int,
    ceiling: int = 256,
    whole: Sequence[Tensor] = (),
) -> int:
    """The largest power of two, at most ``ceiling``, of samples whose gradients fit into ``memory_mb`` MiB.

    Counted are activations and gradients, not the model, the projection or the dataset. With A bytes of activations and
    G bytes of gradients for each sample, vmap needs B (2 A + 2 G), the loop 2 A + G + 2 B G, and hooks 3 A B beside a few
    pieces of gradients.

    Args:
        sample: a batch of one, on the model's device; a longest one where lengths differ.
        whole: for hooks, the parameters whose gradients are not made in pieces.

    Raises:
        ConfigError: not even one sample fits.
    """
    saved = activation_bytes(model, task, sample, parameters)
    sizes = (saved, _bytes(parameters.values()), _bytes(whole))
    limit = memory_mb * 2**20
    least = _needed(engine, 1, *sizes)
    if least > limit:
        raise ConfigError(
            Problem(
                "gradients.memory_mb",
                f"{memory_mb} MiB",
                f"at least {-(-least // 2**20)} MiB, which one sample needs",
                "raise gradients.memory_mb, or select fewer parameters with parameters.include",
            )
        )
    size = 1
    while 2 * size <= ceiling and _needed(engine, 2 * size, *sizes) <= limit:
        size *= 2
    return size


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)


def _needed(engine: str, size: int, saved: int, gradients: int, whole: int) -> int:
    """Bytes that a microbatch of ``size`` samples needs."""
    if engine == "hooks":
        # A third time: the gradients at the outputs of the layers, which are kept with their inputs.
        pieces = min(_PIECES * FILTER_BYTES["cpu"], _TWICE * size * gradients)
        return size * ((_TWICE + 1) * saved + _TWICE * whole) + pieces
    if engine == "vmap":
        return size * _TWICE * (saved + gradients)
    return _TWICE * saved + gradients + size * _TWICE * gradients
