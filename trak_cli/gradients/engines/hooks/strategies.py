"""By which way each parameter's per-sample gradients are computed, and the search for a way that is right.

The ways, in the order in which they are tried:

1. the closed forms of the layers that hold the parameter (:mod:`~trak_cli.gradients.engines.hooks.layers`);
2. vmap over one module that encloses every use of it, from what flowed in and out of that module
   (:mod:`~trak_cli.gradients.engines.hooks.vmap_submodule`), the smallest such module first;
3. vmap over the whole model; 4. the loop.

A way is right if it gives what the loop gives for the first samples, and if autograd reaches the parameter through the
recorded calls alone: behind a gate that is closed for these samples all gradients are zero, by any way.

A parameter that the first samples do not use at all and that has no layer of its own is not computed but watched: a
later sample that uses it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trak_cli.gradients.engines.hooks.layers import has_closed_form

#: Canonical parameter name -> the name of the enclosing module, or one of the words below. Closed forms need no entry.
Routes = Mapping[str, str]

VMAP, LOOP, UNUSED = ":vmap", ":loop", ":unused"


@dataclass(frozen=True)
class Owner:
    """A module that holds a parameter, under a name of its own."""

    module: str
    local: str


def owners(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, list[Owner]]:
    """Every holder of each parameter: several where weights are tied."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    found: dict[str, list[Owner]] = {name: [] for name in parameters}
    for module_name, module in model.named_modules():
        for local, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in names:
                found[names[id(parameter)]].append(Owner(module_name, local))
    return found


def first_routes(model: nn.Module, parameters: Mapping[str, Tensor], unused: Collection[str] = ()) -> dict[str, str]:
    """The first way to try for each parameter that has no closed form everywhere; ``unused``: no output depends on it."""
    modules = dict(model.named_modules())
    routes = {}
    for name, holders in owners(model, parameters).items():
        closed = all(has_closed_form(modules[owner.module]) and owner.local in ("weight", "bias") for owner in holders)
        if not closed:
            routes[name] = UNUSED if name in unused else _checked(modules, _enclosing([owner.module for owner in holders]))
    return routes


def next_route(model: nn.Module, name: str, parameter: Tensor, route: str | None) -> str | None:
    """The way to try after ``route`` (None: the closed forms) has failed; None after the last."""
    if route == LOOP:
        return None
    if route == VMAP:
        return LOOP
    modules = dict(model.named_modules())
    if route in (None, UNUSED):
        return _checked(modules, _enclosing([owner.module for owner in owners(model, {name: parameter})[name]]))
    assert route is not None
    return _checked(modules, _around(route))


def _checked(modules: Mapping[str, nn.Module], module: str) -> str:
    """The smallest module around this one that hooks can watch, as they cannot what is compiled for TorchScript.

    vmap over the whole task takes the place of vmap over the outermost module.
    """
    while module and isinstance(modules[module], torch.jit.ScriptModule):
        module = _around(module)
    return module or VMAP


def _around(module: str) -> str:
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


def whole_routed(parameters: Mapping[str, Tensor], routes: Routes) -> list[Tensor]:
    """The parameters whose per-sample gradients exist whole, for a microbatch at once, because no layer tells them by parts."""
    return [one for name, one in parameters.items() if routes.get(name, UNUSED) != UNUSED]


def describe_routes(parameters: Iterable[str], routes: Routes) -> str:
    """One sentence for the log: how many parameter tensors go which way."""
    names = list(parameters)
    closed = sum(name not in routes for name in names)
    parts = [f"{closed} of {len(names)} parameter tensors by their layers' own formulas"] if closed else []
    say: dict[str, Callable[[str], str]] = {
        VMAP: lambda tensors: f"{tensors} by vmap over the whole model",
        LOOP: lambda tensors: f"{tensors} by the loop",
        UNUSED: lambda tensors: f"{tensors} not used by the model",
    }
    for way in dict.fromkeys(routes.values()):
        tensors = [name for name in names if routes.get(name) == way]
        shown = ", ".join(tensors[:3]) + (f" and {len(tensors) - 3} more" if len(tensors) > 3 else "")
        if tensors:
            parts.append(say[way](shown) if way in say else f"{shown} by vmap over {way}")
    return "; ".join(parts)
