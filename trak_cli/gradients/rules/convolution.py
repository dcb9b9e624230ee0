"""Convolutions: a linear layer applied to every patch of the input."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trak_cli.gradients.rules.pieces import MOST_BYTES, UNFOLDED_BYTES, pieces_of_product, runs
from trak_cli.gradients.rules.registry import Blocks, Names, register_gradient_rule
from trak_cli.types import Block, FactorBlock

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

#: Channels that the kernels of oneDNN compute together.
_ALIGNED = 16

#: With at most this many positions, a patch is copied as a row: outer products then need no other copy of it. With more than
#: ``_VERY_FEW``, copying all channels of a pixel together is faster, although the patches are transposed afterwards.
_FEW, _VERY_FEW = 64, 8


def _factors(module: nn.Module, x: Tensor, g: Tensor, name: str) -> Iterator[FactorBlock]:
    """Weight (C', C · kernel): Σ over positions of g ⊗ patch. x (B, c, C, *in), g (B, c, C', *out); some patches at a time."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    batch, c, outputs = g.shape[:3]
    positions, size = math.prod(g.shape[3:]), module.weight[0].numel()
    if positions <= _FEW and batch * c * positions * size * x.element_size() <= MOST_BYTES[x.device.type]:
        left = g.flatten(3).transpose(2, 3).flatten(1, 2)
        yield FactorBlock(name, left, _rows(module, x.flatten(0, 1), g.shape[3:]).reshape(batch, c * positions, size))
        return
    windows = _patches(module, x.flatten(0, 1), g.shape[3:])  # (B · c, C, *kernel, *out)
    axis = 2 + len(module.kernel_size)
    bytes_each = windows.numel() // max(g.shape[3], 1) * x.element_size()
    for run in runs(g.shape[3], bytes_each, UNFOLDED_BYTES[x.device.type]):
        right = windows.narrow(axis, run.start, run.stop - run.start).reshape(batch, c, module.weight[0].numel(), -1)
        left = g[:, :, :, run].reshape(batch, c, outputs, -1)
        yield FactorBlock(name, left.transpose(2, 3).flatten(1, 2), right.transpose(2, 3).flatten(1, 2))


