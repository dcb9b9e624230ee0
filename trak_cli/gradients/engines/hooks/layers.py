"""Layers whose per-sample gradients follow from input and output gradient in closed form, and these forms.

Notation: x is the input of a layer, g = ∂(Σ_b f_b)/∂y the gradient at its output y; both have their samples first, then c
neighbouring entries for each (c = 1 but for flattened axes). Since f_b depends on sample b alone, g holds the gradients
of each f_b side by side, and a sum over everything but b gives what is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trak_cli.types import Block, RowBlock

#: Bytes of a piece of a gradient: what a projector reads soon after it was written, and the allocator keeps at hand.
PIECE_BYTES = {"cpu": 2**24, "cuda": 2**28}

#: The same for convolutions, whose input is unfolded again for every piece.
FILTER_BYTES = {"cpu": 2**26, "cuda": 2**28}

#: Bytes of a convolution's unfolded input that exist at once.
UNFOLDED_BYTES = {"cpu": 6 * 2**20, "cuda": 2**28}


#: (layer, x, g, the layer's name of a wanted parameter -> its canonical name) -> blocks.
Rule = Callable[[nn.Module, Tensor, Tensor, Mapping[str, str]], Iterator[Block | RowBlock]]
Blocks = Iterator[Block | RowBlock]
Names = Mapping[str, str]


def rule_of(module: nn.Module) -> Rule | None:
    """The closed form for a module, or None; a subclass counts if it leaves ``forward`` alone."""
    for kind, rule in _RULES.items():
        if isinstance(module, kind) and type(module).forward is kind.forward and _plain(module):
            return rule
    if f"{type(module).__module__}.{type(module).__name__}" == "transformers.pytorch_utils.Conv1D":
        return transposed_linear
    return _layer_norm if _looks_like_rms_norm(module) else None


def has_closed_form(module: nn.Module) -> bool:
    """Whether a module has a rule, and is called: attention reads the weights of its last layer and calls it never."""
    return rule_of(module) is not None and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)


def _looks_like_rms_norm(module: nn.Module) -> bool:
    """Whether a module has what the norms of T5, Llama and their kin have (the search finds out if it is none)."""
    named = list(module.named_parameters(recurse=False))
    return (
        "Norm" in type(module).__name__
        and [name for name, _ in named] == ["weight"]
        and named[0][1].dim() == 1
        and isinstance(getattr(module, "variance_epsilon", None), float)
    )


def _plain(module: nn.Module) -> bool:
    """Whether nothing else has a hand in the parameters: no renormalised, scaled or parametrised weights."""
    if isinstance(module, nn.Embedding):
        return module.max_norm is None and not module.scale_grad_by_freq
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.running_mean is not None and module.running_var is not None
    return not hasattr(module, "parametrizations")


def linear(_: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Weight (out, in): Σ_t g_t ⊗ x_t. Bias: Σ_t g_t. x (B, c, …, in), g (B, c, …, out)."""
    x, g = x.flatten(1, -2), g.flatten(1, -2)
    if "weight" in names:
        yield from _outer(names["weight"], g, x)
    if "bias" in names:
        yield Block(names["bias"], g.sum(1))


