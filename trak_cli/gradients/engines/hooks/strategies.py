"""The strategies by which the hooks engine computes a parameter's per-sample gradients, and the order in which they are tried.

1. The gradient rules of the layers that hold the parameter (:mod:`~trak_cli.gradients.rules`).
2. vmap over one module that encloses every use of the parameter, from the recorded inputs and output gradients of that module
   (:mod:`~trak_cli.gradients.engines.hooks.vmap_submodule`), starting with the smallest such module.
3. vmap over the complete model.
4. The loop.

A complex parameter starts with the third, because the first two combine real gradients only.

A strategy is accepted if its gradients equal the loop's for the first samples and if every path of the autograd graph from the
outputs to the parameter passes through the recorded calls. The second condition is needed because a gate that is closed for
these samples makes all gradients behind it zero, by any strategy.

A parameter that the first samples do not use and that has no rule is ``UNUSED``: its gradient is not computed, and a later
sample that uses it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trak_cli.gradients.rules.registry import has_rule
from trak_cli.types import listed

#: Canonical parameter name -> the name of the enclosing module, or VMAP, LOOP or UNUSED. Parameters with rules have no entry.
Strategies = Mapping[str, str]

VMAP, LOOP, UNUSED = ":vmap", ":loop", ":unused"


@dataclass(frozen=True)
class Owner:
    """A module that holds a parameter, and the parameter's name in it."""

    module: str
    local: str


def owners(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, list[Owner]]:
    """Canonical name of each parameter -> every module that holds it: several if weights are tied."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    holders: dict[str, list[Owner]] = {name: [] for name in parameters}
    for module_name, module in model.named_modules():
        for local, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in names:
                holders[names[id(parameter)]].append(Owner(module_name, local))
    return holders


def first_strategies(model: nn.Module, parameters: Mapping[str, Tensor], unused: Collection[str] = ()) -> dict[str, str]:
    """The first strategy to try for each parameter without rules; ``unused``: parameters that no output depends on."""
    modules = dict(model.named_modules())
    strategies = {}
    for name, holders in owners(model, parameters).items():
        if not all(has_rule(modules[owner.module], owner.local) for owner in holders):
            enclosing = "" if parameters[name].is_complex() else _enclosing([owner.module for owner in holders])
            strategies[name] = UNUSED if name in unused else _watchable(modules, enclosing)
    return strategies


def next_strategy(model: nn.Module, name: str, parameter: Tensor, strategy: str | None) -> str | None:
    """The strategy to try after ``strategy`` (None: the rules) has failed; None after the last."""
    if strategy == LOOP:
        return None
    if strategy == VMAP:
        return LOOP
    modules = dict(model.named_modules())
    if parameter.is_complex():
        return VMAP
    if strategy is None or strategy == UNUSED:
        return _watchable(modules, _enclosing([owner.module for owner in owners(model, {name: parameter})[name]]))
    return _watchable(modules, _parent(strategy))


def _watchable(modules: Mapping[str, nn.Module], module: str) -> str:
    """The smallest module around ``module`` that hooks can watch, which excludes modules compiled by TorchScript.

    For the outermost module it is vmap over the complete task.
    """
    while module and isinstance(modules[module], torch.jit.ScriptModule):
        module = _parent(module)
    return module or VMAP


def _parent(module: str) -> str:
    return module.rpartition(".")[0]


def _enclosing(modules: Iterable[str]) -> str:
    """The smallest module that encloses all of these (a module encloses itself); "" is the model."""
    paths = [module.split(".") for module in modules]
    shared = []
    for steps in zip(*paths, strict=False):
        if len(set(steps)) > 1:
            break
        shared.append(steps[0])
    return ".".join(shared)


def materialized_parameters(parameters: Mapping[str, Tensor], strategies: Strategies) -> list[Tensor]:
    """The parameters whose per-sample gradients for a microbatch exist in memory all at once: those not computed by rules."""
    return [parameter for name, parameter in parameters.items() if strategies.get(name, UNUSED) != UNUSED]


def describe_strategies(parameters: Iterable[str], strategies: Strategies) -> str:
    """One sentence for the log: how many parameter tensors are computed by which strategy."""
    names = list(parameters)
    ruled = sum(name not in strategies for name in names)
    parts = [f"{ruled} of {len(names)} parameter tensors by the rules of their layers"] if ruled else []
    say: dict[str, Callable[[str], str]] = {
        VMAP: lambda tensors: f"{tensors} by vmap over the model",
        LOOP: lambda tensors: f"{tensors} by the loop",
        UNUSED: lambda tensors: f"{tensors} not used by the model",
    }
    for strategy in dict.fromkeys(strategies.values()):
        tensors = [name for name in names if strategies.get(name) == strategy]
        shown = listed(tensors)
        if tensors:
            parts.append(say[strategy](shown) if strategy in say else f"{shown} by vmap over {strategy}")
    return "; ".join(parts)
