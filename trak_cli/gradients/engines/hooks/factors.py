"""Which weights of a model have gradients that are sums of outer products, for ``projection=factored``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from trak_cli.gradients.engines.hooks.strategies import owners
from trak_cli.gradients.rules.registry import factors_of


def outer_products(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """The parameters whose gradient is a sum of outer products in every module that holds them: name -> (m, n) of the matrix.

    A matrix that an embedding shares with a linear layer is included; a matrix of embeddings alone is not, because its
    gradient already has few rows. The result depends on the model only, not on the gradient engine.
    """
    modules = dict(model.named_modules())
    matrices = {}
    for name, holders in owners(model, parameters).items():
        holding = [modules[owner.module] for owner in holders if owner.local == "weight"]
        splits = [factors_of(module) is not None for module in holding]
        others = [module for module, split in zip(holding, splits, strict=True) if not split]
        if any(splits) and len(holding) == len(holders) and all(isinstance(module, nn.Embedding) for module in others):
            rows = parameters[name].shape[0]
            matrices[name] = (rows, parameters[name].numel() // max(rows, 1))
    return matrices
