"""Gradients of layers with few positions go to the sparse projection as outer products: the features of plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import projection_oracle as oracle
import pytest
import torch
from gathering import Conv1D, Net, Sum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.factoring import Factoring
from trak_cli.gradients.parameters import select
from trak_cli.gradients.rules import pieces as rule_pieces
from trak_cli.gradients.rules import register_gradient_rule
from trak_cli.gradients.rules.registry import Names
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock, Block, FactorBlock

CHECKPOINT = "31" * 32
SPEC = ProjectionSpec("sjlt", 128, 2, nonzeros=2)


def blocks_of(model: nn.Module, batch: Tensor, terms: int = 6) -> list[AnyBlock]:
    """The blocks of an engine that gives sums of at most ``terms`` outer products as factors, checked against the loop."""
    model.eval()
    parameters, factoring = select(model, ["*"]), Factoring((), terms)
    strategies = find_strategies(model, Sum(), parameters, batch, factoring)
    return list(make_engine("hooks", model, Sum(), parameters, strategies, factoring).per_sample(batch).blocks)


def factored(blocks: list[AnyBlock]) -> set[str]:
    return {block.name for block in blocks if isinstance(block, FactorBlock)}


def assert_exact(model: nn.Module, batch: Tensor, blocks: list[AnyBlock]) -> None:
    """Their projection is that of gradients by plain autograd in float64, with the matrix written out."""
    parameters = select(model, ["*"])
    sizes = {name: one.numel() for name, one in parameters.items()}
    found = make_projector(ProjectionJob(SPEC, CHECKPOINT, sizes, threads=1)).project(blocks)
    P = {name: torch.from_numpy(oracle.matrix(SPEC, CHECKPOINT, name, range(size))) for name, size in sizes.items()}
    expected = torch.zeros(len(batch), SPEC.dim, dtype=torch.float64)
    for row, sample in zip(expected, batch, strict=True):
        of_sample = torch.autograd.grad(Sum().output(model, sample[None])[0], list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, of_sample, strict=True):
            if gradient is not None:
                row += gradient.double().flatten() @ P[name]
    assert float((found.double() - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@settings(deadline=None, max_examples=40)
@given(
    dims=st.integers(1, 3),
    channels=st.tuples(st.sampled_from([1, 3, 8, 16]), st.sampled_from([1, 5, 6])),
    groups=st.sampled_from([1, 1, 1, 2]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "same", "valid"]),
    mode=st.sampled_from(["zeros", "circular"]),
    images=st.integers(1, 2),
    most=st.sampled_from([1, 2**25]),
)
def test_convolutions_of_every_shape(
    dims: int,
    channels: tuple[int, int],
    groups: int,
    kernel: int,
    stride: int,
    dilation: int,
    padding: int | str,
    mode: str,
    images: int,
    most: int,
) -> None:
    """Also with groups, which have no factors; with several images for each sample; with patches that are too large to copy."""
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    stride = 1 if padding == "same" else stride
    inputs, outputs = (groups * number for number in channels)
    torch.manual_seed(0)
    layer = kind(inputs, outputs, kernel, stride, padding=padding, dilation=dilation, padding_mode=mode, groups=groups)
    x = torch.randn(3, images, inputs, *(7, 6, 5)[:dims])
    model = Net(lambda net, x: net.layer(x.flatten(0, 1)).unflatten(0, (len(x), -1)), layer=layer)
    positions = images * layer(x[0, :1])[0, 0].numel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rule_pieces.MOST_BYTES, "cpu", most)
        blocks = blocks_of(model, x, positions)
        assert factored(blocks) == (set() if groups > 1 or most == 1 else {"layer.weight"})
        assert factored(blocks_of(model, x, positions - 1)) == set()
    assert_exact(model, x, blocks)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], set[str]]] = {
    "one position": (
        lambda: nn.Sequential(nn.Linear(9, 16), nn.Tanh(), nn.Linear(16, 7)),
        lambda n: torch.randn(n, 9),
        {"0.weight", "2.weight"},
    ),
    "few and many positions": (
        lambda: Net(lambda net, x: net.few(net.many(x).mean(1)), many=nn.Linear(9, 32), few=nn.Linear(32, 5)),
        lambda n: torch.randn(n, 7, 9),
        {"few.weight"},
    ),
    "weights the other way round": (
        lambda: nn.Sequential(Conv1D(9, 16), nn.Tanh(), Conv1D(16, 48)),
        lambda n: torch.randn(n, 3, 9),
        {"0.weight", "2.weight"},
    ),
    "a layer that is called twice": (
        lambda: Net(lambda net, x: net.layer(net.layer(x).tanh()), layer=nn.Linear(16, 16)),
        lambda n: torch.randn(n, 3, 16),
        {"layer.weight"},
    ),
    "a weight that a function uses": (
        lambda: Net(lambda net, x: nn.functional.linear(net.layer(x), net.layer.weight), layer=nn.Linear(16, 16)),
        lambda n: torch.randn(n, 16),
        set(),
    ),
    "a convolution, a norm and a classifier": (
        lambda: nn.Sequential(nn.Conv2d(16, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)),
        lambda n: torch.randn(n, 16, 5, 6),
        {"0.weight", "3.weight"},
    ),
}


@pytest.mark.parametrize(("make", "data", "names"), CASES.values(), ids=CASES.keys())
def test_features_are_those_of_plain_autograd(
    make: Callable[[], nn.Module], data: Callable[[int], Tensor], names: set[str]
) -> None:
    torch.manual_seed(0)
    model, batch = make().eval(), data(5)
    blocks = blocks_of(model, batch)
    assert factored(blocks) == names
    assert_exact(model, batch, blocks)


class Scaled(nn.Linear):
    """A layer of its own class, for a rule whose dense gradients are wrong."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(2 * x, self.weight, self.bias)


def test_dense_gradients_are_checked_too_because_larger_batches_have_them() -> None:
    def factors(module: nn.Module, x: Tensor, g: Tensor, name: str) -> Iterator[FactorBlock]:
        yield FactorBlock(name, g.flatten(1, -2), 2 * x.flatten(1, -2))

    def wrong(module: nn.Module, x: Tensor, g: Tensor, names: Names) -> Iterator[Block]:
        if "weight" in names:
            yield Block(names["weight"], (g.flatten(1, -2).transpose(1, 2) @ x.flatten(1, -2)).flatten(1))
        if "bias" in names:
            yield Block(names["bias"], g.flatten(1, -2).sum(1))

    torch.manual_seed(2)
    model, batch = nn.Sequential(Scaled(5, 16), nn.Tanh(), nn.Linear(16, 3)).eval(), torch.randn(4, 5)
    parameters, factoring = select(model, ["*"]), Factoring((), 6)
    register_gradient_rule(Scaled, factors=factors)(wrong)
    assert find_strategies(model, Sum(), parameters, batch, factoring).keys() == {"0.weight"}


def test_the_rest_of_the_batch_does_not_change_a_sample() -> None:
    torch.manual_seed(1)
    make, data, _ = CASES["one position"]
    model, batch = make().eval(), data(7)
    sizes = {name: one.numel() for name, one in select(model, ["*"]).items()}
    project = make_projector(ProjectionJob(SPEC, CHECKPOINT, sizes, threads=1)).project
    whole = project(blocks_of(model, batch))
    torch.testing.assert_close(project(blocks_of(model, batch[2:5])), whole[2:5], rtol=1e-5, atol=1e-5)
