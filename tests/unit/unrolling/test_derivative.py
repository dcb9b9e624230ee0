"""The derivative of f in the weights of the samples is that of the training itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from trainings import CASES, Case, finite_differences, one_graph, perceptron, sgd, swept, vectors

from trak_cli.errors import InputError
from trak_cli.plugins.trainers.plan import BatchPlan
from trak_cli.plugins.trainers.sgd import SGDTrainer
from trak_cli.tasks import Classification

#: Models whose running statistics change are left to finite differences.
WITHOUT_STATISTICS = [name for name in CASES if name not in ("batch norm", "convolutions")]


@pytest.mark.parametrize("name", CASES)
def test_the_derivative_equals_finite_differences(name: str) -> None:
    case = CASES[name]
    rows = [0, 4, case.rows - 1]
    found = swept(case.unrolling(), case.targets())[:, rows]
    expected = finite_differences(case, rows)
    scale = expected.abs().max()
    assert scale > 1e-4
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", WITHOUT_STATISTICS)
def test_the_derivative_equals_that_of_one_graph_over_the_training(name: str) -> None:
    case = CASES[name]
    torch.testing.assert_close(swept(case.unrolling(), case.targets()), one_graph(case), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_the_model_is_that_of_a_training(name: str) -> None:
    case = CASES[name]
    unrolling = case.unrolling()
    expected = case.trained(torch.ones(case.rows))
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(unrolling.model.state_dict()[key], value, rtol=1e-9, atol=1e-11, msg=key)


class Resampled(SGDTrainer):
    """A trainer whose batches are drawn with replacement."""

    def plan(self, rows: int, seed: int) -> Sequence[Sequence[int]]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randint(0, rows, (self.batch_size,), generator=generator).tolist() for _ in range(2 * self.epochs)]


def test_a_sample_that_is_in_a_batch_twice_counts_twice() -> None:
    case = Case(perceptron(), Classification(), Resampled(epochs=3, batch_size=9), vectors(rows=6))
    assert any(len(set(batch)) < len(batch) for batch in case.trainer.plan(6, 3))
    found, expected = swept(case.unrolling(), case.targets()), finite_differences(case, range(6))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_visits_in_all_epochs_add_up() -> None:
    case = Case(perceptron(), Classification(), sgd(epochs=3), vectors())
    states = [(state.step, state.derivative.clone()) for state in case.unrolling().sweep(case.targets()[:1])]
    assert [step for step, _ in states] == list(reversed(range(9)))
    plan = BatchPlan(case.rows, 3, 8, case.seed)
    visited: set[int] = set()
    for step, derivative in states:
        visited |= set(plan[step])
        assert set(derivative[0].nonzero()[:, 0].tolist()) <= visited


def test_a_group_has_the_mean_of_the_derivatives_of_its_rows() -> None:
    case = CASES["adamw"]
    singles = [lambda row=row: [torch.utils.data.default_collate([case.samples[row]])] for row in range(7)]
    found = swept(case.unrolling(targets=7), singles)
    group = swept(case.unrolling(), case.targets()[-1:])
    torch.testing.assert_close(group[0], found.mean(0), rtol=1e-9, atol=1e-13)


def test_random_states_of_the_caller_are_kept() -> None:
    case = CASES["dropout, layer norm"]
    torch.manual_seed(1)
    expected = torch.rand(2)
    unrolling = case.unrolling()
    torch.manual_seed(1)
    for _ in unrolling.sweep(case.targets()[:1]):
        pass
    assert torch.equal(torch.rand(2), expected)


class Rounded(torch.autograd.Function):
    """A function with a first derivative only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class OnceDifferentiable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = Rounded.apply(x)
        return found


def test_an_operation_without_a_second_derivative_is_refused() -> None:
    case = Case(perceptron(OnceDifferentiable), Classification(), sgd(), vectors())
    with pytest.raises(InputError, match="second derivative"):
        case.unrolling()


class Listed(nn.Module):
    """Multiplies by a weight that it keeps in a list, or in a ParameterList."""

    def __init__(self, registered: bool) -> None:
        super().__init__()
        weight = nn.Parameter(torch.randn(6, 6))
        self.weights: Any = nn.ParameterList([weight]) if registered else [weight]
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x @ self.weights[0]
        return found


def test_a_parameter_that_the_model_keeps_in_a_list_is_refused() -> None:
    with pytest.raises(InputError, match=r"1\.weight"):
        Case(perceptron(lambda: Listed(registered=False)), Classification(), sgd(), vectors()).unrolling()
    case = Case(perceptron(lambda: Listed(registered=True)), Classification(), sgd(), vectors())
    torch.testing.assert_close(swept(case.unrolling(), case.targets()), one_graph(case), rtol=1e-9, atol=1e-13)


class Checkpointed(nn.Module):
    """Recomputes its activations in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.layers, self.reentrant = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Dropout(0.2)), reentrant

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = checkpoint(self.layers, x, use_reentrant=self.reentrant)
        return found


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_changes_nothing(reentrant: bool) -> None:
    case = Case(perceptron(lambda: Checkpointed(reentrant)), Classification(), sgd(), vectors())
    plain = Case(perceptron(lambda: Checkpointed(reentrant).layers), Classification(), sgd(), vectors())
    found, expected = swept(case.unrolling(), case.targets()), swept(plain.unrolling(), plain.targets())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


class Drifting(nn.Module):
    """Adds a buffer that moves in training mode; ``used`` says whether it enters the result."""

    mean: Tensor
    calls: Tensor

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.used = used
        self.register_buffer("mean", torch.zeros(6, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean += 0.1 * (x.detach().mean(0) - self.mean)
            self.calls += 1
        return x - self.mean if self.used else x


def test_a_buffer_that_training_changes_is_refused_if_f_depends_on_it() -> None:
    with pytest.raises(InputError, match=r"1\.mean"):
        Case(perceptron(lambda: Drifting(used=True)), Classification(), sgd(), vectors()).unrolling()


def test_a_buffer_that_nothing_depends_on_is_no_obstacle() -> None:
    case = Case(perceptron(lambda: Drifting(used=False)), Classification(), sgd(), vectors())
    plain = Case(perceptron(nn.Identity), Classification(), sgd(), vectors())
    assert torch.equal(swept(case.unrolling(), case.targets()), swept(plain.unrolling(), plain.targets()))
    assert int(case.unrolling().model[1].calls) == 6


class Unrepeatable(nn.Module):
    """Counts its calls, and its result depends on them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + 0.1 * self.calls)


def test_a_step_that_cannot_be_repeated_is_refused() -> None:
    with pytest.raises(InputError, match="another result"):
        Case(perceptron(Unrepeatable), Classification(), sgd(), vectors()).unrolling()


def test_a_training_that_diverges_is_refused() -> None:
    case = Case(perceptron(), Classification(), sgd(lr=1e200, epochs=9), vectors())
    with pytest.raises(InputError, match=r"NaN or infinite|not finite"):
        swept(case.unrolling(), case.targets())
