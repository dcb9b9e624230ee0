"""Whatever is kept in memory, and wherever a sweep was stopped, the derivative has the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trainings import AMPLE, CASES, Case, adamw, convolutional, images, perceptron, seeded, sgd, swept, vectors

from trak_cli.errors import ConfigError
from trak_cli.tasks import Classification
from trak_cli.unrolling.memory_plan import Budget, MemoryPlan, Needs, cuts, plan
from trak_cli.unrolling.sweep_state import SweepState
from trak_cli.unrolling.unroll import Unrolling

LONG = Case(seeded(convolutional), Classification(), adamw(epochs=5), images())

SOME = {"convolutions": LONG} | {name: CASES[name] for name in ("dropout, layer norm", "own optimizer")}


@cache
def least_budget(name: str) -> float:
    """A budget in MiB that is just enough for all targets of a training, within 15 %."""
    case = SOME[name]

    def is_enough(budget: float) -> bool:
        try:
            Unrolling(case.run(), case.task.output, Budget(budget), len(case.targets()))
        except ConfigError:
            return False
        return True

    least = 0.01
    for factor in (4.0, 2.0, 2**0.5, 1.15):  # the largest multiple that is too little, by smaller and smaller factors
        while not is_enough(least * factor):
            least *= factor
    return 1.15 * least


@cache
def derivative(budget: float, block: int) -> torch.Tensor:
    """That of the first targets of the long training, from a run that was not stopped."""
    return swept(LONG.unrolling(budget, 3), LONG.targets()[:block])


@pytest.mark.parametrize("name", SOME)
def test_any_budget_gives_the_same_bytes(name: str) -> None:
    case, least = SOME[name], least_budget(name)
    targets = case.targets()
    budgets = [least, 1.1 * least, 1.5 * least, 3 * least, AMPLE]
    results = [swept(case.unrolling(budget, len(targets)), targets) for budget in budgets]
    assert all(torch.equal(result, results[-1]) for result in results)


def test_any_block_of_targets_gives_the_same_bytes() -> None:
    unrolling, targets = LONG.unrolling(targets=3), LONG.targets()
    together = swept(unrolling, targets)
    assert torch.equal(torch.cat([swept(unrolling, [target]) for target in targets]), together)
    assert torch.equal(swept(unrolling, targets[::-1]).flip(0), together)


@pytest.mark.parametrize("ample", [False, True])
@pytest.mark.parametrize("stop", [1, 6, 14])
def test_a_sweep_goes_on_from_a_stored_state_to_the_same_bytes(stop: int, ample: bool) -> None:
    budget = AMPLE if ample else least_budget("convolutions")
    unrolling = LONG.unrolling(budget, 3)
    targets = LONG.targets()[: unrolling.block]
    for state in unrolling.sweep(targets):
        if state.step == stop:
            stored = {name: array.copy() for name, array in state.arrays().items()}
            break
    assert torch.equal(
        swept(LONG.unrolling(budget, 3), targets, SweepState.from_arrays(stored)), derivative(budget, len(targets))
    )


class StoppedError(Exception):
    """Ends a forward pass."""


class Kept:
    """States of a forward pass that is interrupted after some steps; every ``each``-th state is stored."""

    def __init__(self, each: int, last: int | None = None) -> None:
        self.each, self.last = each, last
        self.states: dict[int, dict[str, torch.Tensor]] = {}

    def steps(self) -> list[int]:
        return list(self.states)

    def load(self, step: int, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert self.states[step].keys() == like.keys()
        return self.states[step]

    def offer(self, step: int, state: Mapping[str, torch.Tensor], kept: bool) -> None:
        if step % self.each == 0:
            self.states[step] = {name: value.clone() for name, value in state.items()}
        if step == self.last:
            raise StoppedError


@pytest.mark.parametrize(("each", "last", "remaining"), [(1, 7, 8), (3, 8, 9), (1, 15, 0), (20, 9, 15)])
@pytest.mark.parametrize("ample", [False, True])
def test_a_forward_pass_goes_on_from_stored_states_to_the_same_bytes(each: int, last: int, remaining: int, ample: bool) -> None:
    budget = Budget(AMPLE if ample else least_budget("convolutions"))
    stored, targets = Kept(each, last), LONG.targets()
    with pytest.raises(StoppedError):
        Unrolling(LONG.run(), LONG.task.output, budget, 3).forward(stored=stored)
    again = Unrolling(LONG.run(), LONG.task.output, budget, 3)
    stored.last = None
    made = again.forward(stored=stored)
    assert made == remaining if ample else remaining <= made <= remaining + 2 * each
    assert torch.equal(swept(again, targets), derivative(AMPLE, 3))


def test_parameters_in_bfloat16_can_be_stored() -> None:
    case = Case(lambda: perceptron()().bfloat16(), Classification(), sgd(), [(x.bfloat16(), y) for x, y in vectors()])
    targets = case.targets()
    expected = swept(case.unrolling(), targets[:1])
    state = next(iter(case.unrolling().sweep(targets[:1])))
    again = SweepState.from_arrays({name: array.copy() for name, array in state.arrays().items()})
    assert torch.equal(swept(case.unrolling(), targets[:1], again), expected)


def test_a_budget_that_is_too_small_names_one_that_is_enough() -> None:
    with pytest.raises(ConfigError) as refused:
        LONG.unrolling(0.001)
    (problem,) = refused.value.problems
    assert problem.where == "unroll.memory_mb"
    assert LONG.unrolling(float(problem.remedy.split("=")[1].split()[0])).block == 1


@settings(deadline=None, max_examples=200)
@given(
    steps=st.integers(1, 300),
    state=st.integers(1, 10**6),
    graph=st.integers(1, 10**7),
    targets=st.integers(1, 5),
    budget=st.floats(0.01, 2000),
)
def test_a_plan_stays_within_its_budget_and_covers_all_steps(
    steps: int, state: int, graph: int, targets: int, budget: float
) -> None:
    try:
        found = plan(steps, Needs(state, graph), targets, Budget(budget))
    except ConfigError:
        return
    kept = found.graphs * graph + found.snapshots * found.levels * state + targets * state
    assert kept <= budget * 2**20
    assert most_graphs(0, steps, found, 0) <= found.graphs


def most_graphs(start: int, stop: int, found: MemoryPlan, depth: int) -> int:
    """The largest number of graphs that are kept together; fails if the parts are cut more often than planned."""
    inner = cuts(start, stop, found)
    if not inner:
        return stop - start
    assert depth < found.levels
    assert len(inner) <= found.snapshots
    assert [start, *inner, stop] == sorted({start, *inner, stop})
    bounds = [start, *inner, stop]
    return max(most_graphs(a, b, found, depth + 1) for a, b in pairwise(bounds))


@settings(deadline=None, max_examples=10)
@given(factor=st.floats(-3, 3), seed=st.integers(0, 99))
def test_the_derivative_is_linear_in_the_adjoint(factor: float, seed: int) -> None:
    case = CASES["adamw"]
    unrolling, targets = case.unrolling(targets=3), case.targets()
    start = next(iter(unrolling.sweep(targets)))
    generator = torch.Generator().manual_seed(seed)
    mixed = {}
    for name, value in start.adjoint.items():
        noise = torch.randn(value.shape[1:], generator=generator, dtype=value.dtype)
        mixed[name] = torch.stack([value[0], noise, factor * value[0] - 2 * noise])
    state = SweepState(start.step, mixed, torch.zeros_like(start.derivative))
    one, other, both = swept(unrolling, targets, state)
    torch.testing.assert_close(both, factor * one - 2 * other, rtol=1e-8, atol=1e-10)
