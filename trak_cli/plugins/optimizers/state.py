"""Reads the ``state_dict`` of an optimizer: the kind of optimizer, and the values by which it divided gradients."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trak_cli.plugins.checkpoints.formats.tensors import StoredTensor

#: Levels of mappings and lists that are searched for a state: ``{"state": {"optimizer": …}}`` has two.
_DEPTH = 3


@dataclass(frozen=True)
class Moments:
    """The values by which an optimizer divided the gradient of one parameter.

    Attributes:
        second: second moments v of the gradient, in the shape of the parameter, without the bias of their start at zero.
        eps: added to √v.
        newest: weight of the newest gradient in v, 1 − β₂.
    """

    second: Tensor
    eps: float
    newest: float


#: (state of one parameter, hyperparameters of its group) -> moments.
ReadMoments = Callable[[Mapping[str, Any], Mapping[str, Any]], Moments]


@dataclass(frozen=True)
class Optimizer:
    """A kind of optimizer.

    Attributes:
        name: for messages.
        adaptive: whether it divides gradients by the root of their second moments; None if this is not known.
        read: reads the moments of a parameter; None if they cannot be read.
    """

    name: str
    adaptive: bool | None
    read: ReadMoments | None = None


@dataclass(frozen=True)
class Slot:
    """One parameter in the state of an optimizer.

    Attributes:
        name: its name; None in a state that numbers parameters.
        state, group: its state (empty if no step has changed it), and the hyperparameters of its group.
    """

    name: str | None
    state: Mapping[str, Any]
    group: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the parameter, if its state contains it."""
        for key, value in self.state.items():
            if isinstance(value, Tensor | StoredTensor) and key != "step":
                return tuple(value.shape)
        return None

    def values(self) -> Mapping[str, Any]:
        """Its state without first moments, read from disk where it is still there."""
        kept = {key: value for key, value in self.state.items() if key != "exp_avg"}
        return {key: value.read() if isinstance(value, StoredTensor) else value for key, value in kept.items()}


