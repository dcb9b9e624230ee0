"""The engines by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from trak_cli.errors import ConfigError, Problem
from trak_cli.gradients.contract import Engine, ModelOutput
from trak_cli.gradients.engines.hooks.engine import HooksEngine
from trak_cli.gradients.engines.hooks.strategies import Routes
from trak_cli.gradients.engines.vmap import VmapEngine
from trak_cli.gradients.loop import LoopEngine

#: The names that ``gradients.engine`` may take besides ``auto``.
ENGINES = ("hooks", "vmap", "loop")


def make_engine(
    name: str,
    model: nn.Module,
    task: ModelOutput,
    parameters: Mapping[str, Tensor],
    routes: Routes | None = None,
    factored: Collection[str] = (),
) -> Engine:
    """The engine ``name`` for ``parameters`` (as :func:`~trak_cli.gradients.parameters.select` gives them).

    Puts the model into evaluation mode.

    Args:
        routes: for ``hooks``: what :func:`~trak_cli.gradients.engines.hooks.strategy_search.find_routes` found for this model.
        factored: for ``hooks``: the parameters whose gradients may come as factors; other engines know dense ones only.

    Raises:
        ConfigError: no such engine.
    """
    if name not in ENGINES:
        raise ConfigError(
            Problem("gradients.engine", repr(name), f"one of {', '.join(ENGINES)}", "choose one, for example gradients=loop")
        )
    model.eval()
    if name == "hooks":
        return HooksEngine(model, task, parameters, routes, factored)
    return VmapEngine(model, task, parameters) if name == "vmap" else LoopEngine(model, task, parameters)
