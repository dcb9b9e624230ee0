"""What the config says about the projection, put to a model: its dimension, and the weights that are taken from both sides."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from trak_cli.config import TrakConfig
from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients import outer_products
from trak_cli.projection import SPARSE, ProjectionSpec, spec_problems

#: Canonical parameter name -> (m, n) of a weight whose gradient is multiplied from both sides.
Matrices = Mapping[str, tuple[int, int]]


def projection_spec(config: TrakConfig, parameters: int) -> ProjectionSpec:
    """The projection of the config; kind ``none`` keeps all coordinates, and what a kind does not read has one value.

    Raises:
        ConfigError: a dimension that this kind cannot have.
    """
    asked = config.projection
    dim = parameters if asked.kind == "none" else asked.dim
    nonzeros = asked.nonzeros if asked.kind in SPARSE else 1
    factors = tuple(asked.factors) if asked.kind == "factored" and asked.factors is not None else None
    spec = ProjectionSpec(asked.kind, dim, asked.seed, nonzeros, factors)
    problems = spec_problems(spec)
    if problems:
        raise ConfigError(problems)
    return spec


def matrices_of(spec: ProjectionSpec, model: nn.Module, selected: Mapping[str, Tensor]) -> Matrices:
    """The weights that kind ``factored`` multiplies from both sides; none for the other kinds.

    Raises:
        ConfigError: there is none although the kind is ``factored``.
    """
    if spec.kind != "factored":
        return {}
    found = outer_products(model, selected)
    if not found:
        raise ConfigError(
            Problem(
                "projection.kind",
                "factored, for a model with no selected weight of a linear or convolutional layer",
                "weights whose gradients are sums of outer products",
                "use projection=sjlt, or select such weights with gradients.include",
            )
        )
    return found
