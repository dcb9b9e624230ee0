"""The predicted classes, from the forward pass of an engine or from one of their own, compared with a plain forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trak_cli.errors import InputError
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.gradients.predicted import ClassPredictor
from trak_cli.tasks import BinaryClassification, Classification, Regression, Task


class Counting(nn.Module):
    """A classifier that counts its calls."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.first, self.last, self.calls = nn.Linear(4, 7), nn.Linear(7, classes), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.last(torch.tanh(self.first(x)))
        return logits


class TwoViews(Classification):
    """Logits from two calls of the model."""

    def logits(self, model: nn.Module, batch: Any) -> Tensor:
        both: Tensor = model(batch[0]) + model(-batch[0])
        return both


class OwnInput(Classification):
    """Logits for other inputs than those of the output."""

    def class_logits(self, model: nn.Module, batch: Any) -> Tensor:
        return self.logits(model, (2 * batch[0], batch[1]))


class OwnPredictions(Task):
    """A task of a user that only says what its losses depend on."""

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        return Classification().output(model, batch)

    def has_classes(self) -> bool:
        return True

    def predictions(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return model(batch[0]).unsqueeze(1), batch[1].unsqueeze(1)


class OnlyOutput(Classification):
    """A derived class with an f that may not depend on logits."""

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        return -((model(batch[0]) - 1) ** 2).sum(1)


def batch_of(size: int, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, 4, generator=generator), torch.randint(classes, (size,), generator=generator)


def predicted(engine: str, task: Any, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor] | None:
    made = make_engine(engine, model, task, select(model, ["*"]), {})
    gradients, found = ClassPredictor(model, task).with_predictions(made, batch)
    for _ in gradients.blocks:
        pass
    return found


LOGITS: dict[str, tuple[Task, Callable[[nn.Module, Tensor], Tensor]]] = {
    "plain": (Classification(), lambda model, x: model(x)),
    "two calls": (TwoViews(), lambda model, x: model(x) + model(-x)),
    "other inputs": (OwnInput(), lambda model, x: model(2 * x)),
    "predictions": (OwnPredictions(), lambda model, x: model(x)),
}


@pytest.mark.parametrize("engine", ["hooks", "vmap", "loop"])
@pytest.mark.parametrize("kind", LOGITS)
def test_the_predicted_class_is_that_of_a_plain_forward_pass(engine: str, kind: str) -> None:
    task, logits_of = LOGITS[kind]
    model = Counting().eval()
    for size in (1, 3, 7):
        batch = batch_of(size)
        found = predicted(engine, task, model, batch)
        assert found is not None
        with torch.no_grad():
            probabilities = torch.softmax(logits_of(model, batch[0]), 1)
        assert found[0].dtype == torch.int32
        assert found[0].tolist() == probabilities.argmax(1).tolist()
        torch.testing.assert_close(found[1], probabilities.amax(1))


@pytest.mark.parametrize("engine", ["hooks", "vmap", "loop"])
def test_the_forward_pass_of_the_engine_is_not_repeated(engine: str) -> None:
    model, task, batch = Counting().eval(), Classification(), batch_of(6)
    made = make_engine(engine, model, task, select(model, ["*"]), {})
    list(made.per_sample(batch).blocks)  # the first batch is also surveyed
    before = model.calls
    list(made.per_sample(batch).blocks)
    alone = model.calls - before
    ClassPredictor(model, task).with_predictions(made, batch)
    assert model.calls - before == 2 * alone
    assert "forward" not in vars(model)


def test_two_classes_with_one_logit() -> None:
    model, (x, y) = Counting(classes=1).eval(), batch_of(9, classes=2)
    found = predicted("hooks", BinaryClassification(), model, (x, y))
    assert found is not None
    chance = torch.sigmoid(model(x)[:, 0])
    assert found[0].tolist() == (chance > 0.5).int().tolist()
    torch.testing.assert_close(found[1], torch.maximum(chance, 1 - chance))


@pytest.mark.parametrize("task", [Regression(), OnlyOutput()])
def test_a_task_without_classes_has_no_predictions(task: Task) -> None:
    model = Counting(classes=1 if isinstance(task, Regression) else 5).eval()
    x, y = batch_of(4)
    assert predicted("hooks", task, model, (x, y.float() if isinstance(task, Regression) else y)) is None


def test_logits_of_another_shape_are_refused() -> None:
    class Flat(Classification):
        def class_logits(self, model: nn.Module, batch: Any) -> Tensor:
            return self.logits(model, batch)[:, 0]

    with pytest.raises(InputError, match="class_logits"):
        predicted("hooks", Flat(), Counting().eval(), batch_of(3))