@dataclass(frozen=True)
class OptimizerState:
    """The state of an optimizer: its kind, and the parameters of each group, in order."""

    optimizer: Optimizer
    groups: tuple[tuple[Slot, ...], ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The parameters of all groups, in order."""
        return tuple(slot for group in self.groups for slot in group)


def find_states(content: object, key: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, OptimizerState]]:
    """Every optimizer state in the content of a file, with its key."""
    if isinstance(content, list | tuple) and depth:
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        return
    nested = [("", content)] if isinstance(content.get("state"), Mapping) else []
    states = {name: state for name, value in (*nested, *_nested(content).items()) if (state := _as_state(value)) is not None}
    for name, state in states.items():
        yield ".".join(filter(None, (key, name))), state
    if depth and not states:
        for name, value in content.items():
            if isinstance(value, Mapping | list | tuple):
                yield from find_states(value, f"{key}.{name}" if key else str(name), depth - 1)


def _as_state(content: Mapping[Any, Any]) -> OptimizerState | None:
    states, groups = content.get("state"), content.get("param_groups")
    if not isinstance(states, Mapping) or not isinstance(groups, list) or not groups:
        return None
    if not all(isinstance(group, Mapping) and isinstance(group.get("params"), list | tuple) for group in groups):
        return None
    slots = tuple(tuple(_slots(states, group)) for group in groups)
    return OptimizerState(_kind([slot for group in slots for slot in group]), slots)


def _nested(content: Mapping[Any, Any]) -> dict[str, Mapping[str, Any]]:
    """The states among the flat keys of torch.distributed.checkpoint: prefix of the keys -> nested state.

    Keys are ``optimizer.state.NAME.exp_avg_sq``, and ``optimizer.param_groups`` or ``optimizer.param_groups.NAME.lr``.
    """
    states: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    lists: dict[str, Any] = {}
    for key, value in content.items():
        match = _FLAT.fullmatch(str(key))
        if match is None:
            continue
        front, kind, name, item = match.groups()
        if name is not None:
            states.setdefault(front or "", {}).setdefault(kind, {}).setdefault(name, {})[item] = value
        elif kind == "param_groups":
            lists[front or ""] = value
    return {
        front: {"state": parts.get("state", {}), "param_groups": lists.get(front) or _groups(parts.get("param_groups", {}))}
        for front, parts in states.items()
    }


def _groups(flat: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Parameter groups by their numbers; for a state without numbers, one group for each name."""
    if all(name.isdecimal() and "params" in group for name, group in flat.items()):
        return [flat[number] for number in sorted(flat, key=int)]
    return [{**group, "params": [name]} for name, group in flat.items()]


_FLAT = re.compile(r"(?:(.+?)\.)?(state|param_groups)(?:\.(.+)\.([^.]+))?")


def _slots(states: Mapping[Any, Any], group: Mapping[str, Any]) -> Iterator[Slot]:
    parameters, names = group["params"], group.get("param_names")
    if not isinstance(names, list | tuple) or len(names) != len(parameters):
        names = [item if isinstance(item, str) and not item.isdecimal() else None for item in parameters]
    for item, name in zip(parameters, names, strict=True):
        state = states.get(item, states.get(str(item), {}))
        values = {key: value for key, value in state.items() if value is not None} if isinstance(state, Mapping) else {}
        yield Slot(name, values, group)


def _kind(slots: list[Slot]) -> Optimizer:
    """The optimizer with these state keys. A state with further keys belongs to an unknown optimizer."""
    keys = {key for slot in slots for key in slot.state}
    settings = {key for slot in slots for key in slot.group}
    if not keys:
        return SGD if "dampening" in settings else ADAM if "amsgrad" in settings else _unknown(settings)
    for needed, allowed, optimizer in _KINDS:
        if needed <= keys <= allowed and not ("ns_steps" in settings and optimizer is SGD):  # Muon has a momentum_buffer too
            return optimizer
    return _unknown(keys)


def _unknown(keys: set[str]) -> Optimizer:
    return Optimizer(f"an unknown optimizer (its state has {', '.join(sorted(keys)[:6]) or 'no keys'})", adaptive=None)


def _adam(state: Mapping[str, Any], group: Mapping[str, Any]) -> Moments:
    second = state["max_exp_avg_sq"] if group.get("amsgrad") and "max_exp_avg_sq" in state else state["exp_avg_sq"]
    beta = float(group["betas"][1])
    step = state.get("step", group.get("step"))
    bias = 1.0 if step is None else 1.0 - beta ** float(step)
    return Moments(second.double() / (bias or 1.0), float(group.get("eps", 1e-8)), 1.0 - beta)


def _rmsprop(state: Mapping[str, Any], group: Mapping[str, Any]) -> Moments:
    second = state["square_avg"].double()
    if "grad_avg" in state:  # centred
        second = (second - state["grad_avg"].double().square()).clamp(min=0)
    return Moments(second, float(group.get("eps", 1e-8)), 1.0 - float(group.get("alpha", 0.99)))


def _adagrad(state: Mapping[str, Any], group: Mapping[str, Any]) -> Moments:
    steps = max(float(state.get("step", 1)), 1.0)
    return Moments(state["sum"].double(), float(group.get("eps", 1e-10)), 1.0 / steps)


ADAM = Optimizer("Adam or AdamW", True, _adam)
SGD = Optimizer("SGD", False)

_STEP = {"step"}

#: (keys that some parameter has, keys that may occur, optimizer).
_KINDS: tuple[tuple[set[str], set[str], Optimizer], ...] = (
    ({"exp_avg_sq"}, _STEP | {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "mu_product"}, ADAM),  # NAdam and RAdam too
    ({"momentum_buffer"}, {"momentum_buffer"}, SGD),
    ({"square_avg"}, _STEP | {"square_avg", "momentum_buffer", "grad_avg"}, Optimizer("RMSprop", True, _rmsprop)),
    ({"sum"}, _STEP | {"sum"}, Optimizer("Adagrad", True, _adagrad)),
    ({"exp_inf"}, _STEP | {"exp_avg", "exp_inf"}, Optimizer("Adamax", True)),
    ({"acc_delta"}, _STEP | {"square_avg", "acc_delta"}, Optimizer("Adadelta", True)),
    (
        {"exp_avg_sq_row"},
        _STEP | {"exp_avg", "exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col", "RMS"},
        Optimizer("Adafactor", True),
    ),
    ({"row_var"}, _STEP | {"row_var", "col_var", "variance"}, Optimizer("Adafactor", True)),
    (
        {"state1", "state2"},
        _STEP | {f"{name}{i}" for name in ("state", "qmap", "absmax", "new_max", "max") for i in (1, 2)} | {"unorm_vec"},
        Optimizer("Adam or AdamW of bitsandbytes", True),
    ),
)


def effective(moments: Moments) -> Tensor:
    """The squared divisor of each coordinate of the gradient in a step, float64, in the shape of the parameter.

    The step that a sample takes part in first adds its gradient to v. It is counted with the parameter's mean square, so that
    coordinates whose moments are zero (words that never occurred) or have decayed do not get an unlimited scale.
    """
    with torch.no_grad():
        second = moments.second
        return ((second + moments.newest * second.mean()).sqrt() + moments.eps).square()
