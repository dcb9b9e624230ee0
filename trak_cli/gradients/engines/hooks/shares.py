"""The share of each sample in the tensors of a recorded call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from trak_cli.gradients.engines.hooks.batch_dims import Axes
from trak_cli.gradients.engines.hooks.recorder import Call, NotSeparableError, repeated, weights
from trak_cli.plurals import counted

#: Gradients below this share of the largest are treated as rounding.
_NEGLIGIBLE = 1e-5

#: Bytes of the inputs and gradients of several calls that are joined.
_JOINED_BYTES = 2**25


def rule_arguments(call: Call, axes: Axes, size: int, dtype: torch.dtype, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Input and output gradient of a layer with one input and one output, as rules expect them: (B, c, …).

    Raises:
        NotSeparableError: the layer has several inputs or outputs, or its samples lie along another axis than the rule expects.
    """
    tensors = [place for place, leaf in enumerate(call.inputs) if isinstance(leaf, Tensor)]
    if len(tensors) != 1 or len(call.gradients) != 1:
        raise NotSeparableError(call.site, f"{len(tensors)} inputs and {len(call.gradients)} outputs, not one of each")
    x, g = call.inputs[tensors[0]], call.gradients[0]
    assert g is not None
    x_axis, g_axis = axes.inputs[tensors[0]], axes.outputs[0]
    if (x_axis is None) != (g_axis is None):
        raise NotSeparableError(call.site, "only one of input and output grows with the batch")
    if x_axis is None or g_axis is None:
        x = repeated(x, size).unsqueeze(1)
        g = g.unsqueeze(1)
        if len(x) != len(g):
            raise NotSeparableError(call.site, "an input that all samples share is not repeated for each")
    else:
        if x_axis != g_axis or (x_axis.dim > 0 and batch_first):
            raise NotSeparableError(call.site, "samples lie along another axis than the rule of this layer expects")
        x, g = (split(call, tensor.movedim(x_axis.dim, 0), x_axis.packed, size) for tensor in (x, g))
    return x.to(dtype) if x.is_floating_point() else x, g.to(dtype)


def joined(arguments: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and output gradients of one layer, (B, c, …), with those of several calls joined along c while they are small.

    A layer that is called for each step of a sequence then gives one block to project instead of one for each step.
    """
    waiting: list[tuple[Tensor, Tensor]] = []
    for x, g in arguments:
        if waiting and not _fits(waiting, x, g):
            yield _join(waiting)
            waiting = []
        waiting.append((x, g))
    if waiting:
        yield _join(waiting)


def _fits(waiting: Sequence[tuple[Tensor, Tensor]], x: Tensor, g: Tensor) -> bool:
    first_x, first_g = waiting[0]
    held = sum(tensor.numel() * tensor.element_size() for pair in (*waiting, (x, g)) for tensor in pair)
    return x.shape[2:] == first_x.shape[2:] and g.shape[2:] == first_g.shape[2:] and held <= _JOINED_BYTES


def _join(waiting: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if len(waiting) == 1:
        return waiting[0]
    xs, gs = zip(*waiting, strict=True)
    return torch.cat(xs, 1), torch.cat(gs, 1)


def check_shares(call: Call, axes: Axes, size: int) -> None:
    """Refuse a call in which the samples do not have equal, consecutive shares of the entries along the batch axis.

    Raises:
        NotSeparableError: an entry belongs to another sample than equal shares would give it to.
    """
    for gradient, weighted, axis in zip(call.gradients, call.weighted, axes.outputs, strict=False):
        if gradient is not None and weighted is not None and axis is not None:
            first, second = (split(call, value.movedim(axis.dim, 0), axis.packed, size) for value in (gradient, weighted))
            check_order(call, first, second)


def check_order(call: Call, gradient: Tensor, weighted: Tensor) -> None:
    """Refuse gradients, (B, c, …), whose rows do not belong to the samples in their order.

    A second backward pass weights each sample's output differently, so that the ratio of the two gradients at an entry shows
    which sample it belongs to. Entries without a gradient do not matter.

    Raises:
        NotSeparableError: an entry belongs to another sample.
    """
    plain, other = gradient.flatten(2), weighted.flatten(2)
    expected = plain * weights(plain).reshape(-1, 1, 1)
    distance, length = (value.float().norm(dim=2) for value in (other - expected, expected))
    if bool((distance > 0.25 * length + _NEGLIGIBLE * length.max()).any()):
        raise NotSeparableError(call.site, "samples in another order than in the batch, or with different numbers of entries")


def split(call: Call, tensor: Tensor, packed: bool, size: int) -> Tensor:
    """(B · c, …) to (B, c, …).

    Raises:
        NotSeparableError: the samples do not have the same number of entries.
    """
    if tensor.shape[0] % size or (not packed and tensor.shape[0] != size):
        raise NotSeparableError(call.site, f"{counted(tensor.shape[0], 'entry', 'entries')} for {size} samples")
    return tensor.reshape(size, tensor.shape[0] // size, *tensor.shape[1:])
