"""Gradients as factors: which parameters have them, and the same features from every engine, against the oracle."""

from __future__ import annotations

from collections.abc import Callable

import projection_oracle as oracle
import pytest
import torch
from gathering import Conv1D, Net, Sum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trak_cli.gradients.engines.hooks.strategies import outer_products
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.factoring import Factoring
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.gradients.rules import pieces as rule_pieces
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block, FactorBlock, RowBlock

CHECKPOINT = "31" * 32
SPEC = ProjectionSpec("factored", 96, 2, nonzeros=2, factors=(4, 3))


def features(model: nn.Module, batch: Tensor, engine: str, spec: ProjectionSpec = SPEC) -> Tensor:
    """As a run computes them."""
    model.eval()
    parameters, task = select(model, ["*"]), Sum()
    matrices = outer_products(model, parameters)
    strategies = find_strategies(model, task, parameters, batch, Factoring(matrices)) if engine == "hooks" else None
    made = make_engine(engine, model, task, parameters, strategies, Factoring(matrices))
    sizes = {name: one.numel() for name, one in parameters.items()}
    projector = make_projector(ProjectionJob(spec, CHECKPOINT, sizes, threads=1, matrices=matrices))
    return projector.project(made.per_sample(batch).blocks)


def exact(model: nn.Module, batch: Tensor, spec: ProjectionSpec = SPEC) -> Tensor:
    """Gradients by plain autograd in float64 times the matrix that is written out."""
    model.eval()
    parameters = select(model, ["*"])
    matrices = outer_products(model, parameters)
    sparse = ProjectionSpec("sjlt", spec.dim, spec.seed, spec.nonzeros)
    rows = []
    for sample in batch:
        found = torch.autograd.grad(Sum().output(model, sample[None])[0], list(parameters.values()), allow_unused=True)
        row = torch.zeros(spec.dim, dtype=torch.float64)
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is None:
                continue
            if name in matrices:
                P = oracle.factored_matrix(spec, CHECKPOINT, name, matrices[name])
            else:
                P = oracle.matrix(sparse, CHECKPOINT, name, range(gradient.numel()))
            row += gradient.double().flatten() @ torch.from_numpy(P)
        rows.append(row)
    return torch.stack(rows)


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert float((found.double() - expected).abs().max()) <= tolerance * float(expected.abs().max())


def tied() -> nn.Module:
    model = Net(
        lambda net, x: net.head(net.mix(net.token(x)).relu()),
        token=nn.Embedding(7, 5),
        mix=nn.Linear(5, 5),
        head=nn.Linear(5, 7, bias=False),
    )
    model.head.weight = model.token.weight
    return model


def siblings() -> nn.Module:
    model = Net(lambda net, x: net.second(net.first(x).tanh()), first=nn.Linear(6, 6), second=nn.Linear(6, 6))
    model.second.weight = model.first.weight
    return model


def twice() -> nn.Module:
    return Net(lambda net, x: net.layer(net.layer(x).tanh()), layer=nn.Linear(6, 6))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "vectors": (lambda: nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 2)), lambda n: torch.randn(n, 9)),
    "several positions": (
        lambda: nn.Sequential(nn.Linear(9, 8), nn.LayerNorm(8), nn.Linear(8, 5)),
        lambda n: torch.randn(n, 3, 9),
    ),
    "positions along two axes": (lambda: nn.Linear(9, 8), lambda n: torch.randn(n, 3, 2, 9)),
    "samples flattened into positions": (
        lambda: Net(lambda net, x: net.layer(x.flatten(0, 1)).unflatten(0, (len(x), -1)), layer=nn.Linear(9, 8)),
        lambda n: torch.randn(n, 3, 9),
    ),
    "a weight the other way round": (
        lambda: nn.Sequential(Conv1D(9, 8), nn.Tanh(), Conv1D(8, 5)),
        lambda n: torch.randn(n, 3, 9),
    ),
    "called twice": (twice, lambda n: torch.randn(n, 6)),
    "tied to another linear layer": (siblings, lambda n: torch.randn(n, 6)),
    "tied to an embedding": (tied, lambda n: torch.randint(0, 7, (n, 6))),
    "embedding alone": (
        lambda: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 6)),
        lambda n: torch.randint(0, 7, (n, 6)),
    ),
    "convolution and norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 3, (2, 3), stride=2)),
        lambda n: torch.randn(n, 2, 7, 6),
    ),
    "a weight that a function uses": (
        lambda: Net(lambda net, x: nn.functional.linear(net.layer(x), net.layer.weight), layer=nn.Linear(6, 6)),
        lambda n: torch.randn(n, 6),
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("make", "data"), CASES.values(), ids=CASES.keys())
def test_features_are_those_of_the_oracle(make: Callable[[], nn.Module], data: Callable[[int], Tensor], engine: str) -> None:
    torch.manual_seed(0)
    model, batch = make(), data(5)
    assert_close(features(model, batch, engine), exact(model, batch))


