"""The losses of single samples: their mean is the loss, and weights multiply them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trak_cli.errors import InputError
from trak_cli.tasks import (
    BinaryClassification,
    CausalLM,
    Classification,
    Contrastive,
    MaskedLM,
    Regression,
    Task,
    TextClassification,
    TokenClassification,
)
from trak_cli.tasks.weighting import check_losses

SIZE = 5


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Table(nn.Module):
    """Looks logits up by token; other inputs are returned unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(numbers(7, 7))

    def forward(self, x: Tensor | None = None, input_ids: Tensor | None = None, pooled: bool = False) -> Tensor:
        if input_ids is None:
            return x if x is not None else self.table
        logits = self.table[input_ids]
        return logits.mean(1) if pooled else logits


class Pairs(nn.Module):
    """Embeddings are what the batch holds, times a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(1.2, dtype=torch.float64))
        self.mixing = nn.Parameter(numbers(4, 4, seed=3))

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return pixel_values @ self.mixing

    def get_text_features(self, input_ids: Tensor) -> Tensor:
        return input_ids @ self.mixing.T


TOKENS = {
    "input_ids": torch.arange(20).reshape(SIZE, 4) % 7,
    "labels": torch.tensor([[1, 2, 3, 4], [-100, 2, -100, -100], [3, 3, -100, 1], [-100, 5, 6, -100], [0, 1, 2, 3]]),
}
PAIRS = {"pixel_values": numbers(SIZE, 4, seed=1), "input_ids": numbers(SIZE, 4, seed=2), "key": torch.arange(SIZE)}

CASES: dict[str, tuple[Task, nn.Module, Any]] = {
    "classification": (Classification(), Table(), (numbers(SIZE, 3), torch.tensor([0, 1, 2, 2, 1]))),
    "binary": (BinaryClassification(), Table(), (numbers(SIZE), torch.tensor([0, 1, 1, 0, 1]))),
    "regression": (Regression(), Table(), (numbers(SIZE, 1), numbers(SIZE, seed=1))),
    "text": (
        TextClassification(),
        Table(),
        {"input_ids": TOKENS["input_ids"], "labels": torch.tensor([0, 1, 2, 3, 4]), "pooled": True},
    ),
    "causal": (CausalLM(), Table(), TOKENS),
    "masked": (MaskedLM(), Table(), TOKENS),
    "tokens": (TokenClassification(), Table(), TOKENS),
    "contrastive": (Contrastive(mask=None), Pairs(), PAIRS),
}
cases = pytest.mark.parametrize(("task", "model", "batch"), CASES.values(), ids=CASES.keys())


@cases
def test_the_mean_of_the_losses_is_the_loss(task: Task, model: nn.Module, batch: Any) -> None:
    losses = task.losses(model, batch)
    assert losses.shape == (SIZE,)
    torch.testing.assert_close(losses.mean(), task.loss(model, batch), rtol=1e-12, atol=0)


@cases
def test_the_weighted_loss_has_the_gradient_of_the_loss_where_all_weights_are_one(
    task: Task, model: nn.Module, batch: Any
) -> None:
    weighted = task.weighted_loss(model, batch, torch.ones(SIZE))
    torch.testing.assert_close(weighted, task.loss(model, batch), rtol=1e-12, atol=0)
    if weighted.requires_grad:
        parameters = list(model.parameters())
        found = torch.autograd.grad(weighted, parameters, allow_unused=True)
        expected = torch.autograd.grad(task.loss(model, batch), parameters, allow_unused=True)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [name for name in CASES if name != "contrastive"])
def test_the_weighted_loss_is_the_weighted_sum_of_the_losses_over_the_size_of_the_batch(name: str) -> None:
    task, model, batch = CASES[name]
    weights = torch.tensor([0.0, 2.0, 1.0, 0.5, 3.0])
    expected = (weights.double() * task.losses(model, batch)).sum() / SIZE
    torch.testing.assert_close(task.weighted_loss(model, batch, weights), expected, rtol=1e-12, atol=0)


def test_a_token_counts_the_same_in_a_long_and_in_a_short_text() -> None:
    task, model, batch = CASES["causal"]
    logits = model(input_ids=TOKENS["input_ids"])[:, :-1].log_softmax(-1)
    losses, count = [], int((TOKENS["labels"][:, 1:] != -100).sum())
    for row in range(SIZE):
        labels = TOKENS["labels"][row, 1:].tolist()
        losses.append(
            -sum(float(logits[row, t, label].detach()) for t, label in enumerate(labels) if label >= 0) * SIZE / count
        )
    assert task.losses(model, batch).tolist() == pytest.approx(losses, rel=1e-12)


def test_a_pair_of_weight_zero_counts_neither_as_a_pair_nor_among_the_others() -> None:
    task, model, batch = CASES["contrastive"]
    weights = torch.ones(SIZE)
    weights[[1, 4]] = 0
    kept = [0, 2, 3]
    expected = task.losses(model, {name: value[kept] for name, value in batch.items()}).sum() / SIZE
    torch.testing.assert_close(task.weighted_loss(model, batch, weights), expected, rtol=1e-12, atol=0)
    nothing = task.weighted_loss(model, batch, torch.zeros(SIZE))
    gradients = torch.autograd.grad(nothing, list(model.parameters()))
    assert float(nothing.detach()) == 0
    assert all(not gradient.any() for gradient in gradients)


def test_a_pair_counts_with_its_weight_among_the_others() -> None:
    task, model, batch = CASES["contrastive"]
    weights = torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0])
    doubled = {name: torch.cat([value, value[1:2]]) for name, value in batch.items()}
    x = model.get_image_features(doubled["pixel_values"])
    y = model.get_text_features(doubled["input_ids"])
    x, y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
    logits = model.logit_scale.exp() * x @ y.T
    own = 0
    for row in range(SIZE):
        others = [column for column in range(SIZE + 1) if row != 1 or column < SIZE]  # the copy is no other for itself
        own += weights[row] * (2 * logits[row, row] - logits[row, others].logsumexp(0) - logits[others, row].logsumexp(0)) / 2
    torch.testing.assert_close(task.weighted_loss(model, batch, weights), -own / SIZE, rtol=1e-12, atol=0)


class Smoothed(Classification):
    """Another loss, without the losses of single samples."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.logits(model, batch), batch[1], label_smoothing=0.1)


