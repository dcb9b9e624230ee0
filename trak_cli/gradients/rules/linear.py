"""Linear layers, with the weight stored as (out, in) or as (in, out)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trak_cli.gradients.rules.pieces import pieces_of_product
from trak_cli.gradients.rules.registry import Blocks, Names, register_gradient_rule
from trak_cli.types import Block, FactorBlock

#: Linear layers of GPT-2 and its relatives, whose weight is (in, out).
_TRANSPOSED = "transformers.pytorch_utils.Conv1D"


def _sides(module: nn.Module, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of the weight's gradient Σ_t left_t ⊗ right_t, (B, t, …): g and x, or x and g for a weight (in, out)."""
    x, g = x.flatten(1, -2), g.flatten(1, -2)
    return (g, x) if isinstance(module, nn.Linear) else (x, g)


def _factors(module: nn.Module, x: Tensor, g: Tensor, name: str) -> Iterator[FactorBlock]:
    yield FactorBlock(name, *_sides(module, x, g))


@register_gradient_rule(nn.Linear, _TRANSPOSED, factors=_factors)
def linear(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Blocks:
    """Weight (out, in): Σ_t g_t ⊗ x_t, or (in, out): Σ_t x_t ⊗ g_t. Bias: Σ_t g_t. x (B, c, …, in), g (B, c, …, out)."""
    if "weight" in names:
        yield from outer(names["weight"], *_sides(module, x, g))
    if "bias" in names:
        yield Block(names["bias"], g.flatten(1, -2).sum(1))


def outer(name: str, left: Tensor, right: Tensor) -> Blocks:
    """Σ_t left_t ⊗ right_t, (B, m, n) flattened, in runs of its m rows. left (B, t, m), right (B, t, n)."""
    batch, m, n = len(left), left.shape[-1], right.shape[-1]
    for rows in pieces_of_product(m, left.shape[1], n * batch * right.element_size(), left.device.type):
        product = torch.bmm(left[..., rows].transpose(1, 2), right)
        yield Block(name, product.flatten(1), rows.start * n)
