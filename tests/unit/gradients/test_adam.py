"""Gradients scaled as Adam scales them: second moments by rows and columns, and every kind of block times its scale."""

from __future__ import annotations

import pytest
import torch
from gathering import Net, Sum, gathered
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trak_cli.gradients.contract import PerSample
from trak_cli.gradients.engines.hooks.strategies import outer_products
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.factoring import Factoring
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.adam import OverlappingBlocksError, Scale, ScaledEngine, SecondMoments, scaled
from trak_cli.types import Block, FactorBlock, RowBlock


def model() -> nn.Module:
    """An embedding, a linear layer, a norm and a scalar."""
    torch.manual_seed(3)
    return Net(
        lambda net, x: net.head(net.norm(net.token(x)).mean(1).tanh()) * net.factor,
        token=nn.Embedding(11, 4),
        norm=nn.LayerNorm(4),
        head=nn.Linear(4, 3),
        factor=nn.Parameter(torch.tensor(1.3)),
    ).eval()


BATCH = torch.tensor([[1, 2, 3], [2, 2, 5], [7, 8, 2], [1, 1, 1]])


def moments_of(net: nn.Module, batch: Tensor) -> SecondMoments:
    parameters = select(net, ["*"])
    moments = SecondMoments(parameters)
    moments.add(make_engine("loop", net, Sum(), parameters).per_sample(batch))
    return moments


def written_out(net: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """The scale of every coordinate, by the definition, in float64."""
    gradients = gathered(make_engine("loop", net, Sum(), select(net, ["*"])).per_sample(batch), net)
    squares = {name: one.double().square() for name, one in gradients.items()}
    overall = sum(float(one.sum()) for one in squares.values()) / sum(one.numel() for one in squares.values())
    found = {}
    for name, parameter in select(net, ["*"]).items():
        m = parameter.shape[0] if parameter.dim() else 1
        square = squares[name].view(len(batch), m, -1).mean(0)
        more = square.mean() / len(batch)
        rows, columns, mean = square.mean(1) + more, square.mean(0) + more, square.mean() + more
        found[name] = (torch.outer(rows, columns) / mean / overall).pow(-0.25).flatten()
    return found


def test_scales_are_those_of_the_definition() -> None:
    net = model()
    expected = written_out(net, BATCH)
    for name, scale in moments_of(net, BATCH).scales().items():
        count = select(net, ["*"])[name].numel()
        torch.testing.assert_close(scale.part(0, count).double(), expected[name], rtol=1e-5, atol=0)


def test_second_moments_add_up_over_batches_in_any_order() -> None:
    net = model()
    parameters = select(net, ["*"])
    oracle, moments = make_engine("loop", net, Sum(), parameters), SecondMoments(parameters)
    for part in (BATCH[2:], BATCH[:2]):
        moments.add(oracle.per_sample(part))
    for name, scale in moments_of(net, BATCH).scales().items():
        torch.testing.assert_close(moments.scales()[name].rows, scale.rows)
        torch.testing.assert_close(moments.scales()[name].columns, scale.columns)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("factored", [False, True])
def test_every_engine_gives_the_same_scales(engine: str, factored: bool) -> None:
    """From dense blocks, from rows of an embedding, and from factors."""
    net = model()
    parameters = select(net, ["*"])
    matrices = outer_products(net, parameters) if factored else {}
    strategies = find_strategies(net, Sum(), parameters, BATCH, Factoring(matrices)) if engine == "hooks" else None
    moments = SecondMoments(parameters)
    moments.add(make_engine(engine, net, Sum(), parameters, strategies, Factoring(matrices)).per_sample(BATCH))
    for name, scale in moments_of(net, BATCH).scales().items():
        torch.testing.assert_close(moments.scales()[name].rows, scale.rows, rtol=1e-4, atol=0)
        torch.testing.assert_close(moments.scales()[name].columns, scale.columns, rtol=1e-4, atol=0)


def test_parts_of_a_parameter_are_put_together_and_overlaps_refused() -> None:
    gradient = torch.randn(4, 6)
    whole, parts = SecondMoments({"w": torch.zeros(2, 3)}), SecondMoments({"w": torch.zeros(2, 3)})
    whole.add(found(Block("w", gradient)))
    parts.add(found(Block("w", gradient[:, 4:], 4), Block("w", gradient[:, :4])))
    torch.testing.assert_close(parts.scales()["w"].part(0, 6), whole.scales()["w"].part(0, 6))
    with pytest.raises(OverlappingBlocksError):
        parts.add(found(Block("w", gradient[:, 2:], 2), Block("w", gradient[:, :4])))


def test_two_layers_with_one_weight_overlap_under_hooks() -> None:
    """Two blocks that add up do not tell the square of their sum, so such models are left to the loop."""
    net = Net(lambda net, x: net.b(net.a(x).tanh()), a=nn.Linear(3, 3), b=nn.Linear(3, 3)).eval()
    net.b.weight = net.a.weight
    batch, parameters = torch.randn(4, 3), select(net, ["*"])
    engine = make_engine("hooks", net, Sum(), parameters, find_strategies(net, Sum(), parameters, batch))
    with pytest.raises(OverlappingBlocksError):
        SecondMoments(parameters).add(engine.per_sample(batch))


def test_a_layer_that_is_called_twice_gives_one_block() -> None:
    net = Net(lambda net, x: net.mix(net.mix(x).tanh()), mix=nn.Linear(3, 3)).eval()
    batch, parameters = torch.randn(4, 3), select(net, ["*"])
    hooks = make_engine("hooks", net, Sum(), parameters, find_strategies(net, Sum(), parameters, batch))
    scales = []
    for engine in (hooks, make_engine("loop", net, Sum(), parameters)):
        moments = SecondMoments(parameters)
        moments.add(engine.per_sample(batch))
        scales.append(moments.scales())
    for name, scale in scales[0].items():
        torch.testing.assert_close(scale.rows, scales[1][name].rows)
        torch.testing.assert_close(scale.columns, scales[1][name].columns)


def found(*blocks: Block) -> PerSample:
    """What an engine gives for a microbatch."""
    batch = blocks[0].batch
    return PerSample(torch.zeros(batch), torch.zeros(batch), iter(blocks))


def test_directions_that_are_large_in_every_sample_count_less() -> None:
    """A parameter whose gradients are a hundred times as large has a scale a tenth as large."""
    sizes = {"large": 100.0, "small": 1.0}
    moments = SecondMoments({name: torch.zeros(2, 3) for name in sizes})
    moments.add(found(*(Block(name, torch.full((5, 6), size)) for name, size in sizes.items())))
    scales = moments.scales()
    ratio = scales["small"].part(0, 6) / scales["large"].part(0, 6)
    torch.testing.assert_close(ratio, torch.full((6,), 10.0))


def test_a_word_that_no_sample_has_keeps_a_finite_scale() -> None:
    scale = moments_of(model(), BATCH).scales()["token.weight"]
    assert bool(torch.isfinite(scale.rows).all())
    assert float(scale.rows[0]) == float(scale.rows.max())  # word 0 is in no sample
    # One sample more of the mean square, of which four fifths lie elsewhere.
    assert float(scale.rows.max() / scale.rows.min()) < (1 + 4 * 11) ** 0.25


def test_rounding_noise_around_zero_is_not_scaled_up() -> None:
    moments = SecondMoments({"noise": torch.zeros(2), "busy": torch.zeros(2)})
    moments.add(found(Block("noise", torch.full((4, 2), 1e-9)), Block("busy", torch.ones(4, 2))))
    assert float(moments.scales()["noise"].part(0, 2).max()) == pytest.approx(1e-10**-0.25, rel=1e-3)


def test_a_parameter_without_gradients_keeps_the_scale_one() -> None:
    moments = SecondMoments({"idle": torch.zeros(3, 2), "busy": torch.zeros(2)})
    moments.add(found(Block("idle", torch.zeros(4, 6)), Block("busy", torch.ones(4, 2))))
    assert moments.scales()["idle"].part(0, 6).tolist() == [1.0] * 6


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("factored", [False, True])
def test_every_engine_gives_the_gradients_times_the_scales(engine: str, factored: bool) -> None:
    net = model()
    parameters = select(net, ["*"])
    matrices = outer_products(net, parameters) if factored else {}
    strategies = find_strategies(net, Sum(), parameters, BATCH, Factoring(matrices)) if engine == "hooks" else None
    made = make_engine(engine, net, Sum(), parameters, strategies, Factoring(matrices))
    scales = moments_of(net, BATCH).scales()
    result = ScaledEngine(made, scales).per_sample(BATCH)
    dense = [one.dense() if isinstance(one, FactorBlock) else one for one in result.blocks]
    found = gathered(type(result)(result.outputs, result.out_to_loss, iter(dense)), net)
    plain = gathered(make_engine("loop", net, Sum(), parameters).per_sample(BATCH), net)
    for name, expected in written_out(net, BATCH).items():
        torch.testing.assert_close(found[name].double(), plain[name].double() * expected, rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), st.data())
