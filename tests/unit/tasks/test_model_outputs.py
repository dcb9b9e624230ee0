"""What f and q are for each task, against the formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trak_cli.errors import InputError
from trak_cli.tasks import BinaryClassification, Classification, Regression, SampleError, Task


class Logits(nn.Module):
    """A model that answers with what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x


MODEL = Logits()


@settings(deadline=None, max_examples=40)
@given(classes=st.integers(2, 10_000), scale=st.floats(0.01, 30), seed=st.integers(0, 1000))
def test_the_margin_is_the_log_odds_of_the_right_class(classes: int, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, classes, generator=generator) * scale
    labels = torch.randint(0, classes, (3,), generator=generator)
    found = Classification().output(MODEL, (logits, labels))
    for row, label in enumerate(labels.tolist()):
        exact = logits[row].double()
        others = torch.cat([exact[:label], exact[label + 1 :]])
        assert float(found[row]) == pytest.approx(float(exact[label] - others.logsumexp(0)), rel=1e-4, abs=1e-4)


def test_a_very_sure_classifier_has_a_finite_margin_and_gradient() -> None:
    logits = torch.tensor([[200.0, 0.0, -50.0]], requires_grad=True)
    f = Classification().output(MODEL, (logits, torch.tensor([0])))
    f.sum().backward()
    assert float(f.detach()) == pytest.approx(200.0)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_logits_do_not_spoil_the_margin(dtype: torch.dtype) -> None:
    logits = torch.tensor([[3.0, 1.0, -2.0]], dtype=dtype)
    found = Classification().output(MODEL, (logits, torch.tensor([1])))
    exact = 1.0 - math.log(math.exp(3.0) + math.exp(-2.0))
    assert float(found) == pytest.approx(exact, abs=1e-5)


def test_loss_and_q_belong_to_the_output() -> None:
    logits, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    task = Classification()
    f = task.output(MODEL, (logits, labels)).requires_grad_()
    task_loss = task.loss(MODEL, (logits, labels))
    log_loss = nn.functional.softplus(-f).mean()
    torch.testing.assert_close(task_loss, log_loss)
    (slope,) = torch.autograd.grad(log_loss * 5, f)
    torch.testing.assert_close(task.out_to_loss_grad(MODEL, (logits, labels), f.detach()), -slope)


def test_vmap_and_a_batch_give_the_same_outputs() -> None:
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    task = Classification()
    one_by_one = torch.func.vmap(lambda x, y: task.output(MODEL, (x[None], y[None]))[0])(logits, labels)
    torch.testing.assert_close(one_by_one, task.output(MODEL, (logits, labels)))


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_out_of_range_names_its_position(label: int) -> None:
    with pytest.raises(SampleError) as refused:
        Classification().validate(MODEL, (torch.randn(3, 4), torch.tensor([0, 1, label])))
    assert refused.value.position == 2
    assert "sample 17 of train" in str(refused.value.renamed("sample 17 of train"))


def test_one_class_is_no_classification() -> None:
    with pytest.raises(InputError):
        Classification().validate(MODEL, (torch.randn(3, 1), torch.zeros(3, dtype=torch.long)))


def test_a_single_logit_is_the_log_odds_of_class_one() -> None:
    z = torch.tensor([0.5, -2.0])
    torch.testing.assert_close(BinaryClassification().output(MODEL, (z, torch.tensor([1, 0]))), torch.tensor([0.5, 2.0]))


def test_regression_weights_have_the_sign_of_the_residual() -> None:
    batch = (torch.tensor([1.0, 4.0]), torch.tensor([3.0, 2.5]))
    task = Regression()
    f = task.output(MODEL, batch)
    torch.testing.assert_close(task.out_to_loss_grad(MODEL, batch, f), torch.tensor([2.0, -1.5]))


def test_a_users_task_needs_only_its_output() -> None:
    class Mine(Task):
        def output(self, model: nn.Module, batch: Tensor) -> Tensor:
            return model(batch).sum(-1)

    batch = torch.randn(4, 3)
    f = Mine().output(MODEL, batch)
    torch.testing.assert_close(Mine().out_to_loss_grad(MODEL, batch, f), torch.sigmoid(-f))
    assert Mine().loss(MODEL, batch).shape == ()
