"""What f and q are for each task, against the formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trak_cli.errors import InputError
from trak_cli.tasks import BinaryClassification, Classification, Regression, SampleError, Task, TokenClassification


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


def test_vmap_and_a_batch_agree_on_outputs() -> None:
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


def test_a_single_class_is_refused() -> None:
    with pytest.raises(InputError):
        Classification().validate(MODEL, (torch.randn(3, 1), torch.zeros(3, dtype=torch.long)))


def test_a_single_logit_is_the_log_odds_of_class_one() -> None:
    z = torch.tensor([0.5, -2.0])
    torch.testing.assert_close(BinaryClassification().output(MODEL, (z, torch.tensor([1, 0]))), torch.tensor([0.5, 2.0]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_binary_labels_may_be_of_any_dtype_and_have_an_axis_of_one(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    z, labels = torch.tensor([0.5, -2.0, 3.0]), torch.tensor([1, 0, 0]).to(dtype).reshape(shape)
    for logits in (z, z[:, None]):
        task, batch = BinaryClassification(), (logits, labels)
        task.validate(MODEL, batch)
        torch.testing.assert_close(task.output(MODEL, batch), torch.tensor([0.5, 2.0, -3.0]))
        true_loss = nn.functional.binary_cross_entropy_with_logits(z, labels.float().reshape(3))
        torch.testing.assert_close(task.loss(MODEL, batch), true_loss)


@pytest.mark.parametrize("labels", [torch.tensor([1.0, 0.3]), torch.tensor([0, 2]), torch.tensor([[1.0], [-1.0]])])
def test_other_binary_labels_name_the_sample(labels: Tensor) -> None:
    with pytest.raises(SampleError) as refused:
        BinaryClassification().validate(MODEL, (torch.zeros(2), labels))
    assert refused.value.position == 1


@pytest.mark.parametrize("labels", [torch.zeros(2, 2), torch.zeros(2, 3, 1), [0, 1]])
def test_several_binary_labels_for_a_sample_are_refused(labels: object) -> None:
    with pytest.raises(InputError, match=r"\(B,\) or \(B, 1\)"):
        BinaryClassification().validate(MODEL, (torch.zeros(2), labels))


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (Classification(), torch.tensor([0, -100])),
        (BinaryClassification(), torch.tensor([0, -100])),
        (BinaryClassification(), torch.tensor([[1.0], [-100.0]])),
    ],
)
def test_a_sample_that_is_not_counted_is_refused_by_that_name(task: Task, labels: Tensor) -> None:
    with pytest.raises(SampleError, match="not counted") as refused:
        task.validate(MODEL, (torch.randn(2, 4) if isinstance(task, Classification) else torch.zeros(2), labels))
    assert "leave samples without a label out" in refused.value.remedy


def test_labels_of_positions_lead_to_the_task_for_them() -> None:
    with pytest.raises(InputError, match="task=token_classification"):
        Classification().validate(MODEL, (torch.randn(2, 3, 4), torch.tensor([[0, 1, -100], [2, 3, 1]])))


@pytest.mark.parametrize("task", [TokenClassification(label=1, inputs=0), TokenClassification(label="tags", inputs="x")])
def test_positions_that_do_not_count_add_nothing_to_the_output_of_a_tagger(task: Task) -> None:
    logits, labels = torch.randn(2, 3, 4, dtype=torch.float64), torch.tensor([[0, 1, -100], [-100, 3, 2]])
    batch = (logits, labels) if isinstance(task.inputs, int) else {"x": logits, "tags": labels}
    task.validate(MODEL, batch)
    log_odds = logits.softmax(-1).logit()
    f = torch.stack([log_odds[0, 0, 0] + log_odds[0, 1, 1], log_odds[1, 1, 3] + log_odds[1, 2, 2]])
    q = torch.stack([torch.sigmoid(-log_odds[0, [0, 1], [0, 1]]).mean(), torch.sigmoid(-log_odds[1, [1, 2], [3, 2]]).mean()])
    torch.testing.assert_close(task.output(MODEL, batch), f)
    torch.testing.assert_close(task.out_to_loss_grad(MODEL, batch, f), q)
    torch.testing.assert_close(task.loss(MODEL, batch), nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (torch.tensor([[0, 1], [-100, -100]]), "no predicted token"),
        (torch.tensor([[0, 1], [4, 1]]), "the label 4"),
        (torch.tensor([[0, 1], [-1, 1]]), "the label -1"),
    ],
)
def test_a_tagger_refuses_other_labels(labels: Tensor, found: str) -> None:
    with pytest.raises(SampleError, match=found) as refused:
        TokenClassification(label=1, inputs=0).validate(MODEL, (torch.randn(2, 2, 4), labels))
    assert refused.value.position == 1


@pytest.mark.parametrize(
    ("task", "batch", "remedy"),
    [
        (Classification(), {"x": 0, "y": 0}, "task.inputs=x task.label=y"),
        (BinaryClassification(), {"target": 0, "features": 0}, "task.inputs=features task.label=target"),
        (Regression(), {"frames": 0, "speed": 0}, "task.inputs=frames task.value=speed"),
        (Classification(), {"ids": 0, "mask": 0, "Label": 0}, "'task.inputs={ids: ids, mask: mask}' task.label=Label"),
    ],
)
def test_a_mapping_names_the_two_arguments_to_set(task: Task, batch: dict[str, int], remedy: str) -> None:
    with pytest.raises(InputError) as refused:
        task.output(MODEL, {key: torch.zeros(2) for key in batch})
    assert remedy in refused.value.problems[0].remedy


@pytest.mark.parametrize("task", [Classification(), BinaryClassification(), Regression()])
def test_inputs_without_labels_are_refused_with_the_form_of_a_sample(task: Task) -> None:
    with pytest.raises(InputError, match=r"\(input, label\)"):
        task.output(MODEL, torch.zeros(4, 2))


@pytest.mark.parametrize("make", [Regression, BinaryClassification])
@pytest.mark.parametrize("inputs", [["b", "a"], {"subtrahend": "a", "minuend": "b"}, None])
def test_a_model_gets_several_parts_in_order_or_by_name_or_the_whole_batch(make: type[Regression], inputs: object) -> None:
    class Difference(nn.Module):
        def forward(self, minuend: dict[str, Tensor] | Tensor, subtrahend: Tensor | None = None) -> Tensor:
            return minuend["b"] - minuend["a"] if isinstance(minuend, dict) else minuend - subtrahend

    label = "label" if make is BinaryClassification else "value"
    batch = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([5.0, 4.0]), "y": torch.tensor([1, 1])}
    task = make(inputs, **{label: "y"})
    torch.testing.assert_close(task.output(Difference(), batch), torch.tensor([4.0, 2.0]))


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


@pytest.mark.parametrize(
    ("task", "output", "label"),
    [
        (Classification(), torch.zeros(3), torch.tensor([1])),
        (BinaryClassification(), torch.tensor(0.5), torch.tensor([1])),
        (Regression(), torch.tensor(0.5), torch.tensor([1.0])),
    ],
)
def test_an_output_without_its_batch_dimension_names_squeeze(task: Task, output: Tensor, label: Tensor) -> None:
    with pytest.raises(InputError, match=r"use squeeze\(-1\)"):
        task.output(MODEL, (output, label))
