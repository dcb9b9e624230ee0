"""Derivatives that automatic differentiation would get wrong are computed otherwise, or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from trainings import Case, finite_differences, perceptron, seeded, sgd, swept, vectors

from trak_cli.errors import InputError
from trak_cli.plugins import Step, StepTrainer
from trak_cli.plugins.trainers.step_trainer import State
from trak_cli.tasks import Classification


class Layer(nn.Module):
    """A function of the activations."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class WrongTwice(torch.autograd.Function):
    """tanh, whose backward pass hides from autograd that it depends on the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.tanh())
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (1 - y.detach() ** 2)


def normalised_without_graph(x: Tensor) -> Tensor:
    with torch.no_grad():
        size = x.norm(dim=1, keepdim=True)
    return x / size


HIDDEN: dict[str, Callable[[Tensor], Tensor]] = {
    "detach": lambda x: x * x.detach().tanh(),
    "no_grad": normalised_without_graph,
    "item": lambda x: x * x.abs().mean().item(),
    "straight through": lambda x: x + ((2 * x).round() / 2 - x).detach(),
    "wrong backward pass": WrongTwice.apply,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_the_forward_pass_hides_from_autograd_is_refused(name: str) -> None:
    case = Case(perceptron(lambda: Layer(HIDDEN[name])), Classification(), sgd(), vectors())
    with pytest.raises(InputError, match="by automatic differentiation"):
        case.unrolling()


class Scaled(StepTrainer):
    """Steps whose length is a number that autograd does not see."""

    def initial_state(self, params: Sequence[Tensor]) -> State:
        return {}

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        rates = [
            step.lr * float(param.detach().norm() / grad.detach().norm()) for param, grad in zip(params, grads, strict=True)
        ]
        return [param - rate * grad for param, grad, rate in zip(params, grads, rates, strict=True)], state


def test_what_an_update_hides_from_autograd_is_refused() -> None:
    with pytest.raises(InputError, match="parameters after an update: the derivative by automatic"):
        Case(perceptron(), Classification(), Scaled(2, 8, 0.02), vectors()).unrolling()


class Shorter(Scaled):
    def update(self, params: Sequence[Tensor], *rest: Any) -> tuple[Sequence[Tensor], State]:
        return super().update(params, *rest)[0][:-1], {}


def test_an_update_that_loses_a_parameter_is_refused() -> None:
    with pytest.raises(InputError, match="an update after which parameters"):
        Case(perceptron(), Classification(), Shorter(2, 8, 0.02), vectors()).unrolling()


class Padded(nn.Module):
    """A bag of embeddings, one of which is padding."""

    def __init__(self, sparse: bool = False, max_norm: float | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4, padding_idx=0, sparse=sparse, max_norm=max_norm)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.embedding((3 * x.abs()).long().clamp(max=8)).mean(1)))
        return logits


def weight_normed() -> nn.Module:
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.utils.weight_norm(nn.Linear(4, 3))
    )


def checkpointed(reentrant: bool) -> Callable[[], nn.Module]:
    def function(x: Tensor) -> Tensor:
        found: Tensor = checkpoint(torch.tanh, x, use_reentrant=reentrant)
        return found

    return perceptron(lambda: Layer(function), lambda: nn.Dropout(0.2))


MODELS = {
    "padding": seeded(Padded),
    "sparse gradients": seeded(lambda: Padded(sparse=True)),
    "reentrant checkpoint": checkpointed(True),
    "checkpoint": checkpointed(False),
    "compiled": perceptron(lambda: torch.compile(nn.Linear(6, 6), backend="aot_eager")),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("name", [*MODELS, "weight norm"])
def test_models_with_unusual_graphs_have_the_derivative_of_finite_differences(name: str) -> None:
    model = MODELS.get(name) or seeded(weight_normed)
    case = Case(model, Classification(), sgd(momentum=0.5), vectors(rows=12))
    found, expected = swept(case.unrolling(), case.targets())[:, :3], finite_differences(case, range(3))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_half_precision_is_not_compared() -> None:
    def rounded(x: Tensor) -> Tensor:
        return x.bfloat16().tanh().to(x.dtype)

    case = Case(perceptron(lambda: Layer(rounded)), Classification(), sgd(), vectors())
    assert swept(case.unrolling(), case.targets()).isfinite().all()


def test_a_forward_pass_that_changes_a_parameter_is_refused() -> None:
    with pytest.raises(InputError, match=r"changes the parameter embedding\.weight in step 1"):
        Case(seeded(lambda: Padded(max_norm=0.5)), Classification(), sgd(), vectors()).unrolling()


class Moving(nn.Module):
    """Subtracts a mean that moves by a share of its distance, after the first calls."""

    mean: Tensor
    calls: Tensor

    def __init__(self, share: float, after: int) -> None:
        super().__init__()
        self.share, self.after = share, after
        self.register_buffer("mean", torch.ones(6, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            if self.calls > self.after:
                self.mean.lerp_(x.detach().mean(0), self.share)
        return x - self.mean


@pytest.mark.parametrize(("share", "after", "says"), [(1e-5, 0, "on which"), (0.1, 2, r"the buffer 1\.mean in step 3")])
def test_buffers_that_move_slowly_or_late_are_refused(share: float, after: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Case(perceptron(lambda: Moving(share, after)), Classification(), sgd(), vectors()).unrolling()


def test_a_model_without_trained_parameters_is_refused() -> None:
    case = Case(seeded(lambda: nn.Linear(5, 3).requires_grad_(False)), Classification(), sgd(), vectors())
    with pytest.raises(InputError, match="no parameter that requires a gradient"):
        case.unrolling()


def test_a_hook_on_a_parameter_is_refused() -> None:
    def hooked() -> nn.Module:
        model = nn.Linear(5, 3)
        model.weight.register_hook(lambda grad: grad / 2)
        return model.double()

    with pytest.raises(InputError, match="or a hook on it"):
        Case(hooked, Classification(), sgd(), vectors()).unrolling()
