"""The engines by name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.contract import Engine, ModelOutput
from trak_cli.gradients.engines.hooks.engine import HooksEngine
from trak_cli.gradients.engines.hooks.strategies import Strategies
from trak_cli.gradients.engines.vmap import VmapEngine
from trak_cli.gradients.factoring import NONE, Factoring
from trak_cli.gradients.loop import LoopEngine
from trak_cli.gradients.options import ENGINES


def make_engine(
    name: str,
    model: nn.Module,
    task: ModelOutput,
    parameters: Mapping[str, Tensor],
    strategies: Strategies | None = None,
    factoring: Factoring = NONE,
) -> Engine:
    """The engine ``name`` for ``parameters`` (as :func:`~trak_cli.gradients.parameters.select` gives them).

    Puts a model that is in training mode into evaluation mode.

    Args:
        strategies: for ``hooks``, the result of :func:`~trak_cli.gradients.engines.hooks.strategy_search.find_strategies`.
        factoring: for ``hooks``, which gradients may come as factors; other engines give dense gradients only.

    Raises:
        ConfigError: no such engine.
    """
    if name not in ENGINES:
        remedy = "choose one, for example gradients=loop"
        raise ConfigError(Problem("gradients.engine", repr(name), f"one of {', '.join(ENGINES)}", remedy))
    if model.training:  # a module may merge weights each time it is put into evaluation mode
        model.eval()
    if name == "hooks":
        return HooksEngine(model, task, parameters, strategies, factoring)
    return VmapEngine(model, task, parameters) if name == "vmap" else LoopEngine(model, task, parameters)
