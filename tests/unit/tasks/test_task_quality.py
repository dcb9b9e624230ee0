"""The number that says how good a model is, for each kind of task, and when it is near chance or far from another number."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trak_cli.tasks import BinaryClassification, CausalLM, Classification, Regression, Task
from trak_cli.tasks.quality import Quality, accuracy

ROWS = 64


def batches(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Batches of different sizes."""
    return [(x[:5], y[:5]), (x[5:], y[5:])]


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(0))


def test_a_classifier_has_the_accuracy_over_all_batches(inputs: Tensor) -> None:
    labels = torch.arange(ROWS) % 3
    model = nn.Linear(6, 3)
    quality = Classification().quality(model, batches(inputs, labels))
    assert quality.name == "accuracy"
    assert quality.value == pytest.approx(float((model(inputs).argmax(1) == labels).double().mean()))
    assert quality.chance == pytest.approx(1 / 3)


def test_a_binary_classifier_has_the_accuracy_too(inputs: Tensor) -> None:
    labels = torch.arange(ROWS) % 2
    model = nn.Linear(6, 1)
    quality = BinaryClassification().quality(model, batches(inputs, labels))
    assert quality.value == pytest.approx(float(((model(inputs)[:, 0] > 0) == labels.bool()).double().mean()))
    assert quality.chance == 0.5


def test_a_regression_has_the_coefficient_of_determination(inputs: Tensor) -> None:
    model = nn.Linear(6, 1)
    values = model(inputs)[:, 0].detach() + 0.1 * inputs[:, 0]
    quality = Regression().quality(model, batches(inputs, values))
    residual = (values - model(inputs)[:, 0].detach()).square().sum() / (values - values.mean()).square().sum()
    assert quality.name == "R²"
    assert quality.value == pytest.approx(float(1 - residual), abs=1e-5)


def test_labels_of_one_value_leave_a_regression_with_its_squared_error(inputs: Tensor) -> None:
    model = nn.Linear(6, 1)
    quality = Regression().quality(model, batches(inputs, torch.ones(ROWS)))
    assert quality.name == "mean squared error"
    assert quality.value == pytest.approx(float((model(inputs)[:, 0].detach() - 1).square().mean()), rel=1e-5)


def test_a_language_model_has_the_loss_per_token_over_all_batches() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 9)

        def forward(self, input_ids: Tensor) -> Tensor:
            logits: Tensor = self.table(input_ids)
            return logits

    model, tokens = Model(), torch.randint(9, (7, 5))
    labels = tokens.clone()
    labels[:3, :3] = -100
    whole = {"input_ids": tokens, "labels": labels}
    parts = [{key: part[rows] for key, part in whole.items()} for rows in (slice(0, 2), slice(2, 7))]
    quality = CausalLM().quality(model, parts)
    assert quality.name == "loss per token"
    assert quality.value == pytest.approx(float(CausalLM().loss(model, whole)), rel=1e-5)
    assert quality.chance == pytest.approx(math.log(9))


def test_a_task_of_ones_own_has_the_share_of_f_above_zero(inputs: Tensor) -> None:
    class Own(Task):
        def output(self, model: nn.Module, batch: Any) -> Tensor:
            return batch[0][:, 0]

    quality = Own().quality(nn.Identity(), batches(inputs, inputs))
    assert (quality.name, quality.value) == ("share of f > 0", pytest.approx(float((inputs[:, 0] > 0).double().mean())))


def test_a_task_with_its_own_loss_gradient_has_its_mean_size(inputs: Tensor) -> None:
    class Own(Task):
        def output(self, model: nn.Module, batch: Any) -> Tensor:
            return batch[0][:, 0]

        def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
            return batch[1][:, 1] - output

    quality = Own().quality(nn.Identity(), batches(inputs, inputs))
    assert quality.name == "mean |q|"
    assert quality.value == pytest.approx(float((inputs[:, 1] - inputs[:, 0]).abs().mean()), rel=1e-5)


def test_a_classifier_whose_output_uses_no_logits_is_judged_by_its_output(inputs: Tensor) -> None:
    class Own(Classification):
        def output(self, model: nn.Module, batch: Any) -> Tensor:
            return batch[0][:, 0]

    assert Own().quality(nn.Identity(), batches(inputs, inputs)).name == "share of f > 0"


@pytest.mark.parametrize(
    ("quality", "near"),
    [
        (accuracy(6, 60, 10), True),
        (accuracy(21, 60, 3), True),
        (accuracy(30, 60, 2), True),
        (accuracy(55, 60, 2), False),
        (accuracy(30, 60, 10), False),
        (Quality("R²", -0.4, 1.0, 0.0, 0.025), True),
        (Quality("R²", 0.4, 1.0, 0.0, 0.025), False),
        (Quality("loss per token", 6.9, 0.0, math.log(1000), 0.025 * math.log(1000)), True),
        (Quality("loss per token", 4.9, 0.0, math.log(1000), 0.025 * math.log(1000)), False),
        (Quality("share of f > 0", 0.0, 1.0), False),
        (accuracy(1, 1, 2), False),  # too few samples to tell
        (accuracy(2, 5, 2), False),
        (accuracy(1, 5, 10), True),
    ],
)
def test_near_chance_is_what_a_model_that_knows_nothing_gets(quality: Quality, near: bool) -> None:
    assert quality.near_chance is near


@pytest.mark.parametrize(
    ("target", "train", "far"),
    [
        (accuracy(20, 60, 3), accuracy(57, 60, 3), True),  # images that are cropped otherwise than in training
        (accuracy(24, 60, 10), accuracy(60, 60, 10), True),
        (accuracy(45, 60, 10), accuracy(60, 60, 10), False),  # a model that overfits as usual
        (accuracy(1, 3, 2), accuracy(50, 60, 2), False),  # too few targets to tell
        (Quality("R²", 0.1, 1.0, 0.0, 0.025), Quality("R²", 0.9, 1.0, 0.0, 0.025), True),
        (Quality("loss per token", 6.0, 0.0, 6.9, 0.17), Quality("loss per token", 1.0, 0.0, 6.9, 0.17), True),
        (Quality("share of f > 0", 0.1, 1.0), Quality("share of f > 0", 0.9, 1.0), False),
    ],
)
def test_far_is_less_than_half_of_what_the_model_knows_of_the_training_set(target: Quality, train: Quality, far: bool) -> None:
    assert target.far_from(train) is far
