"""Recurrent layers in the hooks engine: in closed form, and equal to the loop for every option of the layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tests.unit.gradients.gathering import Net, Sum, engine_of, gathered, gradients
from trak_cli.errors import InputError
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select

BATCH, STEPS, INPUTS, HIDDEN = 5, 7, 3, 4

LAYERS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "rnn": (nn.RNN, {}),
    "rnn, relu": (nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
    "gru": (nn.GRU, {}),
    "gru without biases": (nn.GRU, {"bias": False, "num_layers": 3}),
    "gru in both directions": (nn.GRU, {"bidirectional": True, "num_layers": 2, "dropout": 0.4}),
    "lstm": (nn.LSTM, {"num_layers": 2}),
    "lstm in both directions": (nn.LSTM, {"bidirectional": True}),
    "lstm with a projection": (nn.LSTM, {"proj_size": 2, "bidirectional": True, "num_layers": 2}),
    "lstm with a projection, without biases": (nn.LSTM, {"proj_size": 3, "bias": False}),
}


def check(model: nn.Module, *inputs: Tensor, closed: bool = True, several: int = 0) -> None:
    """Hooks gives the gradients of the loop, every parameter by a rule (or, unless ``closed``, some in another way).

    Args:
        several: find the strategies on this many samples only.
    """
    model = model.double().eval()
    batch = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    parameters = select(model, ["*"])
    strategies = find_strategies(model, Sum(), parameters, tuple(tensor[: several or None] for tensor in batch))
    assert (strategies == {}) is closed
    found = gathered(make_engine("hooks", model, Sum(), parameters, strategies).per_sample(batch), model)
    expected = gradients("loop", model, Sum(), batch)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def recurrent(kind: str, batch_first: bool) -> nn.RNNBase:
    torch.manual_seed(len(kind))
    layer, options = LAYERS[kind]
    return layer(INPUTS, HIDDEN, batch_first=batch_first, **options)


def last(self: Any, x: Tensor) -> Tensor:
    """Every final state, (B, …)."""
    state = self.layer(x if self.layer.batch_first else x.transpose(0, 1))[1]
    states = state if isinstance(state, tuple) else (state,)
    return torch.cat([one.transpose(0, 1).flatten(1) for one in states], 1)


def every(self: Any, x: Tensor) -> Tensor:
    """The output of every step, and the final states."""
    output, _ = self.layer(x if self.layer.batch_first else x.transpose(0, 1))
    return torch.cat([(output if self.layer.batch_first else output.transpose(0, 1)).flatten(1), last(self, x)], 1)


def one_step(self: Any, x: Tensor) -> Tensor:
    """The output of one step in the middle, behind other layers."""
    output, _ = self.layer(torch.tanh(self.before(x)))
    return torch.tanh(self.after(output[:, 2]))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("function", [last, every])
@pytest.mark.parametrize("kind", LAYERS)
def test_all_layers(kind: str, function: Callable[..., Tensor], batch_first: bool) -> None:
    check(Net(function, layer=recurrent(kind, batch_first)), torch.randn(BATCH, STEPS, INPUTS))


@pytest.mark.parametrize("kind", ["rnn", "gru in both directions", "lstm with a projection"])
def test_between_other_layers(kind: str) -> None:
    layer = recurrent(kind, True)
    width = (layer.proj_size or HIDDEN) * (1 + layer.bidirectional)
    model = Net(one_step, before=nn.Linear(6, INPUTS), layer=layer, after=nn.Linear(width, 2))
    check(model, torch.randn(BATCH, STEPS, 6))


@pytest.mark.parametrize("steps", [1, 2, 31])
def test_sequences_of_any_length(steps: int) -> None:
    check(Net(every, layer=recurrent("gru", True)), torch.randn(3, steps, INPUTS))


def from_state(self: Any, x: Tensor, state: Tensor) -> Tensor:
    """From an initial state that another layer computes."""
    start = torch.tanh(self.start(state)).reshape(len(x), -1, HIDDEN).transpose(0, 1).contiguous()
    given = (start, 0.5 * start) if isinstance(self.layer, nn.LSTM) else start
    output, _ = self.layer(x, hx=given)
    return output.flatten(1)


@pytest.mark.parametrize("kind", ["rnn", "gru in both directions", "lstm"])
def test_an_initial_state(kind: str) -> None:
    layer = recurrent(kind, True)
    count = layer.num_layers * (1 + layer.bidirectional)
    model = Net(from_state, layer=layer, start=nn.Linear(2, count * HIDDEN))
    check(model, torch.randn(BATCH, STEPS, INPUTS), torch.randn(BATCH, 2))


class Learned(nn.Module):
    """A learned initial state, which all samples share."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = recurrent("gru", True)
        self.start = nn.Parameter(torch.randn(1, 1, HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, self.start.expand(1, len(x), HIDDEN).contiguous())[0].flatten(1)


def test_a_learned_initial_state_leaves_the_layer_to_its_rule() -> None:
    model = Learned().double().eval()
    x = torch.randn(BATCH, STEPS, INPUTS).double()
    assert "layer.weight_ih_l0" not in find_strategies(model, Sum(), select(model, ["*"]), x)
    check(model, x, closed=False)


def packed(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """Packed sequences: final states, and outputs that are padded again."""
    sequence = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    output, state = self.layer(sequence)
    padded, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
    states = state if isinstance(state, tuple) else (state,)
    return torch.cat([padded.flatten(1), *(one.transpose(0, 1).flatten(1) for one in states)], 1)


@pytest.mark.parametrize("kind", LAYERS)
def test_packed_sequences(kind: str) -> None:
    lengths = torch.tensor([3, 7, 1, 7, 4, 2])
    check(Net(packed, layer=recurrent(kind, True)), torch.randn(6, STEPS, INPUTS), lengths)


def test_packed_sequences_whose_first_samples_have_one_length() -> None:
    lengths = torch.tensor([7, 7, 7, 2, 5, 7, 1])
    check(Net(packed, layer=recurrent("lstm in both directions", True)), torch.randn(7, STEPS, INPUTS), lengths, several=3)


def sorted_inside(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """Sequences in the order of their lengths, and the result in the order of the batch."""
    order = lengths.argsort(descending=True)
    _, state = self.layer(pack_padded_sequence(x[order], lengths[order].cpu(), batch_first=True))
    return state[-1][order.argsort()]


def test_a_model_that_sorts_is_refused_by_the_rule_at_once_or_by_the_first_batch_in_which_it_matters() -> None:
    model = Net(sorted_inside, layer=recurrent("gru", True)).double().eval()
    x, parameters = torch.randn(6, STEPS, INPUTS).double(), select(model, ["*"])
    check(model, x, torch.tensor([2, 5, 3, 7, 1, 6]), closed=False)
    lengths = torch.tensor([7, 5, 3, 4, 6, 1])  # the first three are in order
    strategies = find_strategies(model, Sum(), parameters, (x[:3], lengths[:3]))
    engine = make_engine("hooks", model, Sum(), parameters, strategies)
    with pytest.raises(InputError, match="another order"):
        list(engine.per_sample((x, lengths)).blocks)


def cells(self: Any, x: Tensor) -> Tensor:
    """A cell that is called once for each step."""
    state = None
    for step in range(x.shape[1]):
        state = self.layer(x[:, step], state)
    return torch.cat(state, 1) if isinstance(state, tuple) else state


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
@pytest.mark.parametrize("bias", [True, False])
def test_cells(cell: type[nn.RNNCellBase], bias: bool) -> None:
    torch.manual_seed(0)
    check(Net(cells, layer=cell(INPUTS, HIDDEN, bias=bias)), torch.randn(BATCH, STEPS, INPUTS))


def decoder(self: Any, x: Tensor) -> Tensor:
    """One layer reads, a cell writes: its output is its next input."""
    _, state = self.reader(x)
    written, h = [], state[-1]
    y = h
    for _ in range(3):
        h = self.writer(y, h)
        y = torch.tanh(self.between(h))
        written.append(y)
    return torch.cat(written, 1)


def test_a_reader_and_a_writer() -> None:
    torch.manual_seed(2)
    layers = {"reader": nn.GRU(INPUTS, HIDDEN, batch_first=True), "writer": nn.GRUCell(HIDDEN, HIDDEN)}
    check(Net(decoder, **layers, between=nn.Linear(HIDDEN, HIDDEN)), torch.randn(BATCH, STEPS, INPUTS))


def test_a_layer_that_is_called_in_each_step_gives_one_block() -> None:
    torch.manual_seed(4)
    layers = {"reader": nn.GRU(INPUTS, HIDDEN, batch_first=True), "writer": nn.GRUCell(HIDDEN, HIDDEN)}
    model, x = Net(decoder, **layers, between=nn.Linear(HIDDEN, HIDDEN)).eval(), torch.randn(BATCH, STEPS, INPUTS)
    names = [block.name for block in engine_of("hooks", model, Sum(), x).per_sample(x).blocks if block.gradient.shape[1]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def varying(self: Any, x: Tensor) -> Tensor:
    """A layer that is called for prefixes of growing length, whose inputs cannot be joined, and twice for the last step."""
    parts = [self.layer(x[:, :steps]).sum(1) for steps in range(1, x.shape[1])]
    return torch.cat([*parts, self.layer(x[:, -1]), torch.tanh(self.layer(x[:, -1]))], 1)


def test_a_layer_that_is_called_with_inputs_of_several_shapes() -> None:
    torch.manual_seed(6)
    check(Net(varying, layer=nn.Linear(INPUTS, 2)), torch.randn(BATCH, STEPS, INPUTS))


def hierarchical(self: Any, x: Tensor) -> Tensor:
    """Several sequences for each sample: (B, S, T, d), flattened to (B · S, T, d) and read again as (B, S, H)."""
    _, inner = self.inner(x.flatten(0, 1))
    _, outer = self.outer(inner[-1].reshape(len(x), x.shape[1], -1))
    return outer[-1]


def test_several_sequences_for_each_sample() -> None:
    torch.manual_seed(3)
    layers = {"inner": nn.GRU(INPUTS, HIDDEN, batch_first=True), "outer": nn.GRU(HIDDEN, 2, batch_first=True)}
    check(Net(hierarchical, **layers), torch.randn(BATCH, 3, STEPS, INPUTS))


def twice(self: Any, x: Tensor) -> Tensor:
    """The same layer reads forwards and, by hand, backwards."""
    return torch.cat([self.layer(x)[1][-1], self.layer(x.flip(1))[1][-1]], 1)


def test_a_layer_that_is_used_twice() -> None:
    check(Net(twice, layer=recurrent("rnn, relu", True)), torch.randn(BATCH, STEPS, INPUTS))


def test_a_frozen_weight_has_no_gradient() -> None:
    model = Net(every, layer=recurrent("lstm", True))
    model.layer.weight_hh_l0.requires_grad_(False)
    check(model, torch.randn(BATCH, STEPS, INPUTS))


def test_weights_with_a_parametrization_take_another_strategy() -> None:
    model = Net(every, layer=recurrent("gru", True))
    nn.utils.parametrizations.weight_norm(model.layer, "weight_hh_l0")
    check(model, torch.randn(BATCH, STEPS, INPUTS), closed=False)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weights_that_a_hook_computes_take_another_strategy() -> None:
    model = Net(every, layer=recurrent("lstm", True))
    nn.utils.weight_norm(model.layer, "weight_hh_l0")
    check(model, torch.randn(BATCH, STEPS, INPUTS), closed=False)


class Clipped(nn.GRU):
    """A subclass whose output is not that of the layer."""

    def forward(self, x: Tensor | PackedSequence, hx: Tensor | None = None) -> Any:
        output, state = super().forward(x, hx)
        return output.clamp(-0.1, 0.1), state


def test_a_subclass_with_another_forward_takes_another_strategy() -> None:
    check(Net(every, layer=Clipped(INPUTS, HIDDEN, batch_first=True)), torch.randn(BATCH, STEPS, INPUTS), closed=False)


def test_float32_too() -> None:
    model = Net(every, layer=recurrent("lstm in both directions", True)).eval()
    x = torch.randn(BATCH, STEPS, INPUTS)
    found, expected = gradients("hooks", model, Sum(), x), gradients("loop", model, Sum(), x)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)
