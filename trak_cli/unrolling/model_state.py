"""The tensors of a model that a training changes: reading them, and putting others into their places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

#: Everything that a training changes, by name: "parameter/NAME", "buffer/NAME" and "state/NAME/NUMBER" of the optimizer.
State = dict[str, Tensor]

_Places = dict[str, list[tuple[nn.Module, str]]]


class ModelState:
    """Puts tensors into a model as its parameters and buffers.

    Every step gets parameters of its own, because the graph of a step refers to them.

    Args:
        parameters: those that are trained; the others stay in their places.

    Attributes:
        names: their names.
        buffers: names of the buffers that training changes; set by the caller.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        by_id = {id(parameter): name for name, parameter in model.named_parameters()}
        self.names = [by_id[id(parameter)] for parameter in parameters]
        self.buffers: list[str] = []
        self._model = model
        self._originals = dict(zip(self.names, parameters, strict=True))
        self._original_buffers = dict(model.named_buffers())
        self._places = _places(model, "_parameters", self._originals)
        self._buffer_places = _places(model, "_buffers", self._original_buffers)

    def values(self) -> State:
        """Copies of the trained parameters and of the changing buffers that belong to the model."""
        values: State = {f"parameter/{name}": value for name, value in self._originals.items()}
        values |= {f"buffer/{name}": self._original_buffers[name] for name in self.buffers}
        return {name: value.detach().clone() for name, value in values.items()}

    def install(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put the parameters of a state into the model, and copies of its buffers.

        Returns:
            The new parameters, leaves of the graph that the model then builds, by their names in the state.
        """
        leaves: dict[str, Tensor] = {}
        for name in self.names:
            leaf = leaves[f"parameter/{name}"] = nn.Parameter(state[f"parameter/{name}"].detach())
            _put(self._places[name], leaf)
        for name in self.buffers:
            _put(self._buffer_places[name], state[f"buffer/{name}"].clone())
        return leaves

    def put_buffer(self, name: str, value: Tensor) -> None:
        """Put a tensor into the places of a buffer."""
        _put(self._buffer_places[name], value)

    def buffer(self, name: str) -> Tensor:
        """The tensor that is in the place of a buffer now."""
        module, local = self._buffer_places[name][0]
        return module._buffers[local]  # type: ignore[return-value]

    def all_buffers(self) -> dict[str, Tensor]:
        """The tensors that are in the places of all buffers now."""
        return {name: self.buffer(name) for name in self._original_buffers}

    def marks(self) -> dict[str, tuple[int, int]]:
        """Name -> identity and version of every tensor that a forward pass must leave alone: all but :attr:`buffers`."""
        parameters = {f"the parameter {name}": tensor for name, tensor in self._model.named_parameters()}
        fixed = self._original_buffers.keys() - set(self.buffers)
        tensors = parameters | {f"the buffer {name}": self.buffer(name) for name in sorted(fixed)}
        return {name: (id(tensor), tensor._version) for name, tensor in tensors.items()}

    def restore(self) -> None:
        """Put the tensors that belong to the model back into their places."""
        for name, parameter in self._originals.items():
            _put(self._places[name], parameter)
        for name, buffer in self._original_buffers.items():
            if self.buffer(name) is not buffer:
                _put(self._buffer_places[name], buffer)

    def write(self, state: Mapping[str, Tensor]) -> None:
        """Copy the parameters and buffers of a state into the tensors that belong to the model."""
        with torch.no_grad():
            for name, parameter in self._originals.items():
                parameter.copy_(state[f"parameter/{name}"])
            for name in self.buffers:
                self._original_buffers[name].copy_(state[f"buffer/{name}"])


def differentiable_names(state: Mapping[str, Tensor]) -> list[str]:
    """The tensors of a state that have an adjoint."""
    return [name for name, value in state.items() if is_differentiable(value)]


def is_differentiable(value: Tensor) -> bool:
    """Whether derivatives in a tensor exist."""
    return value.is_floating_point() or value.is_complex()


def packed(state: Mapping[str, Sequence[Tensor]]) -> State:
    """The state of an optimizer under the names that :data:`State` has for it."""
    return {f"state/{name}/{number}": value for name, values in state.items() for number, value in enumerate(values)}


def unpacked(state: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The inverse of :func:`packed`."""
    found: dict[str, list[Tensor]] = {}
    for name, value in state.items():
        kind, _, rest = name.partition("/")
        if kind == "state":
            found.setdefault(rest.rpartition("/")[0], []).append(value)
    return found


def _places(model: nn.Module, kind: str, tensors: Mapping[str, Tensor]) -> _Places:
    """Every module and attribute that holds each tensor: several for a tied one."""
    by_id = {id(tensor): name for name, tensor in tensors.items()}
    places: _Places = {name: [] for name in tensors}
    for module, local, tensor in _held(model, kind):
        if id(tensor) in by_id:
            places[by_id[id(tensor)]].append((module, local))
    return places


def _held(model: nn.Module, kind: str) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for module in model.modules():
        for local, tensor in getattr(module, kind).items():
            if tensor is not None:
                yield module, local, tensor


def _put(places: Sequence[tuple[nn.Module, str]], tensor: Tensor) -> None:
    for module, local in places:
        setattr(module, local, tensor)  # not into the dictionary: recurrent layers keep a list of their weights
