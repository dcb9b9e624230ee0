"""Linear layers, with the weight stored as (out, in) or as (in, out)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trak_cli.gradients.rules.pieces import PIECE_BYTES, runs
from trak_cli.gradients.rules.registry import Blocks, Names, register_gradient_rule
from trak_cli.types import Block, FactorBlock


def _factors(_: nn.Module, x: Tensor, g: Tensor, name: str) -> Iterator[FactorBlock]:
    """Weight (out, in): Σ_t g_t ⊗ x_t. x (B, c, …, in), g (B, c, …, out)."""
    yield FactorBlock(name, g.flatten(1, -2), x.flatten(1, -2))


def _transposed_factors(_: nn.Module, x: Tensor, g: Tensor, name: str) -> Iterator[FactorBlock]:
    """Weight (in, out): Σ_t x_t ⊗ g_t."""
    yield FactorBlock(name, x.flatten(1, -2), g.flatten(1, -2))


@register_gradient_rule(nn.Linear, factors=_factors)
def linear(_: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Weight (out, in): Σ_t g_t ⊗ x_t. Bias: Σ_t g_t. x (B, c, …, in), g (B, c, …, out)."""
    x, g = x.flatten(1, -2), g.flatten(1, -2)
    if "weight" in names:
        yield from outer(names["weight"], g, x)
    if "bias" in names:
        yield Block(names["bias"], g.sum(1))


@register_gradient_rule("transformers.pytorch_utils.Conv1D", factors=_transposed_factors)
def transposed_linear(_: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Weight (in, out): Σ_t x_t ⊗ g_t. Bias: Σ_t g_t. x (B, c, …, in), g (B, c, …, out)."""
    x, g = x.flatten(1, -2), g.flatten(1, -2)
    if "weight" in names:
        yield from outer(names["weight"], x, g)
    if "bias" in names:
        yield Block(names["bias"], g.sum(1))


def outer(name: str, left: Tensor, right: Tensor) -> Blocks:
    """Σ_t left_t ⊗ right_t, (B, m, n) flattened, in runs of its m rows. left (B, t, m), right (B, t, n)."""
    batch, m, n = len(left), left.shape[-1], right.shape[-1]
    for rows in runs(m, n * batch * right.element_size(), PIECE_BYTES[left.device.type]):
        product = torch.bmm(left[..., rows].transpose(1, 2), right)
        yield Block(name, product.flatten(1), rows.start * n)