def convolution_unfolded(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Weight: Σ over positions of g ⊗ patch, by groups, as a product with the unfolded input. Bias: Σ g."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    if "weight" in names:
        yield from _weight(names["weight"], module, x, g)
    yield from _bias(g, names)


def convolution_by_library(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Weight: the library's own kernel for the weight's gradient, one sample at a time. Bias: Σ g."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    if "weight" in names:
        yield from _weight_by_library(names["weight"], module, x, g)
    yield from _bias(g, names)


_FORMS = {"unfold": convolution_unfolded, "library": convolution_by_library}


# With groups, the gradient is several small matrices, each a sum of its own, so there are no factors.
@register_gradient_rule(
    *_CONVOLUTIONS, where=lambda m: getattr(m, "groups", 1) == 1, factors=_factors, forms=_FORMS, batch_first=True
)
@register_gradient_rule(*_CONVOLUTIONS, forms=_FORMS, batch_first=True)
def convolution(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """The form that is usually faster, by shape and device alone. x (B, c, C, *in), g (B, c, C', *out).

    Unfolding costs time in proportion to the positions, the library's conversions of its result in proportion to the weight.
    """
    assert isinstance(module, nn.modules.conv._ConvNd)
    positions, outputs = math.prod(g.shape[3:]), module.out_channels // module.groups
    many = 4 * positions >= outputs and math.prod(module.kernel_size) > 1
    library = many and x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    yield from (convolution_by_library if library else convolution_unfolded)(module, x, g, names)


@register_gradient_rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, batch_first=True)
def transposed_convolution(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Weight (C, C' / groups, *kernel): as for a convolution, with the parts of x and g exchanged. Bias: Σ g."""
    yield from convolution_by_library(module, x, g, names)


def _bias(g: Tensor, names: Names) -> Blocks:
    if "bias" in names:
        yield Block(names["bias"], g.reshape(*g.shape[:3], -1).sum((1, 3)))


def _weight(name: str, module: nn.modules.conv._ConvNd, x: Tensor, g: Tensor) -> Blocks:
    batch, c = g.shape[:2]
    groups, outputs, size = module.groups, module.out_channels // module.groups, module.weight[0].numel()
    terms, device = c * math.prod(g.shape[3:]), x.device.type
    windows = _patches(module, x.flatten(0, 1), g.shape[3:])
    g = g.reshape(batch, c, groups, outputs, -1)

    def columns(samples: slice) -> Tensor:
        """Each patch as a column, (samples · groups, size, terms); for c = 1 the first reshape is the only copy."""
        unfolded = windows[samples.start * c : samples.stop * c].reshape(-1, c, groups, size, g.shape[-1])
        return unfolded.movedim(1, -2).reshape(-1, size, terms)

    limit = batch * x[0].numel() * x.element_size() if size == module.in_channels // groups else UNFOLDED_BYTES[device]
    parts = list(runs(batch, groups * size * terms * x.element_size(), limit))
    only = columns(parts[0]) if len(parts) == 1 else None
    for rows in pieces_of_product(outputs, terms, groups * size * batch * x.element_size(), device):
        product = x.new_empty(batch, groups, rows.stop - rows.start, size)
        for samples in parts:
            left = g[samples, :, :, rows].movedim(1, -2).reshape(-1, rows.stop - rows.start, terms)
            right = columns(samples) if only is None else only
            torch.bmm(left, right.transpose(1, 2), out=product[samples].flatten(0, 1))
        if rows.stop - rows.start == outputs:
            yield Block(name, product.flatten(1))
            continue
        for group in range(groups):  # the rows of different groups are not neighbours
            yield Block(name, product[:, group].flatten(1), (group * outputs + rows.start) * size)


def _weight_by_library(name: str, module: nn.modules.conv._ConvNd, x: Tensor, g: Tensor) -> Blocks:
    batch, groups = len(x), module.groups
    weight = x.new_empty(module.weight.shape)  # only its shape matters
    zeros = module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if not zeros:
        padded = _padded(module, x.flatten(0, 1))
        x = padded.reshape(*x.shape[:2], *padded.shape[1:])
    padding = module.padding if zeros else [0] * len(module.kernel_size)
    transposed, extra = module.transposed, [0] * len(module.kernel_size)
    if transposed:  # the argument output_size of a call can change it
        inside = (module.dilation[i] * (module.kernel_size[i] - 1) + 1 - 2 * int(padding[i]) for i in range(len(extra)))
        least = ((size - 1) * step for size, step in zip(x.shape[3:], module.stride, strict=True))
        extra = [size - one - two for size, one, two in zip(g.shape[3:], least, inside, strict=True)]
    unit = _ALIGNED if groups == 1 else len(weight) // groups
    each = batch * weight[0].numel() * x.element_size()
    for units in runs(-(-len(weight) // unit), unit * each, MOST_BYTES[x.device.type]):
        rows = slice(units.start * unit, min(units.stop * unit, len(weight)))
        left, right, inner = x, g, 1
        if groups > 1:
            inner = units.stop - units.start
            left, right = (_channels(tensor, units, groups) for tensor in (x, g))
        elif transposed:
            left = x[:, :, rows]
        else:
            right = g[:, :, rows]
        product = x.new_empty(batch, *weight[rows].shape)
        for sample in range(batch):
            product[sample] = torch.ops.aten.convolution_backward(
                right[sample],
                left[sample],
                weight[rows],
                None,
                module.stride,
                padding,
                module.dilation,
                transposed,
                extra,
                inner,
                [False, True, False],
            )[1]
        yield Block(name, product.flatten(1), rows.start * weight[0].numel())


def _channels(tensor: Tensor, units: slice, groups: int) -> Tensor:
    """The channels of some groups, from (B, c, C, …)."""
    each = tensor.shape[2] // groups
    return tensor[:, :, units.start * each : units.stop * each]


def _padded(module: nn.modules.conv._ConvNd, x: Tensor) -> Tensor:
    """The input (N, C, *in) with the padding of the layer, which then needs none."""
    if module.padding_mode != "zeros":
        return F.pad(x, module._reversed_padding_repeated_twice, mode=module.padding_mode)
    if isinstance(module.padding, str):
        none = [0, 0] * len(module.kernel_size)
        return F.pad(x, module._reversed_padding_repeated_twice if module.padding == "same" else none)
    return F.pad(x, [side for amount in reversed(module.padding) for side in (amount, amount)])


def _patches(module: nn.modules.conv._ConvNd, x: Tensor, area: torch.Size) -> Tensor:
    """The patch of the input (N, C, *in) that each output depends on: a view (N, C, *kernel, *out)."""
    x = _padded(module, x).contiguous()
    inside, between = _steps(module, x.stride()[2:])
    return x.as_strided((*x.shape[:2], *module.kernel_size, *area), (*x.stride()[:2], *inside, *between))


def _rows(module: nn.modules.conv._ConvNd, x: Tensor, area: torch.Size) -> Tensor:
    """The same patches of the input (N, C, *in) as rows: a copy (N · positions, C · kernel)."""
    axes = len(area)
    if math.prod(area) <= _VERY_FEW:
        windows = _patches(module, x, area)
        return windows.movedim(tuple(range(2 + axes, 2 + 2 * axes)), tuple(range(1, 1 + axes))).flatten(0, axes).flatten(1)
    x = _padded(module, x).movedim(1, -1).contiguous()
    inside, between = _steps(module, x.stride()[1:-1])
    pixels = x.as_strided((len(x), *area, *module.kernel_size, x.shape[-1]), (x.stride(0), *between, *inside, 1))
    return pixels.reshape(len(x) * math.prod(area), -1, x.shape[-1]).transpose(1, 2).flatten(1)


def _steps(module: nn.modules.conv._ConvNd, strides: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """From one entry of a patch to the next along each axis, and from one patch to the next, for these strides of the input."""
    inside = [step * by for step, by in zip(strides, module.dilation, strict=True)]
    return inside, [step * by for step, by in zip(strides, module.stride, strict=True)]
