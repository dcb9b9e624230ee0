"""Recurrent layers (RNN, LSTM, GRU and their cells) as linear maps that are applied once for each time step.

The recurrence is computed again, step by step for all samples at once, with the gates as nodes of an autograd graph. The
gradient at the gates gives the gradient of each weight by the rule of linear layers: Σ_t g_t ⊗ x_t for the weight of the
inputs, Σ_t g_t ⊗ h_{t−1} for the weight of the hidden state.

Notation: T steps, N sequences, d inputs, H hidden units, D directions (1 or 2), L layers; G = H, 3 H or 4 H gates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

#: (gates of the input, gates of the hidden state, state) -> the next state: h, and c for an LSTM; a GRU adds the reset gate.
Step = Callable[[Tensor, Tensor, Sequence[Tensor]], list[Tensor]]

_PARAMETER = re.compile(r"(weight|bias)_(ih|hh|hr)(_l\d+(_reverse)?)?")


@dataclass(frozen=True)
class LinearUse:
    """A linear map y = W x + b inside a layer, applied T times for each sequence.

    Attributes:
        weight, bias: names of W and b in the layer, which may have no b.
        x, g: (N, T, in) inputs, and (N, T, out) gradients at y.
    """

    weight: str
    bias: str
    x: Tensor
    g: Tensor


@dataclass(frozen=True)
class RecurrentCall:
    """One call of a recurrent layer; for a cell, T = 1 and L · D = 1.

    Attributes:
        x: (T, N, d), detached.
        lengths: (N,) the number of steps of each sequence; None if all have T.
        states: the initial states, each (L · D, N, H), detached; empty for zeros.
        g: the gradient at the output of every step, (T, N, D · H); None if there is none.
        g_states: the gradient at each final state, in the order of ``states``; None where there is none.
    """

    x: Tensor
    lengths: Tensor | None
    states: Sequence[Tensor]
    g: Tensor | None
    g_states: Sequence[Tensor | None]


def covers(module: nn.Module, parameter: str) -> bool:
    """Whether :func:`linear_uses` gives the gradient of this parameter of a module."""
    return is_recurrent(module) and _PARAMETER.fullmatch(parameter) is not None


def is_recurrent(module: nn.Module) -> bool:
    """Whether a module is a recurrent layer or cell of PyTorch, or a subclass with the same ``forward``.

    A module whose weights are computed from other parameters is not.
    """
    if not isinstance(module, nn.RNNBase | nn.RNNCellBase) or type(module).forward not in _STEPS:
        return False
    kinds = ("ih", "hh", "hr") if getattr(module, "proj_size", 0) else ("ih", "hh")
    suffixes = [suffix for layer in range(getattr(module, "num_layers", 1)) for suffix in _suffixes(module, layer)]
    return all(f"weight_{kind}{suffix}" in module._parameters for kind in kinds for suffix in suffixes)


def linear_uses(module: nn.Module, call: RecurrentCall) -> list[LinearUse]:
    """The linear maps inside one call of a recurrent layer, with the gradients at their outputs."""
    passes: list[_Pass] = []
    with torch.enable_grad():
        x = call.x
        for layer in range(getattr(module, "num_layers", 1)):
            outputs = []
            for suffix in _suffixes(module, layer):
                computed = _Pass.of(module, suffix, x)
                outputs.append(computed.run([state[len(passes)] for state in call.states], call.lengths))
                passes.append(computed)
            x = torch.cat(outputs, 2)
        finals = [torch.stack(states) for states in zip(*(computed.final for computed in passes), strict=True)]
        pairs = [(x, call.g), *zip(finals, call.g_states, strict=True)]
        nodes = [node for computed in passes for node in computed.nodes]
        gradients = iter(_gradients([(target, g) for target, g in pairs if g is not None], nodes))
    return [use for computed in passes for use in computed.uses([next(gradients) for _ in computed.nodes])]


def _gradients(targets: Sequence[tuple[Tensor, Tensor]], nodes: Sequence[Tensor]) -> Sequence[Tensor]:
    """Σ over the targets of their gradient times their derivative by each node; zeros for a node without influence."""
    if not targets:
        return [torch.zeros_like(node) for node in nodes]
    outputs, weights = zip(*targets, strict=True)
    gradients: Sequence[Tensor | None] = torch.autograd.grad(outputs, nodes, weights, allow_unused=True)
    return [torch.zeros_like(node) if g is None else g for node, g in zip(nodes, gradients, strict=True)]


def _suffixes(module: nn.Module, layer: int) -> list[str]:
    """The suffix of the parameter names of each direction of a layer."""
    if not isinstance(module, nn.RNNBase):
        return [""]
    return [f"_l{layer}", f"_l{layer}_reverse"] if module.bidirectional else [f"_l{layer}"]


@dataclass
class _Pass:
    """One direction of one layer over all steps.

    Attributes:
        weights: names without ``suffix`` -> parameters, detached.
        gates: W_ih x + b_ih, (T, N, G).
        before, resets, projected, unprojected: by step, the hidden state before it; the reset gate of a GRU; for an LSTM with
            ``proj_size``, the new hidden state and what it is projected from.
        final: the state after the last step of each sequence: h, and c for an LSTM; each (N, H).
    """

    step: Step
    suffix: str
    x: Tensor
    weights: Mapping[str, Tensor]
    gates: Tensor
    before: dict[int, Tensor] = field(default_factory=dict)
    resets: dict[int, Tensor] = field(default_factory=dict)
    projected: dict[int, Tensor] = field(default_factory=dict)
    unprojected: dict[int, Tensor] = field(default_factory=dict)
    final: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, module: nn.Module, suffix: str, x: Tensor) -> _Pass:
        """The direction whose parameters end in ``suffix``; x (T, N, d)."""
        named = dict(module.named_parameters(recurse=False))
        names = [name for name in named if name.endswith(suffix) and _PARAMETER.fullmatch(name)]
        weights = {name.removesuffix(suffix): named[name].detach() for name in names}
        gates = F.linear(x, weights["weight_ih"], weights.get("bias_ih"))
        return cls(_step_of(module), suffix, x, weights, gates if gates.requires_grad else gates.requires_grad_())

    def run(self, states: Sequence[Tensor], lengths: Tensor | None) -> Tensor:
        """The hidden state after every step, (T, N, H), from the initial state; nothing stands for zeros."""
        state = list(states) or self._zeros()
        gates, after = self.gates.unbind(), {}
        steps = range(len(gates))
        for t in reversed(steps) if self.suffix.endswith("_reverse") else steps:
            new = self._advance(t, gates[t], state)
            if lengths is not None:  # a sequence that has ended, or not begun, keeps its state
                inside = (t < lengths).unsqueeze(1)
                new = [torch.where(inside, *pair) for pair in zip(new, state, strict=True)]
            state = new
            after[t] = state[0]
        self.final = state
        return _in_order(after)

    def _zeros(self) -> list[Tensor]:
        gates, hidden = self.weights["weight_hh"].shape
        widths = [hidden, gates // 4] if self.step is _lstm else [hidden]
        return [self.x.new_zeros(self.x.shape[1], width) for width in widths]

    def _advance(self, t: int, gates: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        self.before[t] = state[0].detach()
        new = self.step(gates, F.linear(state[0], self.weights["weight_hh"], self.weights.get("bias_hh")), state)
        if self.step is _gru:
            self.resets[t] = new.pop().detach()
        if "weight_hr" in self.weights:
            self.unprojected[t] = new[0].detach()
            new[0] = self.projected[t] = F.linear(new[0], self.weights["weight_hr"])
        return new

    @property
    def nodes(self) -> list[Tensor]:
        """The tensors at which :meth:`uses` needs the gradient."""
        return [self.gates, *(self.projected[t] for t in sorted(self.projected))]

    def uses(self, gradients: Sequence[Tensor]) -> list[LinearUse]:
        """The linear maps of this direction, from the gradients at ``nodes``."""
        g, *at_projected = gradients
        hidden = g
        if self.step is _gru:  # its new value is tanh(gates of x + reset · gates of h)
            start = 2 * g.shape[2] // 3
            hidden = torch.cat([g[..., :start], g[..., start:] * _in_order(self.resets)], 2)
        linear_maps = [self._use("ih", self.x.detach(), g), self._use("hh", _in_order(self.before), hidden)]
        if at_projected:
            linear_maps.append(self._use("hr", _in_order(self.unprojected), torch.stack(at_projected)))
        return linear_maps

    def _use(self, kind: str, x: Tensor, g: Tensor) -> LinearUse:
        return LinearUse(f"weight_{kind}{self.suffix}", f"bias_{kind}{self.suffix}", x.transpose(0, 1), g.transpose(0, 1))


def _in_order(steps: Mapping[int, Tensor]) -> Tensor:
    return torch.stack([steps[t] for t in sorted(steps)])


def _tanh(gates: Tensor, hidden: Tensor, _: Sequence[Tensor]) -> list[Tensor]:
    return [torch.tanh(gates + hidden)]


def _relu(gates: Tensor, hidden: Tensor, _: Sequence[Tensor]) -> list[Tensor]:
    return [torch.relu(gates + hidden)]


def _lstm(gates: Tensor, hidden: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
    enter, forget, new, leave = (gates + hidden).chunk(4, 1)
    c = torch.sigmoid(forget) * state[1] + torch.sigmoid(enter) * torch.tanh(new)
    return [torch.sigmoid(leave) * torch.tanh(c), c]


def _gru(gates: Tensor, hidden: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
    width = state[0].shape[1]
    reset, update = torch.sigmoid(gates[:, : 2 * width] + hidden[:, : 2 * width]).chunk(2, 1)
    new = torch.tanh(gates[:, 2 * width :] + reset * hidden[:, 2 * width :])
    return [new + update * (state[0] - new), reset]


_STEPS: dict[Callable[..., object], Step] = {
    nn.RNN.forward: _tanh,
    nn.LSTM.forward: _lstm,
    nn.GRU.forward: _gru,
    nn.RNNCell.forward: _tanh,
    nn.LSTMCell.forward: _lstm,
    nn.GRUCell.forward: _gru,
}


def _step_of(module: nn.Module) -> Step:
    step = _STEPS[type(module).forward]
    return _relu if step is _tanh and getattr(module, "nonlinearity", "tanh") == "relu" else step
