"""Per-sample gradients of any parameter inside a module, by vmap over that module alone, from one recorded call of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from trak_cli.gradients.engines.hooks.batch_dims import Axes, Axis
from trak_cli.gradients.engines.hooks.recorder import Call, NotSeparableError, repeated
from trak_cli.gradients.numerics import batchable
from trak_cli.types import Block
from trak_cli.user_errors import first_line, is_out_of_memory


def submodule_blocks(call: Call, axes: Axes, wanted: Mapping[str, str], size: int, widen: bool = False) -> Iterator[Block]:
    """The gradients of some parameters used inside one recorded call.

    For sample b they are the gradient of ⟨output of the module for b alone, g_b⟩, where g_b is the gradient at that output.

    Args:
        wanted: canonical parameter name -> its name inside the module.
        widen: convert inputs and output gradients to float32, because vmap does not apply autocast.

    Raises:
        NotSeparableError: samples cannot be separated, or vmap does not support the module.
    """
    received = [position for position, gradient in enumerate(call.gradients) if gradient is not None]
    if not received:
        return
    inside = dict(call.module.named_parameters(remove_duplicate=False))
    parameters = {local: inside[local].detach() for local in wanted.values()}
    tensors, tensor_axes, rebuild = _inputs(call, axes, size)
    gradients, gradient_axes = _outputs(call, axes, received)
    if widen:
        tensors, gradients = [_float32(tensor) for tensor in tensors], [_float32(gradient) for gradient in gradients]

    def of_one(parameters: dict[str, Tensor], tensors: list[Tensor], gradients: list[Tensor]) -> Tensor:
        args, kwargs = rebuild(tensors)
        outputs, _ = tree_flatten(functional_call(call.module, parameters, args, kwargs))
        products = []
        for position, gradient in zip(received, gradients, strict=True):
            axis = axes.outputs[position]
            shaped = gradient.unsqueeze(axis.dim) if axis is not None else gradient
            if shaped.numel() != outputs[position].numel():
                raise NotSeparableError(call.site, "the output of one sample has another size than its share")
            products.append((outputs[position] * shaped.reshape(outputs[position].shape)).sum())
        return torch.stack(products).sum()

    each = vmap(grad(of_one), in_dims=(None, tensor_axes, gradient_axes), randomness="error")
    try:
        with batchable(call.module):
            per_sample: dict[str, Tensor] = each(parameters, tensors, gradients)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        raise NotSeparableError(call.site, first_line(error)) from error
    for name, local in wanted.items():
        yield Block(name, per_sample[local].reshape(len(per_sample[local]), -1))


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _inputs(call: Call, axes: Axes, size: int) -> tuple[list[Tensor], list[int | None], Any]:
    """The tensors among the input leaves, the batch axis of each, and a function that builds one sample's (args, kwargs)."""
    places = [place for place, leaf in enumerate(call.inputs) if isinstance(leaf, Tensor)]
    dims = [_single(call, axes.inputs[place], call.inputs[place].shape, size) for place in places]

    def rebuild(tensors: list[Tensor]) -> Any:
        leaves = list(call.inputs)
        for place, dim, tensor in zip(places, dims, tensors, strict=True):
            leaves[place] = tensor if dim is None else tensor.unsqueeze(dim)
        return tree_unflatten(leaves, call.structure)

    return [call.inputs[place] for place in places], dims, rebuild


def _outputs(call: Call, axes: Axes, received: list[int]) -> tuple[list[Tensor], list[int | None]]:
    """The gradients at the outputs that have one, and the batch axis of each."""
    gradients: list[Tensor] = []
    dims: list[int | None] = []
    for position in received:
        gradient, shape, axis = call.gradients[position], call.shapes[position], axes.outputs[position]
        assert gradient is not None
        assert shape is not None
        if axis is None:  # shared, and repeated by the recorder: samples come first
            if gradient.shape != repeated(torch.empty(shape, device="meta"), len(gradient)).shape:
                raise NotSeparableError(call.site, "an output that all samples share")
            dims.append(0)
        else:
            dims.append(_single(call, axis, shape, None))
        gradients.append(gradient)
    return gradients, dims


def _single(call: Call, axis: Axis | None, shape: torch.Size, size: int | None) -> int | None:
    if axis is None:
        return None
    if axis.packed or (size is not None and shape[axis.dim] != size):
        raise NotSeparableError(call.site, "a sample has several entries along a flattened axis")
    return axis.dim
