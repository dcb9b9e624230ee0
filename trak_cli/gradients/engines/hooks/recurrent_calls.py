"""Recorded calls of recurrent layers as per-sample gradients of their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils._pytree import tree_unflatten

from trak_cli.gradients.engines.hooks.batch_dims import Axes, Axis
from trak_cli.gradients.engines.hooks.recorder import Call, NotSeparableError
from trak_cli.gradients.engines.hooks.shares import check_order, split
from trak_cli.gradients.rules.linear import outer
from trak_cli.gradients.rules.recurrent import LinearUse, RecurrentCall, linear_uses
from trak_cli.gradients.rules.registry import Blocks
from trak_cli.types import Block


def recurrent_blocks(calls: Sequence[Call], axes_of: Callable[[Call], Axes], names: Mapping[str, str], size: int) -> Blocks:
    """The gradients of the parameters ``names`` (name in the layer -> canonical name) from all calls of one layer.

    A cell is called once for each step; its calls are added up before the gradients are formed.

    Raises:
        NotSeparableError: the samples of a call cannot be separated.
    """
    uses: dict[str, list[LinearUse]] = {}
    for call in calls:
        for use in _uses(call, axes_of(call), size):
            uses.setdefault(use.weight, []).append(use)
    for weight, several in uses.items():
        x, g = (torch.cat(tensors, 1) for tensors in zip(*((use.x, use.g) for use in several), strict=True))
        if weight in names:
            yield from outer(names[weight], g, x)
        if several[0].bias in names:
            yield Block(names[several[0].bias], g.sum(1))


def _uses(call: Call, axes: Axes, size: int) -> Iterator[LinearUse]:
    """The linear maps inside one call, with tensors (B, t, …): the sequences of a sample are joined along t."""
    if all(gradient is None for gradient in call.gradients):
        return
    recorded = _Recorded(call, axes)
    recurrent = recorded.with_gradients(call.gradients)
    if call.weighted:
        _check_order(call, recurrent, recorded.with_gradients(call.weighted), size)
    for use in linear_uses(call.module, recurrent):
        x, g = (split(call, value, True, size).flatten(1, 2) for value in (use.x, use.g))
        yield LinearUse(use.weight, use.bias, x, g)


def _check_order(call: Call, plain: RecurrentCall, weighted: RecurrentCall, size: int) -> None:
    for gradient, other in zip((plain.g, *plain.g_states), (weighted.g, *weighted.g_states), strict=True):
        if gradient is not None and other is not None:
            first, second = (split(call, value.transpose(0, 1), True, size) for value in (gradient, other))
            check_order(call, first, second)


class _Recorded:
    """The inputs of a recorded call as (T, N, d) and (L · D, N, H)."""

    def __init__(self, call: Call, axes: Axes) -> None:
        self._call = call
        self._axes = axes
        self._is_layer = isinstance(call.module, nn.RNNBase)
        self._state_dim = int(self._is_layer)
        self._dtype = next(call.module.parameters()).dtype
        args, kwargs = tree_unflatten(call.inputs, call.structure)
        x, states = _bound(*args, **kwargs)
        self._packed = x if isinstance(x, PackedSequence) else None
        self._dim = int(self._is_layer and self._packed is None and not call.module.batch_first)
        axis_of = dict(zip(map(id, call.inputs), axes.inputs, strict=True))
        for tensor, dim in (
            (x if self._packed is None else x.data, self._dim),
            *((state, self._state_dim) for state in states),
        ):
            self._check_axis(axis_of[id(tensor)], dim)
        self._x, self._lengths = self._by_step(x.data if self._packed is not None else x)
        self._states = [self._by_layer(state) for state in states]

    def with_gradients(self, gradients: Sequence[Tensor | None]) -> RecurrentCall:
        """The call with these gradients at the leaves of its output."""
        leaves = list(zip(gradients, self._axes.outputs, strict=True))
        (g, g_axis), states = leaves[0], leaves[4 if self._packed is not None else 1 :]
        if not self._is_layer:
            g, states = None, leaves
        if g is not None:
            self._check_axis(g_axis, self._dim)
            g, _ = self._by_step(g)
        for gradient, axis in states:
            if gradient is not None:
                self._check_axis(axis, self._state_dim)
        g_states = [None if gradient is None else self._by_layer(gradient) for gradient, _ in states]
        return RecurrentCall(self._x, self._lengths, self._states, g, g_states)

    def _by_step(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """(T, N, …), and the lengths of packed sequences."""
        values = values.to(self._dtype)
        if self._packed is not None:
            padded, lengths = pad_packed_sequence(PackedSequence(values, *self._packed[1:]))
            return padded, lengths.to(values.device)
        if not self._is_layer:
            return values.unsqueeze(0), None
        if values.dim() != 3:
            raise NotSeparableError(self._call.site, "a single sequence instead of a batch")
        return values.movedim(self._dim, 1), None

    def _by_layer(self, state: Tensor) -> Tensor:
        return (state if self._is_layer else state.unsqueeze(0)).to(self._dtype)

    def _check_axis(self, axis: Axis | None, dim: int) -> None:
        if axis is None or axis.dim != dim:
            raise NotSeparableError(self._call.site, "samples lie along another axis than a recurrent layer expects")


def _bound(input: Any, hx: Any = None) -> tuple[Any, list[Tensor]]:
    """The input and the initial states of a call, by the names that PyTorch gives them."""
    return input, [] if hx is None else list(hx) if isinstance(hx, tuple | list) else [hx]
