"""The microbatch size that fits into a memory limit, from the number of bytes that one sample needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import JoinedBatch, first_repeated
from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.parameters import only
from trak_cli.gradients.rules.pieces import MOST_BYTES
from trak_cli.gradients.transforms.autocast import Autocast

#: The tensors that autograd saves are at most about half of what exists at the peak of a backward pass. Gradients count twice
#: because a consumer may convert them or make them contiguous.
_TWICE = 2

#: Pieces of a gradient that exist at once: one being computed, one with its consumer, and a copy.
_PIECES = 3


@dataclass(frozen=True)
class GradientWork:
    """The gradients whose memory is counted.

    Attributes:
        sample: a batch of one, on the model's device; the longest sample if lengths differ.
        parameters: canonical name -> parameter.
        materialized: for the hooks engine, the parameters whose per-sample gradients exist all at once.
    """

    model: nn.Module
    task: ModelOutput
    sample: Any
    parameters: Mapping[str, Tensor]
    materialized: Sequence[Tensor] = ()


def choose_microbatch(engine: str, work: GradientWork, memory_mb: int) -> int:
    """The largest power of two, at most 256, of samples whose gradients fit into ``memory_mb`` MiB.

    It counts activations and gradients, not the model, the projection or the dataset. With A bytes of activations and G bytes
    of gradients per sample, vmap needs B (2 A + 2 G), the loop 2 A + G + 2 B G, and hooks 3 A B plus a few pieces of
    gradients.

    Raises:
        ConfigError: one sample does not fit.
    """
    saved = activation_bytes(work)
    sizes = (saved, _bytes(work.parameters.values()), _bytes(work.materialized))
    limit = memory_mb * 2**20
    least = _needed(engine, 1, *sizes)
    if least > limit:
        expected = f"at least {-(-least // 2**20)} MiB, which one sample needs"
        remedy = "raise gradients.memory_mb, or select fewer parameters with parameters.include"
        raise ConfigError(Problem("gradients.memory_mb", f"{memory_mb} MiB", expected, remedy))
    size = 1
    while 2 * size <= 256 and _needed(engine, 2 * size, *sizes) <= limit:
        size *= 2
    return size


def activation_bytes(work: GradientWork) -> int:
    """Bytes that autograd saves for the backward pass of one sample, without the model's own tensors.

    Under autocast it also saves narrow copies of the weights, once for all samples, so the difference between two samples and
    one is returned; a sample of a joined batch cannot be repeated, so the copies count there too.
    """
    saved = _saved_bytes(work, work.sample)
    if isinstance(work.task, Autocast) and not isinstance(work.sample, JoinedBatch):
        return _saved_bytes(work, first_repeated(work.sample, 2)) - saved
    return saved


def _saved_bytes(work: GradientWork, batch: Any) -> int:
    own = {tensor.untyped_storage().data_ptr() for tensor in chain(work.model.parameters(), work.model.buffers())}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would keep alive the graph that keeps it alive

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with only(work.model, work.parameters), torch.enable_grad(), hooks:
        output = work.task.output(work.model, batch)  # kept until the end, so that no two storages have the same address
        total = sum(saved.values())
        del output
    return total


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)


def _needed(engine: str, size: int, saved: int, gradients: int, materialized: int) -> int:
    """Bytes that a microbatch of ``size`` samples needs."""
    if engine == "hooks":
        # Activations count a third time for the gradients at the outputs of the layers, which are kept with their inputs.
        pieces = min(_PIECES * MOST_BYTES["cpu"], _TWICE * size * gradients)
        return size * ((_TWICE + 1) * saved + _TWICE * materialized) + pieces
    if engine == "vmap":
        return size * _TWICE * (saved + gradients)
    return _TWICE * saved + gradients + size * _TWICE * gradients
