"""The Gauss–Newton matrix and its systems against dense matrices, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from trak_cli.gradients.curvature.choice import choose_jacobian
from trak_cli.gradients.curvature.conjugate_gradients import Stopping, solve
from trak_cli.gradients.curvature.linearised import Jacobian
from trak_cli.gradients.curvature.loss import WINDOW, automatic_ridge, expand
from trak_cli.gradients.curvature.matrix import GaussNewton, row_products
from trak_cli.gradients.curvature.preconditioner import LowRank
from trak_cli.tasks import BinaryClassification, CausalLM, Classification, Regression, Task

SAMPLES = 7


class TokenModel(nn.Module):
    """A causal language model: the mean of the tokens so far, through two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.out = nn.Embedding(6, 4), nn.Linear(4, 6)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.word(input_ids).cumsum(1)
        result: Tensor = self.out(torch.tanh(x))
        return result


class OwnLoss(Classification):
    """A margin whose loss is not the cross entropy."""

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.relu(1 - self.output(model, batch))


class Scale(nn.Module):
    """A factor: a parameter without dimensions, like the temperature of CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.3))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def perceptron(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Scale(), nn.Linear(4, outputs))


def case(name: str) -> tuple[nn.Module, Task, Any]:
    """Model, task and batch."""
    torch.manual_seed(3)
    x = torch.randn(SAMPLES, 3).double()
    tokens = torch.randint(0, 6, (SAMPLES, 5))
    labels = tokens.clone()
    labels[0, 3:] = -100
    made: dict[str, tuple[nn.Module, Task, Any]] = {
        "classes": (perceptron(4), Classification(), (x, torch.randint(0, 4, (SAMPLES,)))),
        "own loss": (perceptron(3), OwnLoss(), (x, torch.randint(0, 3, (SAMPLES,)))),
        "binary": (perceptron(1), BinaryClassification(), (x, torch.randint(0, 2, (SAMPLES,)))),
        "regression": (perceptron(1), Regression(), (x, torch.randn(SAMPLES).double())),
        "tokens": (TokenModel(), CausalLM(), {"input_ids": tokens, "labels": labels}),
    }
    model, task, batch = made[name]
    return model.double().eval(), task, batch


def single_losses(name: str, predictions: Tensor, truth: Tensor) -> Tensor:
    """The loss of each sample as a function of its predictions, written down again, (B,)."""
    if name in ("classes", "tokens"):
        flat = nn.functional.cross_entropy(predictions.flatten(0, 1), truth.flatten(), ignore_index=-100, reduction="none")
        return flat.view(truth.shape).sum(1)
    if name == "regression":
        return 0.5 * (truth + predictions.detach() - predictions).square()
    return nn.functional.softplus(-predictions).sum(1)


def dense(name: str, model: nn.Module, task: Task, batch: Any, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """G (p, p) and J_iᵀ r_i (B, p), from whole Jacobians and Hessians; with weights, for one prediction per sample only."""
    parameters = {key: value.detach() for key, value in model.named_parameters()}

    class Bound(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            return task.predictions(self.model, batch)[0]

    bound = Bound()

    def predict(values: Mapping[str, Tensor]) -> Tensor:
        result: Tensor = functional_call(bound, {f"model.{key}": value for key, value in values.items()}, ())
        return result

    predictions, truth = task.predictions(model, batch)
    predictions = predictions.detach()
    parts = jacrev(predict)(parameters)
    jacobian = torch.cat([parts[key].reshape(predictions.numel(), -1) for key in parameters], -1)
    places = [1.0] if name == "regression" else [WINDOW * (number + 0.5) / 4 for number in range(4)]

    def total(values: Tensor) -> Tensor:
        return single_losses(name, values, truth).sum()

    second = sum(hessian(total)(place * predictions).reshape(predictions.numel(), -1) for place in places) / len(places)
    first = sum(-jacrev(total)(place * predictions) for place in places) / len(places)
    if name == "regression":
        first = truth
    if weights is not None:
        losses = torch.stack([single_losses(name, place * predictions, truth) for place in places])
        factors = (weights / (1 - torch.exp(-losses)).mean(0)).repeat_interleave(predictions[0].numel())
        first, second = first.flatten() * factors, second * factors[:, None]
    rows = torch.einsum("u,up->up", first.flatten(), jacobian).view(SAMPLES, -1, jacobian.shape[1]).sum(1)
    return jacobian.T @ second @ jacobian, rows


CASES = ["classes", "own loss", "binary", "regression", "tokens"]


def operator(model: nn.Module, task: Task, batch: Any, jacobian: Jacobian, weights: Tensor | None = None) -> GaussNewton:
    """G over two batches, the second of which ends with two samples of padding."""

    def some(rows: list[int]) -> Any:
        return {k: v[rows] for k, v in batch.items()} if isinstance(batch, dict) else tuple(part[rows] for part in batch)

    parts = [([0, 1, 2, 3], 4), ([4, 5, 6, 6, 6], 3)]
    batches = [(some(rows), count, None if weights is None else weights[rows]) for rows, count in parts]
    return GaussNewton(task, jacobian, lambda: batches, 1.0, columns=3)


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_products_are_those_with_the_dense_matrix(name: str, vectorised: bool) -> None:
    model, task, batch = case(name)
    jacobian = Jacobian(model, dict(model.named_parameters()), None, vectorised)
    expected, rows = dense(name, model, task, batch)
    p = len(expected)
    identity = torch.eye(p).double()
    torch.testing.assert_close(operator(model, task, batch, jacobian)(identity), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(row_products(task, jacobian, batch, identity), rows.T, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["classes", "own loss", "binary"])
def test_weights_of_samples_multiply_residuals_and_curvature_alike(name: str) -> None:
    model, task, batch = case(name)
    jacobian = Jacobian(model, dict(model.named_parameters()))
    weights = torch.rand(SAMPLES).double() + 0.1
    expected, rows = dense(name, model, task, batch, weights)
    identity = torch.eye(len(expected)).double()
    torch.testing.assert_close(operator(model, task, batch, jacobian, weights)(identity), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(row_products(task, jacobian, batch, identity, weights), rows.T, rtol=1e-10, atol=1e-10)


def test_the_weight_is_the_residual_at_the_label_even_of_a_sample_that_is_almost_certain() -> None:
    logits = torch.tensor([[[400.0, 1.0, 0.0]], [[0.2, -0.1, 0.0]]])
    labels, weights = torch.tensor([[0], [2]]), torch.tensor([0.3, 0.6])
    found, exact = expand(logits, labels, weights), expand(logits.double(), labels, weights.double())
    torch.testing.assert_close(found.residual()[[0, 1], 0, [0, 2]], weights)
    vectors = torch.tensor([[[[1.0, 2.0, -1.0]], [[0.5, 0.1, 3.0]]]])
    torch.testing.assert_close(found.curvature(vectors), exact.curvature(vectors.double()).float(), rtol=1e-4, atol=1e-6)


def test_weights_do_not_change_a_squared_loss() -> None:
    found = expand(torch.zeros(3), torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.1, 0.2, 0.3]))
    assert found.residual().tolist() == [1.0, -2.0, 0.5]


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("name", CASES)
def test_systems_are_solved_as_by_a_dense_factorisation(name: str, rank: int) -> None:
    model, task, batch = case(name)
    curvature = operator(model, task, batch, Jacobian(model, dict(model.named_parameters())))
    matrix, _ = dense(name, model, task, batch)
    ridge = float(matrix.trace()) / SAMPLES
    t = torch.randn(5, len(matrix)).double()
    t[2] = 0
    directions = torch.randn(rank, len(matrix)).double()
    precondition = LowRank(curvature, directions, ridge) if rank else torch.clone
    found = solve(curvature, ridge, t, Stopping(1e-11, 100), precondition)
    expected = torch.linalg.solve(matrix + ridge * torch.eye(len(matrix)).double(), t.T).T
    torch.testing.assert_close(found.x, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))
    assert max(found.residuals) <= 1e-11
    assert found.iterations[2] == 0


def test_scales_are_a_change_of_coordinates() -> None:
    model, task, batch = case("classes")
    parameters = dict(model.named_parameters())
    expected, rows = dense("classes", model, task, batch)
    scales = torch.rand(len(expected)).double() + 0.5
    jacobian = Jacobian(model, parameters, scales)
    identity = torch.eye(len(expected)).double()
    scaled = scales[:, None] * expected * scales
    torch.testing.assert_close(operator(model, task, batch, jacobian)(identity), scaled, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(row_products(task, jacobian, batch, identity), (rows * scales).T, rtol=1e-10, atol=1e-10)


def test_a_preconditioner_of_the_large_eigenvalues_saves_iterations() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(200, 200, generator=generator).double()).Q
    values = 1e4 / torch.arange(1, 201).double() ** 2
    matrix = (basis * values) @ basis.T
    t = torch.randn(3, 200, generator=generator).double()

    def product(rows: Tensor) -> Tensor:
        return rows @ matrix

    stopping = Stopping(1e-6, 500)
    plain = solve(product, 1.0, t, stopping, torch.clone)
    directions = torch.randn(40, 200, generator=generator).double()
    better = solve(product, 1.0, t, stopping, LowRank(product, directions, 1.0))
    assert max(better.iterations) < min(plain.iterations) / 3
    torch.testing.assert_close(better.x, plain.x, rtol=1e-4, atol=1e-4)


def test_a_system_that_does_not_converge_says_so() -> None:
    matrix = torch.diag(torch.logspace(0, 6, 50)).double()
    found = solve(lambda rows: rows @ matrix, 1e-3, torch.ones(1, 50).double(), Stopping(1e-10, 3), torch.clone)
    assert (found.iterations, found.residuals[0] > 1e-10) == ([3], True)


def test_the_mean_trace_is_estimated() -> None:
    model, task, batch = case("tokens")
    curvature = operator(model, task, batch, Jacobian(model, dict(model.named_parameters())))
    matrix, _ = dense("tokens", model, task, batch)
    estimates = [curvature.mean_trace(SAMPLES, torch.zeros(1, len(matrix)).double(), seed) for seed in range(20)]
    assert sum(estimates) / 20 == pytest.approx(float(matrix.trace()) / SAMPLES, rel=0.2)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.layer(x[:, None] * torch.ones(1, 5, 1))[0][:, -1])
        return result


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.word, self.out = nn.Linear(3, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.layer(self.word(x)[:, None] * torch.ones(1, 4, 1)).mean(1))
        return result


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filter, self.norm, self.out = nn.Conv1d(1, 4, 2), nn.BatchNorm1d(4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(torch.relu(self.norm(self.filter(x[:, None]))).flatten(1))
        return result


@pytest.mark.parametrize("kind", [Recurrent, Attention, Normalised])
def test_layers_of_every_kind_take_several_vectors_at_once(kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    model, batch = kind().eval(), (torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    parameters = dict(model.named_parameters())
    assert choose_jacobian(model, Classification(), parameters, None, batch).vectorised
    vectors = torch.randn(3, sum(value.numel() for value in parameters.values()))
    products = [
        row_products(Classification(), Jacobian(model, parameters, None, vectorised), batch, vectors)
        for vectorised in (True, False)
    ]
    torch.testing.assert_close(*products, rtol=1e-3, atol=1e-4)


def test_a_model_without_forward_mode_is_differentiated_backward_twice() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return 2 * x * gradients[0]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.second(Square.apply(self.first(x)))
            return result

    model = Net().double().eval()
    batch = (torch.randn(3, 3).double(), torch.tensor([0, 1, 2]))
    parameters = dict(model.named_parameters())
    perceptron_model, task, inputs = case("classes")
    assert choose_jacobian(perceptron_model, task, dict(perceptron_model.named_parameters()), None, inputs).vectorised
    assert not choose_jacobian(model, Classification(), parameters, None, batch).vectorised


@pytest.mark.parametrize(
    ("shape", "truth", "ridge"),
    [
        ((4,), torch.zeros(4), 2.0),
        ((4, 1, 3), torch.zeros(4, 1).long(), 1.0),
        ((2, 20, 3), torch.tensor([[0] * 20, [0] * 10 + [-100] * 10]), 5 / 15),
        ((2, 2), torch.ones(2, 2).bool(), 1.0),
        ((4, 1, 2), torch.zeros(4, 1).long(), 3.0),
        ((2, 1), torch.ones(2, 1).bool(), 3.0),
        ((2, 20, 2), torch.zeros(2, 20).long(), 1 / 4),
    ],
)
def test_the_automatic_ridge_is_a_few_samples_or_five_tokens(shape: tuple[int, ...], truth: Tensor, ridge: float) -> None:
    assert automatic_ridge(torch.zeros(shape), truth) == pytest.approx(ridge)
