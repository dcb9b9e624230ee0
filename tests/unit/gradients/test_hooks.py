"""The hooks engine gives, for every kind of layer and every way of using one, what the per-sample loop gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gathering import Net, Sum, gathered
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from trak_cli.errors import InputError
from trak_cli.gradients.engines.hooks.engine import HooksEngine
from trak_cli.gradients.engines.hooks.strategies import FORM, describe_strategies
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.gradients.rules import pieces as rule_pieces
from trak_cli.types import Block, RowBlock


def agree(model: nn.Module, batch: Any, tolerance: float = 1e-4, form: str | None = None) -> dict[str, str]:
    """Compare hooks, with a form of the rules, with the loop on every sample; returns the strategies without the form."""
    model.eval()
    parameters = select(model, ["*"])
    strategies = find_strategies(model, Sum(), parameters, batch)
    forms = {} if form is None else dict.fromkeys(parameters, FORM + form)
    hooked = make_engine("hooks", model, Sum(), parameters, {**strategies, **forms}).per_sample(batch)
    looped = make_engine("loop", model, Sum(), parameters).per_sample(batch)
    torch.testing.assert_close(hooked.outputs, looped.outputs, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(hooked.out_to_loss, looped.out_to_loss, atol=tolerance, rtol=tolerance)
    found, expected = (gathered(one, model) for one in (hooked, looped))
    scale = max(float(one.abs().max()) for one in expected.values())
    for name, one in expected.items():
        torch.testing.assert_close(
            found[name], one, atol=tolerance * scale, rtol=tolerance, msg=lambda text, n=name: f"{n}: {text}"
        )
    return dict(strategies)


@settings(deadline=None, max_examples=60)
@given(
    dims=st.integers(1, 3),
    groups=st.sampled_from([1, 1, 2, 3]),
    channels=st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 3, 17])),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.sampled_from([0, 1, 2, "same", "valid"]),
    mode=st.sampled_from(["zeros", "circular", "reflect", "replicate"]),
    bias=st.booleans(),
    pieces=st.sampled_from([1, 2**25]),
    form=st.sampled_from([None, "unfold", "library"]),
)
def test_convolutions_of_every_shape_by_every_form(
    dims: int,
    groups: int,
    channels: tuple[int, int],
    kernel: int,
    stride: int,
    dilation: int,
    padding: int | str,
    mode: str,
    bias: bool,
    pieces: int,
    form: str | None,
) -> None:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    torch.manual_seed(0)
    layer = kind(
        channels[0] * groups,
        channels[1] * groups,
        kernel,
        1 if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
        padding_mode=mode,
    )
    x = torch.randn(3, channels[0] * groups, *(7, 6, 5)[:dims])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rule_pieces.MOST_BYTES, "cpu", pieces)
        patch.setitem(rule_pieces.UNFOLDED_BYTES, "cpu", pieces)
        assert agree(layer, x, form=form) == {}


@settings(deadline=None, max_examples=25)
@given(
    dims=st.integers(1, 3),
    groups=st.sampled_from([1, 1, 2, 3]),
    channels=st.tuples(st.sampled_from([1, 2, 17]), st.integers(1, 3)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 1),
    longer=st.booleans(),
    pieces=st.sampled_from([1, 2**25]),
)
def test_transposed_convolutions_of_every_shape(
    dims: int,
    groups: int,
    channels: tuple[int, int],
    kernel: int,
    stride: int,
    dilation: int,
    padding: int,
    longer: bool,
    pieces: int,
) -> None:
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1]
    torch.manual_seed(0)
    longer = longer and stride > 1
    layer = kind(
        channels[0] * groups,
        channels[1] * groups,
        kernel + padding,
        stride,
        padding,
        output_padding=int(longer),
        groups=groups,
        dilation=dilation,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rule_pieces.MOST_BYTES, "cpu", pieces)
        assert agree(layer, torch.randn(3, channels[0] * groups, *(4, 3, 3)[:dims])) == {}


def test_a_transposed_convolution_with_an_output_size_for_each_call() -> None:
    layer = nn.ConvTranspose1d(2, 3, 2, stride=2)
    model = Net(lambda net, x: net.layer(x, output_size=[9])[..., 1:] * net.layer(x, output_size=[8]), layer=layer)
    assert agree(model, torch.randn(3, 2, 4)) == {}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.LayerNorm(6), (4, 5, 6)),
        (nn.LayerNorm((5, 6), bias=False), (4, 2, 5, 6)),
        (nn.RMSNorm(6), (4, 5, 6)),
        (nn.GroupNorm(2, 6), (4, 6, 3, 2)),
        (nn.GroupNorm(3, 6), (4, 6)),
        (nn.BatchNorm1d(6), (4, 6)),
        (nn.BatchNorm1d(6), (4, 6, 5)),
        (nn.BatchNorm2d(6), (4, 6, 3, 2)),
        (nn.BatchNorm3d(6), (4, 6, 3, 2, 2)),
        (nn.Linear(6, 5), (4, 6)),
        (nn.Linear(6, 5, bias=False), (4, 2, 3, 6)),
    ],
    ids=str,
)
def test_norms_and_linear_layers(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        layer.running_mean.normal_()  # type: ignore[union-attr]
        layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    assert agree(layer, torch.randn(shape)) == {}


@pytest.mark.parametrize("padding", [None, 3])
def test_embeddings_yield_the_rows_that_are_used(padding: int | None) -> None:
    torch.manual_seed(2)
    model = nn.Embedding(50, 3, padding_idx=padding)
    ids = torch.randint(0, 6, (4, 7))
    assert agree(model, ids) == {}
    blocks = list(HooksEngine(model, Sum(), select(model, ["*"])).per_sample(ids).blocks)
    (rows,) = [block for block in blocks if isinstance(block, RowBlock)]
    reached = [sorted(set(sample.tolist()) - {padding}) for sample in ids]
    assert [rows.row[rows.sample == i].tolist() for i in range(4)] == reached


POSITIONS = {
    "with a leading one": lambda net, x: net.token(x) + net.place(torch.arange(x.shape[1])[None]),
    "without": lambda net, x: net.token(x) + net.place(torch.arange(x.shape[1])),
    "and a layer on top": lambda net, x: net.token(x) + net.top(net.place(torch.arange(x.shape[1]))),
}


@pytest.mark.parametrize("length", [2, 3, 4, 5], ids=lambda n: f"{n} places")
@pytest.mark.parametrize("how", POSITIONS)
def test_shared_tensors_are_recognised_even_if_their_length_is_the_batch_size(how: str, length: int) -> None:
    torch.manual_seed(3)
    model = Net(POSITIONS[how], token=nn.Embedding(9, 4), place=nn.Embedding(5, 4), top=nn.Linear(4, 4))
    strategies = agree(model, torch.randint(0, 9, (4, length)))
    assert not {"token.weight", "place.weight"} & strategies.keys()


def test_samples_may_lie_along_another_axis_or_be_packed() -> None:
    torch.manual_seed(4)
    time_major = Net(lambda net, x: net.a(x.transpose(0, 1)).relu().transpose(0, 1), a=nn.Linear(5, 3))
    assert agree(time_major, torch.randn(4, 6, 5)) == {}
    packed = Net(lambda net, x: net.a(x.reshape(-1, 5)).tanh().reshape(len(x), -1), a=nn.Linear(5, 3))
    assert agree(packed, torch.randn(4, 6, 5)) == {}
    frames = Net(
        lambda net, x: net.n(net.c(x.flatten(0, 1))).relu().reshape(len(x), -1), c=nn.Conv2d(2, 4, 3), n=nn.GroupNorm(2, 4)
    )
    assert agree(frames, torch.randn(3, 5, 2, 6, 6)) == {}


def test_tied_weights_and_layers_called_twice_add_up() -> None:
    torch.manual_seed(5)
    model = Net(
        lambda net, x: net.head(net.mix(net.mix(net.token(x)).tanh())),
        token=nn.Embedding(7, 4),
        mix=nn.Linear(4, 4),
        head=nn.Linear(4, 7, bias=False),
    )
    model.head.weight = model.token.weight
    assert agree(model, torch.randint(0, 7, (5, 6))) == {}


def test_in_place_operations_are_handled() -> None:
    torch.manual_seed(6)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
    )
    assert agree(model, torch.randn(3, 2, 7, 7)) == {}


class Scaled(nn.Module):
    """A module with a parameter of its own beside layers, called by keyword, that returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.gamma = nn.Parameter(torch.randn(4))

    def forward(self, *, x: Tensor, factor: float) -> dict[str, Tensor]:
        return {"out": self.inner(x) * self.gamma * factor, "other": x}


