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

A rule may have several forms, of which ``trak featurize`` chooses the fastest for each layer
(:mod:`~trak_cli.gradients.tuning.forms`).

A parameter that the first samples do not use and that has no rule is ``UNUSED``: its gradient is not computed, and a later
sample that uses it is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor, nn

from trak_cli.gradients.rules.registry import factors_of, has_rule
from trak_cli.plurals import counted
from trak_cli.types import listed

#: Canonical parameter name -> the name of the enclosing module, or VMAP, LOOP or UNUSED. Parameters with rules have no entry,
#: or FORM followed by the name of a form of the rule.
Strategies = Mapping[str, str]

VMAP, LOOP, UNUSED, FORM = ":vmap", ":loop", ":unused", ":form "


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
    same = takewhile(lambda steps: len(set(steps)) == 1, zip(*(module.split(".") for module in modules), strict=False))
    return ".".join(steps[0] for steps in same)


def forms_in(strategies: Strategies) -> dict[str, str]:
    """The parameters that are computed by a certain form of their rule: name -> the name of the form."""
    return {name: strategy.removeprefix(FORM) for name, strategy in strategies.items() if strategy.startswith(FORM)}


def materialized_parameters(parameters: Mapping[str, Tensor], strategies: Strategies) -> list[Tensor]:
    """The parameters whose per-sample gradients for a microbatch exist in memory all at once: those not computed by rules."""
    ruled = {UNUSED, *(strategy for strategy in strategies.values() if strategy.startswith(FORM))}
    return [parameter for name, parameter in parameters.items() if strategies.get(name, UNUSED) not in ruled]


def describe_strategies(parameters: Iterable[str], strategies: Strategies) -> str:
    """One sentence for the log: how many parameter tensors are computed by which strategy."""
    names = list(parameters)
    forms = forms_in(strategies)
    strategies = {name: strategy for name, strategy in strategies.items() if name not in forms}
    ruled = sum(name not in strategies for name in names)
    rules = f"by the rules of their layers{_counted(forms)}"
    parts = [f"{ruled} of {counted(len(names), 'parameter tensor')} {rules}"] if ruled else []
    ways = {VMAP: "by vmap over the model", LOOP: "by the loop", UNUSED: "not used by the model"}
    used = {way: listed([name for name in names if strategies.get(name) == way]) for way in dict.fromkeys(strategies.values())}
    parts += [f"{tensors} {ways.get(strategy, f'by vmap over {strategy}')}" for strategy, tensors in used.items() if tensors]
    return "; ".join(parts)


def _counted(forms: Mapping[str, str]) -> str:
    """How many parameters each form computes, in parentheses."""
    counts = Counter(forms.values())
    return f" ({', '.join(f'{count} by form {form}' for form, count in sorted(counts.items()))})" if counts else ""
