"""The search for a correct strategy per parameter: gradients are compared with the loop's, and wrong ones tried another way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size, map_leaves, refuse_joined
from trak_cli.gradients.checks.agreement import OUTPUT, confirmed_differences, differences_from_loop, disagreement
from trak_cli.gradients.checks.outputs import reached_parameters
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.engines.hooks.engine import HooksEngine
from trak_cli.gradients.engines.hooks.recorder import NotSeparableError
from trak_cli.gradients.engines.hooks.strategies import Strategies, first_strategies, next_strategy
from trak_cli.gradients.factoring import NONE, Factoring

#: How many samples of the batch are compared.
SAMPLES = 3


def find_strategies(
    model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any, factoring: Factoring = NONE
) -> Strategies:
    """A strategy for every parameter whose gradients equal the loop's for the first samples of ``batch``.

    Args:
        factoring: which gradients the engine will give as factors. Both these factors and the dense gradients are compared,
            because a larger batch has dense gradients where its factors do not fit into one piece.

    Raises:
        InputError: the model breaks the contract, or even the loop's gradients differ from those in a batch.
    """
    refuse_joined(batch, "hooks")
    samples = _first(batch, min(batch_size(batch), SAMPLES))
    reached = reached_parameters(model, task, samples, parameters)
    strategies = first_strategies(model, parameters, parameters.keys() - reached)
    forms = [factoring, replace(factoring, terms=0)] if factoring.terms else [factoring]

    def wrong_parameters() -> list[str]:
        engines = (HooksEngine(model, task, parameters, strategies, form) for form in forms)
        return next(filter(None, (_wrong(engine, model, task, parameters, samples) for engine in engines)), [])

    while wrong := wrong_parameters():
        if wrong == [OUTPUT]:
            raise disagreement("gradients=hooks", "outputs")
        for name in wrong:
            if name == OUTPUT:  # the strategy of some parameter may be what changes the outputs
                continue
            strategy = next_strategy(model, name, parameters[name], strategies.get(name))
            if strategy is None:
                raise disagreement(f"parameter {name}", "gradients")
            strategies[name] = strategy
    return strategies


def _wrong(engine: HooksEngine, model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any) -> list[str]:
    """The parameters whose strategies miss a use of them, or whose gradients differ from the loop's by more than rounding."""
    escaping = engine.escaping(batch)
    if escaping:
        return [name for name in parameters if name in escaping]

    def compare(batch: Any) -> dict[str, float]:
        refused: list[NotSeparableError] = []
        wrong = differences_from_loop(
            lambda samples: engine.attempt(samples, refused.append), model, task, parameters, batch, refused
        )
        for error in refused:
            wrong |= {name: math.inf for name in parameters if engine.passes(name, error.site[0])}
        return wrong

    return confirmed_differences(compare, model, task, parameters, batch)


def _first(batch: Any, count: int) -> Any:
    """The first samples of a batch. A single sample is doubled, so that a batch axis can be recognised."""

    def cut(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf[:count] if count > 1 else torch.cat([leaf[:1], leaf[:1]])
        return (leaf[:count] if count > 1 else leaf * 2) if isinstance(leaf, list | tuple) else leaf

    return map_leaves(cut, batch)