def test_parameters_without_a_layer_use_the_smallest_module_around_them() -> None:
    torch.manual_seed(7)
    model = Net(
        lambda net, x: net.last(net.scaled(x=net.first(x), factor=2.0)["out"]),
        scaled=Scaled(),
        first=nn.Linear(3, 4),
        last=nn.Linear(4, 2),
    )
    assert agree(model, torch.randn(5, 6, 3)) == {"scaled.gamma": "scaled"}


def test_attention_with_shared_class_token() -> None:
    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.place = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.place
            return self.block(x)[:, 0]

    torch.manual_seed(8)
    strategies = agree(Vit(), torch.randn(4, 4, 8))
    attention = {f"block.self_attn.{name}" for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")}
    assert strategies == {**dict.fromkeys(attention, "block.self_attn"), "token": ":vmap", "place": ":vmap"}


def test_parameters_beyond_rules_and_vmap_use_the_loop() -> None:
    torch.manual_seed(9)

    class Routed(nn.Module):
        """Two experts; which one takes a sample depends on its values."""

        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])

        def forward(self, x: Tensor) -> Tensor:
            out = x.new_zeros(len(x), 3)
            for expert, chosen in zip(self.experts, (x[:, 0] > 0, x[:, 0] <= 0), strict=True):
                where = chosen.nonzero()[:, 0]
                out = out.index_add(0, where, expert(x[where]))
            return out

    x = torch.randn(6, 4)
    x[:3, 0] = torch.tensor([1.0, -1.0, 1.0])
    assert set(agree(Routed(), x).values()) == {":loop"}


