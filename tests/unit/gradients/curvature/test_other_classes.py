"""OtherClasses: the gradients under every engine, what they stand for on average, and what they depend on."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from gathering import engine_of, gathered
from torch import Tensor, nn

from trak_cli.gradients.curvature.other_classes import OtherClasses
from trak_cli.gradients.options import ENGINES
from trak_cli.tasks import BinaryClassification, Classification

pytestmark = pytest.mark.usefixtures("one_thread")


class Net(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(5, 7), nn.Linear(7, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = 9 * self.last(torch.tanh(self.first(x)))
        return out


def samples(classes: int, size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    return torch.randn((size, 5), generator=generator), torch.randint(classes, (size,), generator=generator)


def others(seed: int = 0) -> OtherClasses:
    return OtherClasses(Classification(), hashlib.sha256(bytes([seed])).hexdigest())


def logits_only(values: Tensor) -> nn.Module:
    """A model whose logits are its only parameter."""

    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z = nn.Parameter(values.clone())

        def forward(self, x: Tensor) -> Tensor:
            return self.z + 0 * x[:, :1]

    return Given()


def coefficients(logits: Tensor, labels: Tensor, rows: Tensor, seed: int = 0) -> Tensor:
    """u of every row: the gradient by the logits, (B, C)."""
    model = logits_only(logits)
    total = others(seed).output(model, ((torch.zeros(len(labels), 1), labels), rows)).sum()
    (found,) = torch.autograd.grad(total, list(model.parameters()))
    return found.double()


@pytest.mark.parametrize("classes", [3, 4, 17])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_agrees_with_autograd(engine: str, classes: int) -> None:
    model, (x, labels) = Net(classes).eval(), samples(classes)
    batch = ((x, labels), torch.arange(40, 46))
    found = engine_of(engine, model, others(), batch).per_sample(batch)
    got = gathered(found, model)
    for row in range(len(x)):
        one = ((x[row : row + 1], labels[row : row + 1]), torch.tensor([40 + row]))
        expected = torch.autograd.grad(others().output(model, one).sum(), list(model.parameters()))
        for (name, _), value in zip(model.named_parameters(), expected, strict=True):
            torch.testing.assert_close(got[name][row], value.flatten(), rtol=2e-4, atol=1e-5)
    torch.testing.assert_close(found.out_to_loss, residuals(model(x), labels), rtol=1e-5, atol=1e-6)


def residuals(logits: Tensor, labels: Tensor) -> Tensor:
    places = (1 / 16, 3 / 16, 5 / 16, 7 / 16)
    return sum(1 - torch.softmax(a * logits.detach(), -1)[torch.arange(len(labels)), labels] for a in places) / 4


@pytest.mark.parametrize("classes", [3, 5])
def test_on_average_they_are_the_curvature_of_the_other_classes(classes: int) -> None:
    count = 20000
    torch.manual_seed(classes)
    logits = (3 * torch.randn(classes)).expand(count, classes)
    labels = logits[0].argmax().expand(count)
    u = coefficients(logits, labels, torch.arange(count))
    expected: Any = 0
    for a in (1 / 16, 3 / 16, 5 / 16, 7 / 16):
        p = torch.softmax(a * logits[0].double(), -1)
        s = p.clone()
        s[labels[0]] = 0
        s /= s.sum()
        expected = expected + (s.diag() - s.outer(s)) / p[labels[0]] / 4
    np.testing.assert_allclose(u.T @ u / count, expected, atol=0.03 * float(expected.diagonal().max()))


def test_the_label_has_no_part_and_a_shift_of_all_logits_none() -> None:
    torch.manual_seed(1)
    logits, labels = 4 * torch.randn(50, 6), torch.randint(6, (50,))
    u = coefficients(logits, labels, torch.arange(50))
    assert not u[torch.arange(50), labels].any()
    torch.testing.assert_close(u.sum(1), torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-5)


def test_they_depend_on_row_and_checkpoint_but_not_on_the_batch() -> None:
    torch.manual_seed(2)
    logits, labels, rows = torch.randn(8, 4), torch.randint(4, (8,)), torch.arange(100, 108)
    whole = coefficients(logits, labels, rows)
    for row in range(8):
        alone = coefficients(logits[row : row + 1], labels[row : row + 1], rows[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-6, atol=1e-7)
    assert not torch.allclose(whole, coefficients(logits, labels, rows + 1))
    assert not torch.allclose(whole, coefficients(logits, labels, rows, seed=1))


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_huge_logits_stay_finite(size: float) -> None:
    logits = size * torch.tensor([[1.0, -1.0, 0.5, 0.0]] * 12)
    u = coefficients(logits, torch.arange(12) % 4, torch.arange(12))
    assert torch.isfinite(u).all()
    assert float(u.abs().max()) < 20


def test_which_tasks_have_classes() -> None:
    class OtherLoss(Classification):
        def losses(self, model: nn.Module, batch: Any) -> Tensor:
            return 2 * super().losses(model, batch)

    class OtherOutput(Classification):
        def output(self, model: nn.Module, batch: Any) -> Tensor:
            return -self.losses(model, batch)

    assert Classification().has_classes()
    assert not any(task.has_classes() for task in (OtherLoss(), OtherOutput(), BinaryClassification()))
