"""The derivative of an update in closed form is the one by autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from trainings import CASES, Case, finite_differences, one_graph, perceptron, swept, vectors

from trak_cli.plugins import AdamWTrainer, SGDTrainer, Step, StepTrainer
from trak_cli.plugins.samples import collate
from trak_cli.plugins.trainers.step_run import StepRun
from trak_cli.plugins.trainers.step_trainer import State
from trak_cli.tasks import Classification

DOUBLE = torch.float64

#: Makes a trainer for a learning rate, a weight decay and a limit of the norm of the gradient.
Make = Callable[[float, float, float | None], StepTrainer]

TRAINERS: dict[str, Make] = {
    "sgd": lambda lr, decay, clip: SGDTrainer(3, 4, lr, momentum=0.0, weight_decay=decay, clip_grad=clip),
    "momentum": lambda lr, decay, clip: SGDTrainer(3, 4, lr, momentum=0.7, weight_decay=decay, clip_grad=clip),
    "nesterov": lambda lr, decay, clip: SGDTrainer(3, 4, lr, 0.8, nesterov=True, weight_decay=decay, clip_grad=clip),
    "adamw": lambda lr, decay, clip: AdamWTrainer(3, 4, lr, (0.8, 0.95), 1e-3, decay, clip_grad=clip, warmup_steps=2),
    "adamw, small eps": lambda lr, decay, clip: AdamWTrainer(3, 4, lr, weight_decay=decay, clip_grad=clip, schedule="cosine"),
    "adamw, no means": lambda lr, decay, clip: AdamWTrainer(3, 4, lr, (0.0, 0.0), 0.1, decay, clip_grad=clip),
}


def run_of(trainer: StepTrainer, shapes: Sequence[Sequence[int]], dtype: torch.dtype = DOUBLE) -> StepRun:
    """A run whose model has parameters of these shapes."""
    model = nn.ParameterList([nn.Parameter(torch.zeros(list(shape), dtype=dtype)) for shape in shapes])
    return trainer.run(model, Classification(), vectors(8), range(8), 0, collate, torch.device("cpu"))


def by_autograd(
    run: StepRun,
    tensors: Mapping[str, list[Tensor]],
    grads: Sequence[Tensor | None],
    adjoint: Mapping[str, list[Tensor]],
    index: int,
) -> list[Tensor]:
    """The derivatives in parameters, state and gradients before the update ``index``."""
    leaves = {name: [value.clone().requires_grad_() for value in values] for name, values in tensors.items()}
    known = [None if grad is None else grad.clone().requires_grad_() for grad in grads]
    state = {name: values for name, values in leaves.items() if name != "params"}
    new, changed = run.advance(leaves["params"], known, state, index)
    after = {"params": new, **changed}
    inputs = [*(value for values in leaves.values() for value in values), *(grad for grad in known if grad is not None)]
    outputs, given = ([value for name in leaves for value in named[name]] for named in (after, adjoint))
    return list(torch.autograd.grad(outputs, inputs, given, materialize_grads=True))


def in_closed_form(
    run: StepRun,
    tensors: Mapping[str, list[Tensor]],
    grads: Sequence[Tensor | None],
    adjoint: Mapping[str, list[Tensor]],
    index: int,
) -> list[Tensor]:
    """As :func:`by_autograd`."""
    state = {name: values for name, values in tensors.items() if name != "params"}
    with torch.no_grad():
        _, after = run.advance(tensors["params"], grads, state, index)
    changed = {name: [value.clone() for value in values] for name, values in adjoint.items()}
    pull = run.pullback(grads, after, index)
    assert pull is not None
    params = changed["params"]
    to_grads = pull(params, {name: values for name, values in changed.items() if name != "params"})
    assert [value is None for value in to_grads] == [grad is None for grad in grads]
    return [*(value for values in changed.values() for value in values), *(value for value in to_grads if value is not None)]


@pytest.mark.parametrize("name", TRAINERS)
@settings(deadline=None, max_examples=40)
@given(
    shapes=st.lists(st.lists(st.sampled_from([1, 2, 3, 5, 17]), max_size=3), min_size=1, max_size=4),
    missing=st.sets(st.integers(0, 3)),
    zeros=st.booleans(),
    decay=st.sampled_from([0.0, 0.03]),
    clip=st.sampled_from([None, 1e-3, 1.0, 3.0, 1e3]),
    index=st.integers(0, 5),
    seed=st.integers(0, 999),
)
def test_the_closed_form_of_an_update_is_the_derivative_by_autograd(
    name: str,
    shapes: list[list[int]],
    missing: set[int],
    zeros: bool,
    decay: float,
    clip: float | None,
    index: int,
    seed: int,
) -> None:
    run = run_of(TRAINERS[name](0.1, decay, clip), shapes)
    generator = torch.Generator().manual_seed(seed)

    def random(count: int = len(shapes)) -> list[Tensor]:
        return [torch.randn(shape, generator=generator, dtype=DOUBLE) for shape in shapes[:count]]

    start = run.initial_state(random())
    state = {key: [value.abs() if key == "square" else value for value in random()] for key in start}
    if zeros:  # the state before the first step, and gradients of rows that no sample has used
        state = {key: list(values) for key, values in start.items()}
    tensors = {"params": random(), **state}
    grads = [None if number in missing else value * (value > -1 if zeros else 1) for number, value in enumerate(random())]
    adjoint = {key: random() for key in tensors}
    expected = by_autograd(run, tensors, grads, adjoint, index)
    found = in_closed_form(run, tensors, grads, adjoint, index)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TRAINERS)
def test_gradients_that_are_all_zero_have_a_finite_derivative(name: str) -> None:
    run = run_of(TRAINERS[name](0.1, 0.1, 1e-7), [[3]])
    tensors = {"params": [torch.ones(3, dtype=DOUBLE)]}
    tensors |= {key: list(values) for key, values in run.initial_state(tensors["params"]).items()}
    adjoint = {key: [torch.ones(3, dtype=DOUBLE)] for key in tensors}
    arguments = (run, tensors, [torch.zeros(3, dtype=DOUBLE)], adjoint, 0)
    found = in_closed_form(*arguments)
    assert all(torch.isfinite(value).all() for value in found)
    torch.testing.assert_close(found, by_autograd(*arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions_agree_up_to_rounding(dtype: torch.dtype) -> None:
    run = run_of(TRAINERS["adamw"](0.1, 0.01, 1.0), [[40, 7], [33]], dtype)
    generator = torch.Generator().manual_seed(0)

    def random() -> list[Tensor]:
        return [torch.randn(shape, generator=generator).to(dtype) for shape in ([40, 7], [33])]

    tensors = {"params": random(), "mean": random(), "square": [value.abs() + 0.1 for value in random()]}
    adjoint = {key: random() for key in tensors}
    arguments = (run, tensors, random(), adjoint, 3)
    tolerance = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(in_closed_form(*arguments), by_autograd(*arguments), rtol=tolerance, atol=tolerance)


class Halved(SGDTrainer):
    """SGD with an update of its own."""

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        return super().update(params, [grad / (1 + grad**2) for grad in grads], state, step)


class Wrapped(AdamWTrainer):
    """AdamW with an update that is wrapped by a decorator."""

    @wraps(AdamWTrainer.update)
    def update(  # type: ignore[override]
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        return super().update(params, [torch.sin(grad) for grad in grads], state, step)


class Slower(AdamWTrainer):
    """AdamW with learning rates of its own."""

    def step(self, index: int, steps: int) -> Step:
        return Step(index, steps, 0.01 / (1 + index))


@pytest.mark.parametrize("trainer", [Halved(2, 8, 0.1), Wrapped(2, 8, 0.02, eps=1e-3), Slower(2, 8, eps=1e-3)])
def test_a_trainer_that_changes_a_part_of_another_is_differentiated_as_it_is(trainer: StepTrainer) -> None:
    case = Case(perceptron(), Classification(), trainer, vectors())
    torch.testing.assert_close(swept(case.unrolling(), case.targets()), one_graph(case), rtol=1e-9, atol=1e-13)


class Delayed(StepTrainer):
    """Steps along the gradient before the last one; the older one comes first in the state."""

    def initial_state(self, params: Sequence[Tensor]) -> State:
        zeros = [torch.zeros_like(param) for param in params]
        return {"older": zeros, "last": zeros}

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        new = [param - step.lr * (grad + old) for param, grad, old in zip(params, grads, state["older"], strict=True)]
        return new, {"older": state["last"], "last": list(grads)}


def test_a_trainer_that_passes_tensors_on_from_step_to_step_is_differentiated() -> None:
    case = Case(perceptron(), Classification(), Delayed(3, 8, 0.1), vectors())
    found = swept(case.unrolling(), case.targets())
    torch.testing.assert_close(found, one_graph(case), rtol=1e-9, atol=1e-13)
    rows = [0, 4]
    expected = finite_differences(case, rows)
    torch.testing.assert_close(found[:, rows], expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_only_trainers_without_a_closed_form_are_differentiated_by_autograd() -> None:
    found = []
    for name, case in CASES.items():
        run = case.run()
        if run.pullback([None] * len(run.parameters), dict(run.initial_state(run.parameters)), 0) is None:
            found.append(name)
    assert found == ["own optimizer"]
