"""Convolutions: a linear layer applied to every patch of the input."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trak_cli.gradients.rules.pieces import FILTER_BYTES, UNFOLDED_BYTES, runs
from trak_cli.gradients.rules.registry import Blocks, Names, register_gradient_rule
from trak_cli.types import Block, FactorBlock

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _factors(module: nn.Module, x: Tensor, g: Tensor, name: str) -> Iterator[FactorBlock]:
    """Weight (C', C · kernel): Σ over positions of g ⊗ patch. x (B, c, C, *in), g (B, c, C', *out); some patches at a time."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    batch, c, outputs = g.shape[:3]
    windows = _patches(module, x.flatten(0, 1), g.shape[3:])  # (B · c, C, *kernel, *out)
    axis = 2 + len(module.kernel_size)
    bytes_each = windows.numel() // max(g.shape[3], 1) * x.element_size()
    for run in runs(g.shape[3], bytes_each, UNFOLDED_BYTES[x.device.type]):
        right = windows.narrow(axis, run.start, run.stop - run.start).reshape(batch, c, module.weight[0].numel(), -1)
        left = g[:, :, :, run].reshape(batch, c, outputs, -1)
        yield FactorBlock(name, left.transpose(2, 3).flatten(1, 2), right.transpose(2, 3).flatten(1, 2))


# With groups, the gradient is several small matrices, each a sum of its own, so there are no factors.
@register_gradient_rule(*_CONVOLUTIONS, where=lambda m: getattr(m, "groups", 1) == 1, factors=_factors, batch_first=True)
@register_gradient_rule(*_CONVOLUTIONS, batch_first=True)
def convolution(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Weight: Σ over positions of g ⊗ patch, by groups. Bias: Σ g. x (B, c, C, *in), g (B, c, C', *out)."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    if "weight" in names:
        yield from _weight(names["weight"], module, x, g)
    if "bias" in names:
        yield Block(names["bias"], g.reshape(*g.shape[:3], -1).sum((1, 3)))


def _weight(name: str, module: nn.modules.conv._ConvNd, x: Tensor, g: Tensor) -> Blocks:
    batch, c = g.shape[:2]
    groups, outputs, size = module.groups, module.out_channels // module.groups, module.weight[0].numel()
    area = math.prod(g.shape[3:])
    windows = _patches(module, x.flatten(0, 1), g.shape[3:])
    g = g.reshape(batch, c, groups, outputs, area)
    unfolded = c * groups * size * area * x.element_size()
    for rows in runs(outputs, groups * size * batch * x.element_size(), FILTER_BYTES[x.device.type]):
        product = x.new_empty(batch, groups, rows.stop - rows.start, size)
        for samples in runs(batch, unfolded, UNFOLDED_BYTES[x.device.type]):
            # Each patch becomes a column; for c = 1 the first reshape is the only copy.
            columns = windows[samples.start * c : samples.stop * c].reshape(-1, c, groups, size, area)
            columns = columns.movedim(1, -2).reshape(-1, size, c * area)
            left = g[samples, :, :, rows].movedim(1, -2).reshape(-1, rows.stop - rows.start, c * area)
            torch.bmm(left, columns.transpose(1, 2), out=product[samples].flatten(0, 1))
        if rows.stop - rows.start == outputs:
            yield Block(name, product.flatten(1))
            continue
        for group in range(groups):  # the rows of different groups are not neighbours
            yield Block(name, product[:, group].flatten(1), (group * outputs + rows.start) * size)


def _patches(module: nn.modules.conv._ConvNd, x: Tensor, area: torch.Size) -> Tensor:
    """The patch of the input (N, C, *in) that each output depends on: a view (N, C, *kernel, *out)."""
    if module.padding_mode != "zeros":
        x = F.pad(x, module._reversed_padding_repeated_twice, mode=module.padding_mode)
    elif isinstance(module.padding, str):
        x = F.pad(x, module._reversed_padding_repeated_twice if module.padding == "same" else [0, 0] * len(area))
    else:
        x = F.pad(x, [side for amount in reversed(module.padding) for side in (amount, amount)])
    x = x.contiguous()
    inside = [step * by for step, by in zip(x.stride()[2:], module.dilation, strict=True)]
    between = [step * by for step, by in zip(x.stride()[2:], module.stride, strict=True)]
    return x.as_strided((*x.shape[:2], *module.kernel_size, *area), (*x.stride()[:2], *inside, *between))
