"""Measures the forms of the gradient rules of a model's layers, and chooses one for each shape of layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trak_cli.gradients.checks.compare import difference, gradient_of
from trak_cli.gradients.checks.tolerances import TOLERANCES
from trak_cli.gradients.engines.hooks.engine import HooksEngine
from trak_cli.gradients.engines.hooks.strategies import FORM
from trak_cli.gradients.numerics import computing
from trak_cli.gradients.rules.registry import Compute, RuleCall
from trak_cli.gradients.tuning.clock import Clock, cpu_clock, timed, undisturbed
from trak_cli.types import Block

#: Rounds in which every form of a layer runs once.
_ROUNDS = 2

#: A form is chosen if it takes at most this share of the time of the rule itself, so that repeated runs choose alike.
_FASTER = 0.85

#: Samples on which the gradients of a form are compared with those of the rule.
_COMPARED = 2

#: With fewer samples in a run, measuring takes longer than it can save.
LEAST_SAMPLES = 256


def fastest_forms(engine: HooksEngine, batch: Any, clock: Clock = cpu_clock) -> dict[str, str]:
    """The strategies of the parameters for which a form of their rule is faster than the rule, with the same gradients.

    Layers with the same arguments and the same shape of input are measured once.
    """
    chosen: dict[tuple[object, ...], str | None] = {}
    strategies: dict[str, str] = {}
    for call in engine.calls_with_forms(batch):
        key = (type(call.layer), call.layer.extra_repr(), call.x.shape, call.x.dtype, tuple(call.names))
        if key not in chosen:
            chosen[key] = _fastest(call, clock)
        form = chosen[key]
        if form is not None:
            strategies |= dict.fromkeys(call.names.values(), FORM + form)
    return strategies


def _fastest(call: RuleCall, clock: Clock) -> str | None:
    """The name of the fastest form, or None for the rule itself."""
    expected = _gradients(call, call.rule.compute)
    allowed = TOLERANCES.get(call.x.dtype, TOLERANCES[torch.float32]).parameter
    same = {
        name: compute for name, compute in call.rule.forms.items() if _distance(_gradients(call, compute), expected) <= allowed
    }
    works: dict[str | None, Callable[[], None]] = {None: partial(_read, call, call.rule.compute)}
    works |= {name: partial(_read, call, compute) for name, compute in same.items()}
    rounds = [{name: timed(work, clock) for name, work in works.items()} for _ in range(_ROUNDS)]
    seconds = {name: undisturbed([readings[name] for readings in rounds]) for name in works}
    best = min(works, key=lambda name: seconds[name])
    return best if seconds[best] <= _FASTER * seconds[None] else None


def _gradients(call: RuleCall, compute: Compute) -> list[dict[str, Tensor]]:
    """The gradients of the first samples by one form."""
    parameters = {name: dict(call.layer.named_parameters())[local] for local, name in call.names.items()}
    few = slice(_COMPARED)
    blocks = list(computing(compute(call.layer, call.x[few], call.g[few], call.names)))
    return [gradient_of(parameters, blocks, sample) for sample in range(min(_COMPARED, len(call.x)))]


def _distance(gradients: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> float:
    return max(difference(*pair) for pair in zip(gradients, expected, strict=True))


def _read(call: RuleCall, compute: Compute) -> None:
    """Compute all gradients of a call, and read each number once, as a projection does."""
    total = torch.zeros((), device=call.x.device)
    for block in computing(compute(call.layer, call.x, call.g, call.names)):
        total += (block.gradient if isinstance(block, Block) else block.values).sum()
    total.item()  # waits for a GPU
