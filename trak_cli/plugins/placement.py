"""Where the parts of a model compute (``device_map``), and models without memory for weights that a file holds."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.types import listed
from trak_cli.weight_copies import compute_on, return_to

#: A part of the model whose weights stay where they were loaded, and are copied to ``device`` when it is called.
OFFLOAD = "offload"

#: The share of a GPU's free memory that ``device_map=auto`` fills with weights; the rest is for activations and gradients.
_SHARE = 0.6


@dataclass(frozen=True)
class Placement:
    """Attributes:
    device_map: dotted name of a module -> its device, or OFFLOAD; or "auto". Everything else is at ``home``.
    home: the device of inputs and outputs, and where parts compute that are offloaded.
    device: the device of a name; refuses one that does not exist.
    """

    device_map: Mapping[str, str] | str
    home: torch.device
    device: Callable[[str], torch.device] = torch.device

    def place(self, model: nn.Module) -> None:
        """Put the parts of a model on their devices; calls then move what they compute from one to the next.

        Raises:
            ConfigError: names that the model does not have, or one inside another.
            InputError: parameters that the checkpoint does not hold.
            MachineError: a device that does not exist.
        """
        empty = [name for name, value in model.named_parameters() if value.is_meta]
        if empty:
            found = f"{listed(empty)}, without values in the checkpoint"
            remedy = "use a checkpoint with all weights, or remove device_map"
            raise InputError(Problem("device_map", found, "a checkpoint that holds every parameter", remedy))
        chosen = auto_map(model, _budgets(self.home)) if isinstance(self.device_map, str) else self.device_map
        ConfigError.raise_for(_name_problems(chosen, [name for name, _ in model.named_modules() if name]))
        devices = {name: self.home if where == OFFLOAD else self.device(where) for name, where in chosen.items()}
        taken: set[int] = set()
        for name, device in devices.items():
            part = model.get_submodule(name)
            if chosen[name] != OFFLOAD:
                _move(part, device, taken)
            taken |= {id(tensor) for tensor in _tensors(part)}
        _move(model, self.home, taken)
        self._hook(model, "", devices)
        return_to(model, self.home)

    def _hook(self, module: nn.Module, name: str, devices: Mapping[str, torch.device]) -> None:
        """Make a part compute on its device, or else the largest modules in it that are in no part."""
        if name in devices or not any(part.startswith(f"{name}." if name else "") for part in devices):
            compute_on(module, devices.get(name, self.home))
            return
        for local, child in module.named_children():
            self._hook(child, f"{name}.{local}" if name else local, devices)


def _move(module: nn.Module, device: torch.device, taken: set[int]) -> None:
    """Move the tensors of a module, except for those in ``taken``."""
    for tensor in _tensors(module):
        if id(tensor) not in taken and tensor.device != device:
            tensor.data = tensor.data.to(device)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _name_problems(device_map: Mapping[str, str], names: Sequence[str]) -> Iterator[Problem]:
    for name in device_map:
        outer = [other for other in device_map if name.startswith(f"{other}.")]
        if name not in names:
            meant = difflib.get_close_matches(name, names, n=1)
            remedy = f"did you mean {meant[0]}?" if meant else f"choose one of them, for example {listed(names)}"
            yield Problem("device_map", f"{name!r}", "dotted names of modules of the model", remedy)
        elif outer:
            yield Problem(
                "device_map", f"{name} inside {outer[0]}", "modules that do not contain one another", f"remove {name}"
            )


def auto_map(model: nn.Module, budgets: Sequence[tuple[str, int]]) -> dict[str, str]:
    """A device for every part of the model, in the order of the model, and OFFLOAD for what does not fit.

    A part is an element of a list or sequence of modules, or a module without one, because blocks with a residual connection
    compute on one device.

    Args:
        budgets: (device, bytes for weights), in the order in which they are filled.
    """
    chosen: dict[str, str] = {}
    waiting = [*budgets, (OFFLOAD, 0)]
    left, counted = waiting[0][1], set[int]()
    for name, module in _parts(model, ""):
        tensors = {id(tensor): tensor for tensor in _tensors(module) if id(tensor) not in counted}
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        counted |= tensors.keys()
        while needed > left and waiting[0][0] != OFFLOAD:
            waiting.pop(0)
            left = waiting[0][1]
        chosen[name] = waiting[0][0]
        left -= needed
    return chosen


def _parts(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    for local, child in module.named_children():
        full = f"{name}.{local}" if name else local
        if _is_list(module) or not any(map(_is_list, child.modules())):
            yield full, child
        else:
            yield from _parts(child, full)


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.Sequential)


def _budgets(home: torch.device) -> list[tuple[str, int]]:
    """The GPUs that this process sees, its own first, each with the bytes for weights; none if it computes on the CPU."""
    if home.type != "cuda":
        return []
    first = home.index or 0
    order = [first, *(index for index in range(torch.cuda.device_count()) if index != first)]
    return [(f"cuda:{index}", int(_SHARE * torch.cuda.mem_get_info(index)[0])) for index in order]


@contextmanager
def empty_parameters() -> Iterator[None]:
    """Inside, parameters of new modules get shapes but no memory (device "meta"); buffers and lazy parameters are ordinary.

    A parameter that two modules share stays one parameter.
    """
    before = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: Any) -> None:
        before(module, name, parameter)
        own = module._parameters[name]
        if own is not None and not own.is_meta and not is_lazy(own):
            module._parameters[name] = nn.Parameter(own.detach().to("meta"), own.requires_grad)

    try:
        nn.Module.register_parameter = register  # type: ignore[assignment, method-assign]
        yield
    finally:
        nn.Module.register_parameter = before  # type: ignore[method-assign]