def transposed_linear(_: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """The same with a weight (in, out)."""
    x, g = x.flatten(1, -2), g.flatten(1, -2)
    if "weight" in names:
        yield from _outer(names["weight"], x, g)
    if "bias" in names:
        yield Block(names["bias"], g.sum(1))


def _outer(name: str, left: Tensor, right: Tensor) -> Blocks:
    """Σ_t left_t ⊗ right_t, (B, m, n) flattened, in runs of its m rows; left (B, t, m), right (B, t, n)."""
    batch, m, n = len(left), left.shape[-1], right.shape[-1]
    for rows in runs(m, n * batch * right.element_size(), PIECE_BYTES[left.device.type]):
        product = torch.bmm(left[..., rows].transpose(1, 2), right)
        yield Block(name, product.flatten(1), rows.start * n)


def convolution(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """A convolution is a linear layer applied to every patch of its input. x (B, c, C, *in), g (B, c, C', *out)."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    if "weight" in names:
        yield from _filters(names["weight"], module, x, g)
    if "bias" in names:
        yield Block(names["bias"], _per_channel(g))


def _filters(name: str, module: nn.modules.conv._ConvNd, x: Tensor, g: Tensor) -> Blocks:
    batch, c = g.shape[:2]
    groups, outputs, size = module.groups, module.out_channels // module.groups, module.weight[0].numel()
    area = math.prod(g.shape[3:])
    seen = patches(module, x.flatten(0, 1), g.shape[3:])
    g = g.reshape(batch, c, groups, outputs, area)
    unfolded = c * groups * size * area * x.element_size()
    for rows in runs(outputs, groups * size * batch * x.element_size(), FILTER_BYTES[x.device.type]):
        product = x.new_empty(batch, groups, rows.stop - rows.start, size)
        for some in runs(batch, unfolded, UNFOLDED_BYTES[x.device.type]):
            # Each patch becomes a column; for c = 1 the first reshape is the only copy.
            columns = seen[some.start * c : some.stop * c].reshape(-1, c, groups, size, area)
            columns = columns.movedim(1, -2).reshape(-1, size, c * area)
            left = g[some, :, :, rows].movedim(1, -2).reshape(-1, rows.stop - rows.start, c * area)
            torch.bmm(left, columns.transpose(1, 2), out=product[some].flatten(0, 1))
        if rows.stop - rows.start == outputs:
            yield Block(name, product.flatten(1))
            continue
        for group in range(groups):  # whose rows are no neighbours
            yield Block(name, product[:, group].flatten(1), (group * outputs + rows.start) * size)


def patches(module: nn.modules.conv._ConvNd, x: Tensor, area: torch.Size) -> Tensor:
    """What each output sees of an input (N, C, *in): a view (N, C, *kernel, *out)."""
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


def _embedding(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Row v: the sum of g over the places where x is v. x (B, c, …) integers, g (B, c, …, width)."""
    assert isinstance(module, nn.Embedding)
    batch, width = len(x), g.shape[-1]
    ids, g = x.reshape(batch, -1), g.reshape(-1, width)
    key = ids + module.num_embeddings * torch.arange(batch, device=ids.device)[:, None]
    found, place = torch.unique(key.flatten(), return_inverse=True)
    values = g.new_zeros(len(found), width).index_add_(0, place, g)
    sample, row = found // module.num_embeddings, found % module.num_embeddings
    if module.padding_idx is not None:
        kept = row != module.padding_idx
        sample, row, values = sample[kept], row[kept], values[kept]
    yield RowBlock(names["weight"], batch, sample, row, values)


def _layer_norm(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Weight: Σ g · x̂; bias: Σ g; x̂ the normalised input. Both (B, c, …, *shape)."""
    weight: Any = module.weight
    shape = list(weight.shape)
    if "weight" in names:
        if isinstance(module, nn.LayerNorm):
            normal = F.layer_norm(x, shape, eps=module.eps)
        else:
            epsilon: Any = module.eps if isinstance(module, nn.RMSNorm) else module.variance_epsilon
            normal = F.rms_norm(x, shape, eps=epsilon)
        yield Block(names["weight"], (g * normal).reshape(len(g), -1, math.prod(shape)).sum(1))
    if "bias" in names:
        yield Block(names["bias"], g.reshape(len(g), -1, math.prod(shape)).sum(1))


def _channel_norm(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """The same for norms with one weight for each channel; both (B, c, C, …)."""
    if "weight" in names:
        flat = x.flatten(0, 1)
        if isinstance(module, nn.GroupNorm):
            normal = F.group_norm(flat, module.num_groups, eps=module.eps)
        else:
            assert isinstance(module, nn.modules.batchnorm._BatchNorm)
            normal = F.batch_norm(flat, module.running_mean, module.running_var, eps=module.eps)
        yield Block(names["weight"], _per_channel(g * normal.reshape(g.shape)))
    if "bias" in names:
        yield Block(names["bias"], _per_channel(g))


def _per_channel(values: Tensor) -> Tensor:
    """Sums over all but samples and channels: (B, c, C, …) to (B, C)."""
    return values.reshape(*values.shape[:3], -1).sum((1, 3))


def runs(total: int, bytes_each: int, limit: int) -> Iterator[slice]:
    """[0, total) in runs of as many as ``limit`` bytes hold, one at least."""
    step = max(limit // max(bytes_each, 1), 1)
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _channel_norm,
    nn.BatchNorm1d: _channel_norm,
    nn.BatchNorm2d: _channel_norm,
    nn.BatchNorm3d: _channel_norm,
}
