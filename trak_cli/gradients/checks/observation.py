"""Outputs of a model on a few batches, the parameters they depend on, and a trace that shows where two models differ."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from trak_cli.batches import batch_size
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.loop import backward
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.parameters import only
from trak_cli.gradients.refusals import checked_vector
from trak_cli.random_states import random_states_kept, set_random_states

#: Attributes that every module has.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))

#: Dtypes of tensors that a trace sums up.
_SUMMED = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32)

#: Numbers of a tensor that are digested at a time.
_CHUNK = 2**22


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module: sums over the absolute values of what it received and returned, and numbers of dimensions."""

    module: str
    received: float
    returned: float
    dims_received: tuple[int, ...]
    dims_returned: tuple[int, ...]


@dataclass
class Observation:
    """Outputs, parameters and calls of a model on some batches, by the keys of the batches.

    Attributes:
        outputs: of each batch, f of its samples, (B,) float64.
        reached: of each batch, the parameters that f depends on by a path of the autograd graph.
        calls: of each batch, the calls of modules in the order in which they ended.
    """

    outputs: dict[int, Tensor] = field(default_factory=dict)
    reached: dict[int, set[str]] = field(default_factory=dict)
    calls: dict[int, list[ModuleCall]] = field(default_factory=dict)


def observe(
    model: nn.Module, task: ModelOutput, batches: Mapping[int, Any], parameters: Mapping[str, Tensor], seen: Observation
) -> None:
    """Compute f and its gradient for some batches, in their order, and record them in ``seen``.

    Args:
        batches: key of a batch -> the batch.
        parameters: those whose gradients are computed; none if only outputs matter.
        seen: if the model raises an exception, it has what happened before.
    """
    with exact(), only(model, parameters), _tracing(model) as trace:
        for key, batch in batches.items():
            seen.calls[key] = trace.calls = []
            with warnings.catch_warnings(), _repeatable(model), torch.enable_grad():
                warnings.simplefilter("ignore")
                output = checked_vector(task.output(model, batch), batch_size(batch), "output")
                gradients = backward(output.sum(), parameters) if parameters and output.requires_grad else {}
                seen.reached[key] = {name for name, gradient in gradients.items() if gradient is not None}
            seen.outputs[key] = output.detach().double().cpu()


def observed_outputs(model: nn.Module, task: ModelOutput, singles: Sequence[Any]) -> Tensor:
    """f of samples that are collated alone, (number of samples,) float64, with fixed seeds of the random generators."""
    seen = Observation()
    observe(model, task, dict(enumerate(singles)), {}, seen)
    return torch.cat([seen.outputs[position] for position in range(len(singles))])


@contextmanager
def _repeatable(model: nn.Module) -> Iterator[None]:
    """Inside, the global random generators start from fixed seeds; afterwards they are restored."""
    devices = {parameter.device for parameter in model.parameters()}
    with random_states_kept(devices):
        set_random_states(0, devices)
        yield


def digests(model: nn.Module) -> dict[str, int]:
    """Name of each parameter and buffer -> a digest of its shape, dtype and values."""
    return {name: digest(tensor) for name, tensor in chain(model.named_parameters(), model.named_buffers())}


def digest(tensor: Tensor) -> int:
    """A weighted sum of the bits of a tensor, combined with its shape and dtype."""
    total = hash((tuple(tensor.shape), str(tensor.dtype)))
    try:
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    except RuntimeError:  # sparse, quantized, and other tensors without plain storage
        return hash((total, str(tensor.detach())))
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK].long()
        factors = torch.arange(1, len(part) + 1, device=part.device) % 65521 + 1
        total = hash((total, int((part * factors).sum())))
    return total


def attributes(model: nn.Module) -> dict[str, object]:
    """ "MODULE.ATTRIBUTE" -> a summary, for every attribute of a module that is no parameter, buffer or module."""
    summaries: dict[str, object] = {}
    for module_name, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in _OF_EVERY_MODULE:
                summaries[f"{module_name}.{name}".lstrip(".")] = _summary(value)
    return summaries


def holds_graph(model: nn.Module) -> list[str]:
    """The attributes and buffers of modules that hold a tensor with an autograd graph, such as a cached product of weights."""
    names = []
    for module_name, module in model.named_modules():
        for name, value in (*vars(module).items(), *module._buffers.items()):
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            leaves = tree_leaves(value) if isinstance(value, dict | list | tuple | Tensor) else []
            if any(isinstance(leaf, Tensor) and leaf.grad_fn is not None for leaf in leaves):
                names.append(f"{module_name}.{name}".lstrip("."))
    return names


def _summary(value: object, depth: int = 2) -> object:
    if isinstance(value, Tensor):
        return digest(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return (value.shape, hash(value.tobytes()))
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        return repr(value)
    if isinstance(value, torch.Generator):
        return digest(value.get_state())
    if isinstance(value, dict) and depth:
        return (len(value), [_summary(item, depth - 1) for item in list(value.values())[:16]])
    if isinstance(value, list | tuple) and depth:
        return (len(value), [_summary(item, depth - 1) for item in value[:16]])
    return type(value).__name__


@dataclass
class _Trace:
    calls: list[ModuleCall] = field(default_factory=list)


@contextmanager
def _tracing(model: nn.Module) -> Iterator[_Trace]:
    """Inside, calls of the modules are recorded."""
    trace = _Trace()
    handles = []

    def record(name: str, _: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        received = (args, kwargs)
        trace.calls.append(ModuleCall(name, _size(received), _size(output), _dims(received), _dims(output)))

    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            handles.append(module.register_forward_hook(partial(record, name), with_kwargs=True))
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()


def _dims(values: Any) -> tuple[int, ...]:
    return tuple(leaf.dim() for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _size(values: Any) -> float:
    """The sum of absolute values over all tensors of a nested container."""
    total = 0.0
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.layout == torch.strided and leaf.dtype in _SUMMED:
            total += float(leaf.detach().abs().sum(dtype=torch.float64))
    return total