def test_blocks_of_every_kind_are_parts_of_one_scale(m: int, n: int, batch: int, data: st.DataObject) -> None:
    """Whole, in parts, by rows and as factors: the same dense gradient times rows[i] · columns[j]."""
    generator = torch.Generator().manual_seed(m * 100 + n * 10 + batch)
    scale = Scale(torch.rand(m, generator=generator) + 0.1, torch.rand(n, generator=generator) + 0.1)
    full = torch.outer(scale.rows, scale.columns)
    left, right = torch.randn(batch, 2, m, generator=generator), torch.randn(batch, 2, n, generator=generator)
    dense = FactorBlock("w", left, right).dense()
    expected = dense.gradient * full.flatten()

    whole, factors = scaled(dense, scale), scaled(FactorBlock("w", left, right), scale)
    assert isinstance(whole, Block)
    assert isinstance(factors, FactorBlock)
    torch.testing.assert_close(whole.gradient, expected)
    torch.testing.assert_close(factors.dense().gradient, expected, rtol=1e-4, atol=1e-5)

    cut = data.draw(st.integers(0, m * n))
    for start, stop in ((0, cut), (cut, m * n)):
        part = scaled(Block("w", dense.gradient[:, start:stop], start), scale)
        assert isinstance(part, Block)
        torch.testing.assert_close(part.gradient, expected[:, start:stop])

    row = torch.arange(m)
    rows = scaled(RowBlock("w", 1, torch.zeros(m, dtype=torch.long), row, dense.gradient[0].view(m, n)), scale)
    assert isinstance(rows, RowBlock)
    torch.testing.assert_close(rows.values.flatten(), expected[0])


def test_scaled_blocks_keep_their_dtype() -> None:
    scale = Scale(torch.ones(2), torch.ones(3))
    for dtype in (torch.bfloat16, torch.float64):
        block = scaled(Block("w", torch.ones(1, 6, dtype=dtype)), scale)
        assert isinstance(block, Block)
        assert block.gradient.dtype == dtype
