"""Models that put the samples of a batch into another order inside: refused by hooks in the first batch in which it matters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.unit.gradients.gathering import Net, Sum, gathered, gradients
from trak_cli.errors import InputError
from trak_cli.gradients.engines.hooks.batch_dims import survey
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select

Batch = tuple[Tensor, Tensor]


def by_sort(net: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    order = lengths.sort(descending=True, stable=True)[1]
    return net.head(net.body(x[order]).tanh())[order.argsort()]


def by_index_select(net: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    order = torch.argsort(lengths, descending=True, stable=True)
    return net.head(net.body(x.index_select(0, order)).tanh()).index_select(0, order.argsort())


def by_python(net: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    numbers = lengths.tolist()
    order = sorted(range(len(x)), key=lambda row: -numbers[row])
    found = net.head(net.body(torch.stack([x[row] for row in order])).tanh())
    return torch.stack([found[order.index(row)] for row in range(len(x))])


def by_a_list(net: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    numbers = lengths.tolist()
    order = sorted(range(len(x)), key=lambda row: -numbers[row])
    found = net.head(net.body(x[order]).tanh())
    return found[[order.index(row) for row in range(len(x))]]


WAYS: dict[str, Callable[..., Tensor]] = {
    "sort": by_sort,
    "index_select": by_index_select,
    "one by one": by_python,
    "a list of numbers": by_a_list,
}


def net(way: Callable[..., Tensor]) -> Net:
    torch.manual_seed(0)
    return Net(way, body=nn.Linear(3, 4), head=nn.Linear(4, 2)).double().eval()


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_in_another_order_is_refused_although_the_first_samples_are_in_order(way: str) -> None:
    model, x = net(WAYS[way]), torch.randn(6, 3).double()
    parameters = select(model, ["*"])
    strategies = find_strategies(model, Sum(), parameters, (x[:3], torch.tensor([9, 8, 7])))
    assert strategies == {}
    engine = make_engine("hooks", model, Sum(), parameters, strategies)
    with pytest.raises(InputError, match=r"another order.*gradients=loop"):
        list(engine.per_sample((x, torch.tensor([5, 8, 2, 9, 3, 1]))).blocks)


@pytest.mark.parametrize("way", WAYS)
def test_samples_out_of_order_from_the_start_take_another_strategy(way: str) -> None:
    model, batch = net(WAYS[way]), (torch.randn(5, 3).double(), torch.tensor([2, 9, 4, 1, 7]))
    found, expected = gradients("hooks", model, Sum(), batch), gradients("loop", model, Sum(), batch)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


@pytest.mark.parametrize("way", WAYS)
def test_samples_that_stay_in_order_are_computed(way: str) -> None:
    model, batch = net(WAYS[way]), (torch.randn(5, 3).double(), torch.tensor([9, 8, 7, 2, 1]))
    parameters = select(model, ["*"])
    engine = make_engine("hooks", model, Sum(), parameters, find_strategies(model, Sum(), parameters, batch))
    found = gathered(engine.per_sample(batch), model)
    for name, gradient in gradients("loop", model, Sum(), batch).items():
        torch.testing.assert_close(found[name], gradient)


def last_position(net: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """The position of each sequence that counts, as classifiers of texts read it."""
    return net.head(net.body(x).tanh())[torch.arange(len(x)), lengths]


def best_first(net: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """Entries of each sample are sorted, not samples."""
    del lengths
    return net.head(net.body(x).tanh().sort(1)[0].topk(4, 2)[0])


@pytest.mark.parametrize("function", [last_position, best_first])
def test_indices_inside_samples_cost_no_second_pass(function: Callable[..., Tensor]) -> None:
    model, batch = net(function), (torch.randn(5, 6, 3).double(), torch.tensor([0, 3, 2, 5, 1]))
    modules = {name: getattr(model, name) for name in ("body", "head")}
    assert survey(model, Sum(), batch, modules).doubtful == frozenset()