def test_a_recurrent_network_and_a_parametrised_layer() -> None:
    torch.manual_seed(10)
    model = Net(
        lambda net, x: net.normed(net.recurrent(x)[0]),
        recurrent=nn.GRU(3, 4, batch_first=True),
        normed=nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)),
    )
    strategies = agree(model, torch.randn(4, 5, 3))
    assert strategies["normed.parametrizations.weight.original0"] == "normed"
    assert "recurrent.weight_ih_l0" not in strategies


def test_a_parameter_unused_by_the_first_samples_is_monitored() -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.rare = nn.Linear(3, 2), nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)
            return out * self.rare if bool((x > 100).any()) else out

    torch.manual_seed(11)
    model, usual, unusual = Moody().eval(), torch.randn(4, 3), torch.full((4, 3), 200.0)
    parameters = select(model, ["*"])
    strategies = find_strategies(model, Sum(), parameters, usual)
    assert strategies == {"rare": ":unused"}
    engine = HooksEngine(model, Sum(), parameters, strategies)
    assert not gathered(engine.per_sample(usual), model)["rare"].any()
    with pytest.raises(InputError, match="rare is used"):
        engine.per_sample(unusual)


def test_an_input_that_is_overwritten_is_noticed() -> None:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        hidden = net.first(x).detach()
        out = net.second(hidden)
        hidden += 1
        return out

    torch.manual_seed(12)
    model = Net(forward, first=nn.Linear(3, 3), second=nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="inplace"):
        agree(model, torch.randn(4, 3))  # autograd itself cannot differentiate this model
    frozen = Net(lambda net, x: forward(net, x), first=nn.Linear(3, 3), second=nn.Linear(3, 3))
    frozen.second.weight.requires_grad_(False)
    assert agree(frozen, torch.randn(4, 3)) == {"second.bias": ":vmap"}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("compiled", ["script", "trace"])
def test_compiled_submodules_use_the_module_around_them(compiled: str) -> None:
    torch.manual_seed(16)
    inner = nn.Sequential(nn.Linear(5, 4), nn.ReLU())
    x = torch.randn(4, 5)
    made = torch.jit.script(inner) if compiled == "script" else torch.jit.trace(inner, x)
    model = Net(lambda net, x: net.head(net.middle(x)), middle=nn.Sequential(made, nn.Tanh()), head=nn.Linear(4, 2))
    strategies = agree(model, x)
    assert strategies.keys() == {"middle.0.0.weight", "middle.0.0.bias"}
    assert set(strategies.values()) <= {"middle", ":vmap", ":loop"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    torch.manual_seed(13)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 4)).to(dtype)
    agree(model, torch.randn(4, 1, 6, 6, dtype=dtype), 1e-9 if dtype == torch.float64 else 5e-2)


def test_autocast_keeps_the_dtype_of_the_parameters() -> None:
    torch.manual_seed(14)

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net.b(net.a(x).relu()).float()

    model = Net(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 3)).eval()
    blocks = list(HooksEngine(model, Sum(), select(model, ["*"])).per_sample(torch.randn(4, 5)).blocks)
    assert {block.gradient.dtype for block in blocks if isinstance(block, Block)} == {torch.float32}
    agree(model, torch.randn(4, 5), 5e-2)


def test_a_single_sample_reveals_a_wrong_strategy() -> None:
    torch.manual_seed(15)
    model = Net(lambda net, x: net.a(x) * functional.linear(x, net.b.weight), a=nn.Linear(3, 2), b=nn.Linear(3, 2, bias=False))
    assert agree(model, torch.randn(1, 3)) == {"b.weight": ":vmap"}


def test_strategies_are_described_in_a_sentence() -> None:
    told = describe_strategies(["a", "b", "c", "d", "e", "f"], {"b": "block", "c": ":vmap", "d": ":loop", "e": ":unused"})
    assert told == (
        "2 of 6 parameter tensors by the rules of their layers; b by vmap over block; c by vmap over the model;"
        " d by the loop; e not used by the model"
    )
    forms = {"a": FORM + "unfold", "b": FORM + "library", "c": FORM + "library"}
    assert describe_strategies(["a", "b", "c", "d"], forms) == (
        "4 of 4 parameter tensors by the rules of their layers (2 by form library, 1 by form unfold)"
    )
    assert describe_strategies(["a", "b", "c", "d"], dict.fromkeys("abcd", "m")) == "a, b, c and 1 more by vmap over m"