class SmoothedLosses(Classification):
    """The losses of single samples, from which the loss follows."""

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.logits(model, batch), batch[1], label_smoothing=0.1, reduction="none")


class Scalar(Classification):
    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        return super().losses(model, batch).mean()


class Unweighted(Classification):
    def weighted_loss(self, model: nn.Module, batch: Any, weights: Tensor) -> Tensor:
        return (self.losses(model, batch) * weights).sum()


@cases
def test_the_tasks_of_the_package_pass_the_check(task: Task, model: nn.Module, batch: Any) -> None:
    check_losses(task, model, batch)


@pytest.mark.parametrize(("task", "where"), [(Smoothed(), "losses"), (Scalar(), "losses"), (Unweighted(), "weighted_loss")])
def test_a_task_whose_losses_do_not_average_to_its_loss_is_refused(task: Task, where: str) -> None:
    _, model, batch = CASES["classification"]
    with pytest.raises(InputError) as refused:
        check_losses(task, model, batch)
    assert [problem.where for problem in refused.value.problems] == [f"task.{where}"]


def test_a_task_that_defines_losses_only_trains_on_their_mean() -> None:
    _, model, batch = CASES["classification"]
    expected = Smoothed().loss(model, batch)
    check_losses(SmoothedLosses(), model, batch)
    torch.testing.assert_close(SmoothedLosses().loss(model, batch), expected)