@settings(deadline=None, max_examples=40)
@given(
    dims=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "same", "valid"]),
    mode=st.sampled_from(["zeros", "circular", "reflect"]),
    pieces=st.sampled_from([1, 2**25]),
    flattened=st.booleans(),
)
def test_convolutions_of_every_shape(
    dims: int,
    channels: tuple[int, int],
    kernel: int,
    stride: int,
    dilation: int,
    padding: int | str,
    mode: str,
    pieces: int,
    flattened: bool,
) -> None:
    """Also a few patches at a time, and with several images for each sample."""
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    stride = 1 if padding == "same" else stride
    torch.manual_seed(0)
    layer = kind(*channels, kernel, stride, padding=padding, dilation=dilation, padding_mode=mode)
    x = torch.randn(3, 2, channels[0], *(7, 6, 5)[:dims])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rule_pieces.UNFOLDED_BYTES, "cpu", pieces)
        if flattened:
            model: nn.Module = Net(lambda net, x: net.layer(x.flatten(0, 1)).unflatten(0, (len(x), -1)), layer=layer)
            assert_close(features(model, x, "hooks"), exact(model, x))
        else:
            assert_close(features(layer, x[:, 0], "hooks"), exact(layer, x[:, 0]))


def test_every_weight_of_a_layer_is_factored() -> None:
    """Every gradient with factors comes as factors; biases and norms as they are, embeddings by rows."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(7, 5), nn.LayerNorm(5), nn.Linear(5, 6), nn.Conv1d(4, 3, 2)).eval()
    parameters, batch = select(model, ["*"]), torch.randint(0, 7, (3, 4))
    matrices = outer_products(model, parameters)
    assert matrices == {"2.weight": (6, 5), "3.weight": (3, 8)}
    blocks = list(make_engine("hooks", model, Sum(), parameters, None, Factoring(matrices)).per_sample(batch).blocks)
    assert {block.name for block in blocks if isinstance(block, FactorBlock)} == {"2.weight", "3.weight"}
    assert {block.name for block in blocks if isinstance(block, RowBlock)} == {"0.weight"}
    whole = {block.name for block in blocks if isinstance(block, Block) and block.gradient.shape[1]}
    assert whole == {"1.weight", "1.bias", "2.bias", "3.bias"}


def test_a_transposed_weight_is_factored_too() -> None:
    model = nn.Sequential(Conv1D(9, 8)).eval()
    parameters = select(model, ["*"])
    matrices = outer_products(model, parameters)
    assert matrices == {"0.weight": (9, 8)}
    blocks = list(
        make_engine("hooks", model, Sum(), parameters, None, Factoring(matrices)).per_sample(torch.randn(2, 3, 9)).blocks
    )
    (factors,) = [block for block in blocks if isinstance(block, FactorBlock)]
    assert (factors.left.shape, factors.right.shape) == ((2, 3, 9), (2, 3, 8))


def test_which_parameters_are_sums_of_outer_products() -> None:
    """A property of the model: embeddings alone, grouped convolutions and what no layer holds are not."""
    model = Net(
        lambda net, x: x,
        linear=nn.Linear(3, 2),
        grouped=nn.Conv2d(4, 4, 3, groups=2),
        token=nn.Embedding(5, 3),
        attend=nn.MultiheadAttention(4, 2),
        normed=nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)),
    )
    assert outer_products(model, select(model, ["*"])) == {"linear.weight": (2, 3), "attend.out_proj.weight": (4, 4)}
    shared = tied()
    assert outer_products(shared, select(shared, ["*"]))["token.weight"] == (7, 5)
    assert outer_products(model, select(model, ["*"], ["linear.*"])) == {"attend.out_proj.weight": (4, 4)}


def test_factors_that_disagree_with_the_loop_use_another_strategy() -> None:
    """The engine is not trusted with factors either: a weight that is used besides its layer is found out."""
    torch.manual_seed(2)
    make, data = CASES["a weight that a function uses"]
    model, batch = make().eval(), data(4)
    parameters = select(model, ["*"])
    strategies = find_strategies(model, Sum(), parameters, batch, Factoring(outer_products(model, parameters)))
    assert strategies == {"layer.weight": ":vmap"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sample_does_not_depend_on_its_batch(engine: str) -> None:
    torch.manual_seed(3)
    make, data = CASES["convolution and norm"]
    model, batch = make(), data(6)
    whole = features(model, batch, engine).double()
    for part in (slice(0, 2), slice(3, 6)):
        assert_close(features(model, batch[part], engine), whole[part])


def test_double_precision_is_kept_up_to_the_sparse_matrix() -> None:
    torch.manual_seed(4)
    make, data = CASES["several positions"]
    model = make().double()
    batch = data(3).double()
    assert_close(features(model, batch, "hooks"), exact(model, batch), 1e-6)
