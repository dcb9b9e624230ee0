"""Rows that are taken by content: other numbers of them for other samples are refused, however well they add up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from gathering import Net, Sum, gathered
from torch import Tensor, nn

from trak_cli.errors import InputError
from trak_cli.gradients.engines.hooks.batch_dims import survey
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select

Taken = Callable[[Tensor, Tensor], Tensor]

TAKEN: dict[str, Taken] = {
    "by a mask": lambda x, mask: x[mask],
    "by places": lambda x, mask: x.flatten(0, 1)[mask.flatten().nonzero()[:, 0]],
    "by numbers of Python": lambda x, mask: torch.cat([row[:n] for row, n in zip(x, mask.sum(1).tolist(), strict=True)]),
    "by scalars": lambda x, mask: torch.cat([row[: int(n)] for row, n in zip(x, mask.sum(1), strict=True)]),
}


def model_of(taken: Taken) -> Net:
    """A head on some of the rows of each sample, whose values are added up by sample."""

    def forward(net: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        rows = net.head(taken(net.mix(net.token(ids)).relu(), mask).tanh()).squeeze(-1)
        return torch.zeros(len(ids), dtype=rows.dtype).index_add(0, mask.nonzero()[:, 0], rows)

    torch.manual_seed(0)
    return Net(forward, token=nn.Embedding(11, 8), mix=nn.Linear(8, 8), head=nn.Linear(8, 1)).eval()


def batch_of(counts: list[int], length: int = 6) -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, 11, (len(counts), length), generator=torch.Generator().manual_seed(1))
    return ids, torch.arange(length) < torch.tensor(counts)[:, None]


@pytest.mark.parametrize("how", TAKEN)
def test_unequal_shares_are_refused_although_their_sum_is_as_expected(how: str) -> None:
    model = model_of(TAKEN[how])
    parameters = select(model, ["*"])
    strategies = find_strategies(model, Sum(), parameters, batch_of([2, 2, 2]))
    assert strategies == {}
    engine = make_engine("hooks", model, Sum(), parameters, strategies)
    with pytest.raises(InputError, match=r"module head.*different numbers of entries.*gradients=loop"):
        list(engine.per_sample(batch_of([2, 2, 2, 1, 3, 4, 1, 1])).blocks)


def test_one_row_of_each_of_the_first_samples_may_be_two_of_a_later_one() -> None:
    model = model_of(TAKEN["by a mask"])
    parameters = select(model, ["*"])
    engine = make_engine("hooks", model, Sum(), parameters, find_strategies(model, Sum(), parameters, batch_of([1, 1, 1])))
    with pytest.raises(InputError, match="different numbers of entries"):
        list(engine.per_sample(batch_of([1, 2, 0, 1])).blocks)


@pytest.mark.parametrize("how", TAKEN)
def test_equal_shares_are_taken_whatever_their_number(how: str) -> None:
    model = model_of(TAKEN[how])
    parameters = select(model, ["*"])
    strategies = find_strategies(model, Sum(), parameters, batch_of([2, 2, 2]))
    hooked, looped = (make_engine(name, model, Sum(), parameters, strategies) for name in ("hooks", "loop"))
    for counts in ([2, 2, 2], [3] * 5, [1] * 9):
        found, expected = (gathered(one.per_sample(batch_of(counts)), model) for one in (hooked, looped))
        for name, one in expected.items():
            torch.testing.assert_close(found[name], one, atol=1e-5, rtol=1e-4)


def test_batches_of_other_lengths_are_packed_without_a_second_pass() -> None:
    torch.manual_seed(2)
    model = Net(lambda net, x: net.a(x.reshape(-1, 5)).tanh().reshape(len(x), -1), a=nn.Linear(5, 3)).eval()
    parameters = select(model, ["*"])
    hooked, looped = (make_engine(name, model, Sum(), parameters, {}) for name in ("hooks", "loop"))
    for size, length in ((3, 4), (5, 7), (4, 1)):
        x = torch.randn(size, length, 5)
        found, expected = (gathered(one.per_sample(x), model) for one in (hooked, looped))
        for name, one in expected.items():
            torch.testing.assert_close(found[name], one, atol=1e-5, rtol=1e-4)
        assert not survey(model, Sum(), x, {"a": model.a}).doubtful
