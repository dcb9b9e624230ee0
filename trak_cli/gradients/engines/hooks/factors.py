"""Layers whose weight gradient is a sum of outer products over positions, and the factors of these products.

Notation as in :mod:`~trak_cli.gradients.engines.hooks.layers`: x the input of a layer, g the gradient at its output, both with
their samples first and then c neighbouring entries for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from trak_cli.gradients.engines.hooks.layers import (
    UNFOLDED_BYTES,
    Rule,
    convolution,
    linear,
    patches,
    rule_of,
    runs,
    transposed_linear,
)
from trak_cli.gradients.engines.hooks.strategies import owners
from trak_cli.types import FactorBlock

#: (layer, x, g, canonical name of the weight) -> blocks that add up.
Factors = Callable[[nn.Module, Tensor, Tensor, str], Iterator[FactorBlock]]


def factors_of(module: nn.Module) -> Factors | None:
    """What splits the weight gradient of a module into factors, or None.

    A convolution with groups has none: its gradient is several small matrices, each a sum of its own.
    """
    if getattr(module, "groups", 1) != 1:
        return None
    rule = rule_of(module)
    return _FACTORS.get(rule) if rule is not None else None


def outer_products(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """The parameters whose gradient is a sum of outer products wherever a module holds them: name -> (m, n) of the matrix.

    A matrix that an embedding shares with a linear layer is one of them, a matrix of embeddings alone is not: its
    gradient has few rows already. This is a property of the model, whatever engine computes the gradients.
    """
    modules = dict(model.named_modules())
    found = {}
    for name, holders in owners(model, parameters).items():
        holding = [modules[owner.module] for owner in holders if owner.local == "weight"]
        splits = [factors_of(module) is not None for module in holding]
        others = [module for module, split in zip(holding, splits, strict=True) if not split]
        if any(splits) and len(holding) == len(holders) and all(isinstance(module, nn.Embedding) for module in others):
            rows = parameters[name].shape[0]
            found[name] = (rows, parameters[name].numel() // max(rows, 1))
    return found


def _linear(_: nn.Module, x: Tensor, g: Tensor, name: str) -> Iterator[FactorBlock]:
    """Weight (out, in): Σ_t g_t ⊗ x_t. x (B, c, …, in), g (B, c, …, out)."""
    yield FactorBlock(name, g.flatten(1, -2), x.flatten(1, -2))


def _transposed_linear(_: nn.Module, x: Tensor, g: Tensor, name: str) -> Iterator[FactorBlock]:
    """The same with a weight (in, out)."""
    yield FactorBlock(name, x.flatten(1, -2), g.flatten(1, -2))


def _convolution(module: nn.Module, x: Tensor, g: Tensor, name: str) -> Iterator[FactorBlock]:
    """A linear layer applied to every patch of its input. x (B, c, C, *in), g (B, c, C', *out); some patches at a time."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    batch, c, outputs = g.shape[:3]
    seen = patches(module, x.flatten(0, 1), g.shape[3:])  # (B · c, C, *kernel, *out)
    axis = 2 + len(module.kernel_size)
    each = seen.numel() // max(g.shape[3], 1) * x.element_size()
    for some in runs(g.shape[3], each, UNFOLDED_BYTES[x.device.type]):
        count = some.stop - some.start
        right = seen.narrow(axis, some.start, count).reshape(batch, c, module.weight[0].numel(), -1)
        left = g[:, :, :, some].reshape(batch, c, outputs, -1)
        yield FactorBlock(name, left.transpose(2, 3).flatten(1, 2), right.transpose(2, 3).flatten(1, 2))


_FACTORS: dict[Rule, Factors] = {linear: _linear, transposed_linear: _transposed_linear, convolution: _convolution}
