"""Normalisation layers: with x̂ the normalised input, the weight's gradient is Σ g · x̂ and the bias's Σ g."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trak_cli.gradients.rules.registry import Blocks, Names, register_gradient_rule
from trak_cli.types import Block


def _looks_like_rms_norm(module: nn.Module) -> bool:
    """Whether a module has the attributes of the RMS norms of T5, Llama and similar models.

    A module that only looks like one is found out by the comparison with the loop.
    """
    named = list(module.named_parameters(recurse=False))
    return (
        "Norm" in type(module).__name__
        and [name for name, _ in named] == ["weight"]
        and named[0][1].dim() == 1
        and isinstance(getattr(module, "variance_epsilon", None), float)
    )


def _has_running_statistics(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None and getattr(module, "running_var", None) is not None


@register_gradient_rule(nn.Module, where=_looks_like_rms_norm)
@register_gradient_rule(nn.LayerNorm, nn.RMSNorm)
def layer_norm(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Normalised over the trailing axes. x and g (B, c, …, *shape of the weight)."""
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


@register_gradient_rule(nn.GroupNorm, batch_first=True)
@register_gradient_rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, where=_has_running_statistics, batch_first=True)
def channel_norm(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """One weight per channel. x and g (B, c, C, …); batch norm uses its running statistics."""
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
