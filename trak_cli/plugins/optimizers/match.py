"""Which parameter of a model each entry of an optimizer's state belongs to.

PyTorch numbers parameters unless it was given names. Numbers are translated only if groups, order and shapes leave one way,
or if of several ways one is that of a known rule for weight decay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from trak_cli.plugins.checkpoints.matching.places import WRAPPERS
from trak_cli.plugins.optimizers.state import OptimizerState, Slot
from trak_cli.plurals import counted

Shape = tuple[int, ...]

#: Most partial assignments that are followed at the same time.
_STATES = 2_000


class UnmatchedError(Exception):
    """The entries of the state cannot be assigned to parameters without doubt; the message gives the reason."""


@dataclass(frozen=True)
class Parameter:
    """A parameter that an optimizer may have had.

    Attributes:
        name: its name in the model; None if the model does not have it (part of a loss, say).
        optional: whether the optimizer may have been given others only.
    """

    name: str | None
    shape: Shape
    optional: bool = False


def match(state: OptimizerState, model: nn.Module, weights: Mapping[str, Shape]) -> dict[str, Slot]:
    """Canonical parameter name -> its entry; parameters that no step has changed have none.

    Args:
        weights: name -> shape of the weights in the checkpoint, in the order of the trained model; empty if it is not known.

    Raises:
        UnmatchedError: a name or shape of the state fits no parameter, or parameters fit in several ways.
    """
    own = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    named = all(slot.name is not None for slot in state.slots)
    matched = _by_name(state.slots, model) if named else _by_order(state, model, weights)
    for name, slot in matched.items():
        if slot.shape not in (None, own[name]):
            raise UnmatchedError(f"it has the shape {slot.shape} for {name}, which has {own[name]} in the model")
    stepped = {name: slot for name, slot in matched.items() if slot.state}
    if not stepped:
        raise UnmatchedError("it has no entry for any parameter of the model")
    return stepped


def bare(name: str) -> str:
    """A name without the parts that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def canonical_names(names: Sequence[str], model: nn.Module) -> dict[str, str]:
    """Name of a trained module -> canonical name in the model, for the names that the model has.

    The model may be a part of the trained module: the prefix that most names have in front is removed.
    """
    first: dict[int, str] = {}
    known = {bare(n): first.setdefault(id(tensor), n) for n, tensor in model.named_parameters(remove_duplicate=False)}
    by_prefix: dict[str, dict[str, str]] = {}
    for name in names:
        parts = bare(name).split(".")
        for cut in range(len(parts)):
            if (rest := ".".join(parts[cut:])) in known:
                by_prefix.setdefault(".".join(parts[:cut]), {})[name] = known[rest]
    return max(by_prefix.values(), key=len, default={})


def _by_name(slots: Sequence[Slot], model: nn.Module) -> dict[str, Slot]:
    names = canonical_names([str(slot.name) for slot in slots], model)
    matched: dict[str, Slot] = {}
    for slot in slots:
        canonical = names.get(str(slot.name))
        if canonical in matched and matched[canonical].state and slot.state:
            raise UnmatchedError(f"it has two entries for {canonical}")
        if canonical is not None and (canonical not in matched or slot.state):
            matched[canonical] = slot
    return matched


def _by_order(state: OptimizerState, model: nn.Module, weights: Mapping[str, Shape]) -> dict[str, Slot]:
    for parameters in _candidates(model, weights):
        ways = assignments([[slot.shape for slot in group] for group in state.groups], parameters)
        if len(ways) > 1:
            ways = _by_rule(state, model, parameters)
        if len(ways) == 1:
            pairs = zip(ways[0], (slot for group in state.groups for slot in group), strict=True)
            return {name: slot for place, slot in pairs if (name := parameters[place].name) is not None}
        if ways:
            raise UnmatchedError(f"its {_counted(state)} fit the model in more than one way, and it has no names")
    raise UnmatchedError(f"its {_counted(state)} do not fit the model, by number, order and shapes")


def _counted(state: OptimizerState) -> str:
    groups = f" in {counted(len(state.groups), 'group')}" if len(state.groups) > 1 else ""
    return f"{counted(len(state.slots), 'parameter')}{groups}"


