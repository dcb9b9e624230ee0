"""Weights that lie on another device than the one that computes: a module gets copies of them for the time of a call.

The copies belong to the autograd graph, whose leaves stay the parameters themselves. What autograd saves of a copy for its
backward pass is not kept: it is copied again when it is needed. So a device holds the weights of one module at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

#: (weight, device) -> a copy on the device, or the weight itself if it lies there.
Copy = Callable[[Tensor, torch.device], Tensor]


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device."""
    return tensor.to(device)


@contextmanager
def copied_weights(module: nn.Module, device: torch.device, copy: Copy = moved) -> Iterator[dict[int, Tensor]]:
    """Inside, the parameters and buffers of a module and of the modules in it are on the device, copied if need be.

    Yields:
        Address of the storage of each copy -> what it is a copy of.
    """
    copies: dict[int, tuple[Tensor, Tensor]] = {}  # id of the original -> original and copy
    replaced: list[tuple[dict[str, Any], str, Tensor, Tensor]] = []
    for owner in module.modules():
        for tensors in cast(list[dict[str, Any]], [owner._parameters, owner._buffers]):
            for name, original in tensors.items():
                if original is not None and not (copy is moved and original.device == device):
                    if id(original) not in copies:
                        copies[id(original)] = original, copy(original, device)
                    replaced.append((tensors, name, *copies[id(original)]))
    try:
        for tensors, name, _, value in replaced:
            tensors[name] = value
        yield {value.untyped_storage().data_ptr(): original for original, value in copies.values()}
    finally:
        for tensors, name, original, value in replaced:
            if tensors.get(name) is value:  # the module may have assigned a new buffer
                tensors[name] = original
        if replaced:
            for owner in module.modules():
                if isinstance(owner, nn.RNNBase):  # it keeps a list of its weights
                    owner._init_flat_weights()


def compute_on(module: nn.Module, device: torch.device, copy: Copy = moved) -> None:
    """From now on, calls of a module move their arguments to the device and use copies of weights that lie elsewhere."""
    entered: list[ExitStack] = []

    def before(_: nn.Module, args: Any, kwargs: Any) -> Any:
        with ExitStack() as call:
            originals = call.enter_context(copied_weights(module, device, copy))
            if originals:
                call.enter_context(_copied_again(originals, device, copy))
            entered.append(call.pop_all())
        return _on(args, device), _on(kwargs, device)

    def after(*_: Any) -> None:
        if entered:
            entered.pop().close()

    module.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
    module.register_forward_hook(after, always_call=True)


def _copied_again(originals: dict[int, Tensor], device: torch.device, copy: Copy) -> AbstractContextManager[Any]:
    """Inside, autograd saves originals instead of their copies, and copies them when it needs them."""

    def pack(saved: Tensor) -> Any:
        original = originals.get(saved.untyped_storage().data_ptr()) if saved.device == device else None
        if original is None:
            return saved
        return original.detach(), saved.size(), saved.stride(), saved.storage_offset()

    def unpack(kept: Any) -> Tensor:
        return kept if isinstance(kept, Tensor) else copy(kept[0], device).as_strided(*kept[1:])

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def return_to(module: nn.Module, device: torch.device) -> None:
    """From now on, calls of a module return their output on the device."""
    module.register_forward_hook(lambda *call: _on(call[-1], device))


def _on(values: Any, device: torch.device) -> Any:
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) and leaf.device != device else leaf, values)
