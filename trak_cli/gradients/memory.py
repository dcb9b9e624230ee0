"""How many samples fit: the microbatch size from a memory limit, by counting the bytes of one sample."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.parameters import only

#: What autograd saves is at most about half of what exists at the peak of a backward pass; and a gradient exists twice
#: while a consumer converts it or makes it contiguous.
_TWICE = 2


def activation_bytes(model: nn.Module, task: ModelOutput, sample: Any, parameters: Mapping[str, Tensor]) -> int:
    """Bytes that autograd saves for the backward pass of one sample (B = 1); each storage once, the model's own not."""
    own = {tensor.untyped_storage().data_ptr() for tensor in chain(model.parameters(), model.buffers())}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

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
) -> int:
    """The largest power of two, at most ``ceiling``, of samples whose gradients fit into ``memory_mb`` MiB.

    Counted are activations and gradients, not the model, the projection or the dataset. With A bytes of activations and
    G bytes of gradients for each sample, vmap needs B (2 A + 2 G) and the loop 2 A + G + 2 B G.

    Args:
        sample: a batch of one, on the model's device; a longest one where lengths differ.

    Raises:
        ConfigError: not even one sample fits.
    """
    activations = _TWICE * activation_bytes(model, task, sample, parameters)
    gradients = sum(value.numel() * value.element_size() for value in parameters.values())
    fixed, each = (0, activations) if engine == "vmap" else (activations + gradients, 0)
    each += _TWICE * gradients
    limit = memory_mb * 2**20
    if fixed + each > limit:
        raise ConfigError(
            Problem(
                "gradients.memory_mb",
                f"{memory_mb} MiB",
                f"at least {-(-(fixed + each) // 2**20)} MiB, which one sample needs",
                "raise gradients.memory_mb, or select fewer parameters with gradients.include",
            )
        )
    size = 1
    while 2 * size <= ceiling and fixed + 2 * size * each <= limit:
        size *= 2
    return size