def _candidates(model: nn.Module, weights: Mapping[str, Shape]) -> list[list[Parameter]]:
    """Possible parameter lists of the optimizer, likelier ones first, each in the order of the trained model."""
    own = dict(model.named_parameters())
    names = canonical_names(list(weights), model)
    order = {name: names.get(name) for name in weights} if set(names.values()) == set(own) else {name: name for name in own}
    buffers = {bare(name) for name, _ in model.named_buffers()}
    every: list[Parameter] = []
    seen: set[str] = set()
    for name, canonical in order.items():
        if canonical is None:
            if not any(bare(name) == buffer or bare(name).endswith(f".{buffer}") for buffer in buffers):
                every.append(Parameter(None, weights[name], optional=True))
        elif canonical not in seen:  # a tied weight comes once
            seen.add(canonical)
            every.append(Parameter(canonical, tuple(own[canonical].shape)))
    trained = [item for item in every if item.name is None or own[item.name].requires_grad]
    return [every, trained, [Parameter(item.name, item.shape, optional=True) for item in every]]


def assignments(groups: Sequence[Sequence[Shape | None]], parameters: Sequence[Parameter]) -> list[list[int]]:
    """Ways to give each group, in order, some of the parameters, also in order: none, the only one, or two of several.

    Args:
        groups: the shapes that each group has; None fits any.

    Returns:
        for each way: the positions in ``parameters`` of the entries of all groups.
    """
    total = sum(map(len, groups))
    ways: dict[tuple[int, ...], list[_Path]] = {tuple(0 for _ in groups): [None]}  # entries of each group so far -> choices
    for position, parameter in enumerate(parameters):
        longer: dict[tuple[int, ...], list[_Path]] = {}
        for taken, paths in ways.items():
            if parameter.optional and total - sum(taken) < len(parameters) - position:
                _extend(longer, taken, paths, -1)
            for group, shapes in enumerate(groups):
                if taken[group] < len(shapes) and shapes[taken[group]] in (None, parameter.shape):
                    _extend(longer, (*taken[:group], taken[group] + 1, *taken[group + 1 :]), paths, group)
        if len(longer) > _STATES:
            return [[], []]
        ways = longer
    full = ways.get(tuple(map(len, groups)), [])
    return [_positions(path, len(groups), len(parameters)) for path in full]


#: (group of the last parameter or -1 for none, choices for the parameters before it).
_Path = tuple[int, Any] | None


def _extend(ways: dict[tuple[int, ...], list[_Path]], taken: tuple[int, ...], paths: list[_Path], group: int) -> None:
    """Add one more choice to at most two paths. Two paths are enough to show that the choice is not unique."""
    known = ways.setdefault(taken, [])
    known += [(group, path) for path in paths[: 2 - len(known)]]


def _positions(path: _Path, groups: int, count: int) -> list[int]:
    of_group: list[list[int]] = [[] for _ in range(groups)]
    for position in reversed(range(count)):
        if path is not None:
            group, path = path
            if group >= 0:
                of_group[group].append(position)
    return [position for positions in of_group for position in reversed(positions)]


#: Names to which the Hugging Face Trainer applies no weight decay.
_NOT_DECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def _by_rule(state: OptimizerState, model: nn.Module, parameters: Sequence[Parameter]) -> list[list[int]]:
    """The assignments of known rules that fit: decayed parameters first, then biases (and norms), each in order.

    If weight decay differs, the group without it has the biases.
    """
    decay = [float(group[0].group.get("weight_decay", 0.0)) if group else 0.0 for group in state.groups]
    if len(state.groups) != 2 or any(item.optional for item in parameters):
        return [[], []]
    norms = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
        for name, _ in module.named_parameters(recurse=False)
    }
    rules: list[set[str | None]] = [
        {item.name for item in parameters if item.name in norms or _NOT_DECAYED.search(str(item.name).lower())},
        {item.name for item in parameters if "bias" in str(item.name)},
    ]
    fitting: list[list[int]] = []
    for plain in rules:
        parts = [[i for i, item in enumerate(parameters) if (item.name in plain) == bias] for bias in (False, True)]
        if decay[0] < decay[1]:
            parts.reverse()
        if all(_fits(group, part, parameters) for group, part in zip(state.groups, parts, strict=True)):
            fitting.append([*parts[0], *parts[1]])
    return [way for i, way in enumerate(fitting) if way not in fitting[:i]] or [[], []]


def _fits(group: Sequence[Slot], part: Sequence[int], parameters: Sequence[Parameter]) -> bool:
    return len(group) == len(part) and all(
        slot.shape == parameters[position].shape for slot, position in zip(group, part, strict=True)
    )
