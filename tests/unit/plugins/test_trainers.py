"""The trainers make the steps of PyTorch's optimizers, schedulers and clipping; random states are functions of the step."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, SequentialLR

from trak_cli.errors import ConfigError
from trak_cli.plugins import AdamWTrainer, SGDTrainer, Step, StepTrainer
from trak_cli.plugins.samples import collate
from trak_cli.plugins.trainers.step_trainer import State
from trak_cli.tasks import Classification

CPU = torch.device("cpu")
ROWS, CLASSES = 37, 4


def samples(rows: int = ROWS) -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(5)
    means = 2 * torch.eye(6, dtype=torch.float64)
    noise = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    return [(noise[row] + means[row % CLASSES], row % CLASSES) for row in range(rows)]


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.LayerNorm(9), nn.Linear(9, CLASSES)).double()


def trained(trainer: StepTrainer, model: nn.Module | None = None, weights: Tensor | None = None, seed: int = 3) -> nn.Module:
    model = network() if model is None else model
    trainer.train(model, Classification(), samples(), range(ROWS), seed, collate, CPU, weights=weights)
    return model


def by_torch(
    trainer: StepTrainer, make: Callable[[Any], torch.optim.Optimizer], schedule: Callable[..., LRScheduler], clip: float | None
) -> nn.Module:
    """The model after PyTorch's own loop over the same batches."""
    model = network()
    optimizer = make(model.parameters())
    plan = trainer.plan(ROWS, 3)
    scheduler = schedule(optimizer, len(plan))
    data = samples()
    for positions in plan:
        images, labels = collate([data[position] for position in positions])
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        scheduler.step()
    return model


def linear(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: 1 - step / steps)


def constant(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda _: 1.0)


def cosine_after_warmup(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    warmup = LinearLR(optimizer, start_factor=1 / 4, total_iters=3)
    return SequentialLR(optimizer, [warmup, CosineAnnealingLR(optimizer, T_max=steps - 4)], milestones=[4])


SGD_CASES: list[tuple[dict[str, Any], Callable[..., LRScheduler]]] = [
    ({}, linear),
    ({"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}, constant),
    ({"nesterov": True, "momentum": 0.8, "clip_grad": 0.3}, linear),
    ({"schedule": "cosine", "warmup_steps": 4, "clip_grad": 1.0, "weight_decay": 0.1}, cosine_after_warmup),
]


@pytest.mark.parametrize(("arguments", "schedule"), SGD_CASES)
def test_sgd_gives_the_weights_of_torch_optim(arguments: dict[str, Any], schedule: Callable[..., LRScheduler]) -> None:
    trainer = SGDTrainer(epochs=4, batch_size=8, lr=0.1, **arguments)
    options = {"momentum": 0.9, "weight_decay": 5e-4}
    options |= {name: value for name, value in arguments.items() if name in ("momentum", "nesterov", "weight_decay")}
    expected = by_torch(trainer, lambda p: torch.optim.SGD(p, lr=0.1, **options), schedule, arguments.get("clip_grad"))
    for found, value in zip(trained(trainer).parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "schedule"),
    [
        ({}, linear),
        ({"betas": [0.8, 0.95], "eps": 1e-4, "weight_decay": 0.2, "schedule": "constant"}, constant),
        ({"schedule": "cosine", "warmup_steps": 4, "clip_grad": 0.2}, cosine_after_warmup),
    ],
)
def test_adamw_gives_the_weights_of_torch_optim(arguments: dict[str, Any], schedule: Callable[..., LRScheduler]) -> None:
    trainer = AdamWTrainer(epochs=4, batch_size=8, lr=0.01, **arguments)
    options = {name: value for name, value in arguments.items() if name in ("betas", "eps", "weight_decay")}
    expected = by_torch(trainer, lambda p: torch.optim.AdamW(p, lr=0.01, **options), schedule, arguments.get("clip_grad"))
    for found, value in zip(trained(trainer).parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-13)


class Lion(StepTrainer):
    """An optimizer that the package does not have."""

    def initial_state(self, params: Sequence[Tensor]) -> State:
        return {"mean": [torch.zeros_like(param) for param in params]}

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        pairs = list(zip(state["mean"], grads, strict=True))
        new = [
            param - step.lr * torch.tanh(9 * (0.9 * mean + 0.1 * grad))
            for param, (mean, grad) in zip(params, pairs, strict=True)
        ]
        return new, {"mean": [0.99 * mean + 0.01 * grad for mean, grad in pairs]}


def test_a_trainer_that_defines_only_state_and_update_trains_a_model() -> None:
    model = trained(Lion(epochs=30, batch_size=8, lr=0.01, schedule="cosine", warmup_steps=5, clip_grad=1.0))
    images, labels = collate(samples())
    assert (model(images).argmax(1) == labels).double().mean() > 0.9


class Recording(SGDTrainer):
    """SGD that keeps what its update was given."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.steps: list[Step] = []

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        self.steps.append(step)
        return super().update(params, grads, state, step)


def test_steps_are_counted_over_all_epochs_and_a_warmup_raises_the_rate() -> None:
    trainer = Recording(epochs=2, batch_size=8, lr=0.4, schedule="constant", warmup_steps=4)
    trained(trainer)
    assert [step.index for step in trainer.steps] == list(range(10))  # 37 samples in batches of 8: 5 steps an epoch
    assert [step.lr for step in trainer.steps] == pytest.approx([0.1, 0.2, 0.3] + [0.4] * 7)
    assert {step.steps for step in trainer.steps} == {10}


def test_a_plan_covers_every_sample_once_an_epoch_and_is_the_same_in_any_order_of_access() -> None:
    plan = SGDTrainer(epochs=3, batch_size=6).plan(ROWS, 8)  # 37 = 6 · 6 + 1: the last sample is merged
    batches = list(plan)
    assert [len(batch) for batch in batches] == [6, 6, 6, 6, 6, 7] * 3
    for epoch in range(3):
        assert sorted(position for batch in batches[6 * epoch : 6 * epoch + 6] for position in batch) == list(range(ROWS))
    assert [plan[index] for index in reversed(range(len(plan)))] == batches[::-1]
    assert list(SGDTrainer(epochs=3, batch_size=6).plan(ROWS, 9)) != batches


def test_weights_of_one_change_nothing_and_a_weight_multiplies_the_loss_of_its_sample() -> None:
    trainer = SGDTrainer(epochs=3, batch_size=8, weight_decay=0.0)
    plain, ones = trained(trainer), trained(trainer, weights=torch.ones(ROWS))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), ones.parameters(), strict=True))
    zeros = trained(trainer, weights=torch.zeros(ROWS))
    assert all(torch.equal(a, b) for a, b in zip(network().parameters(), zeros.parameters(), strict=True))


def test_a_sample_of_weight_zero_has_no_influence_beyond_its_place_in_the_batch() -> None:
    weights = torch.ones(ROWS)
    weights[5] = 0

    def with_sample(value: float) -> nn.Module:
        data, model = samples(), network()
        data[5] = (torch.full((6,), value, dtype=torch.float64), 1)
        SGDTrainer(epochs=2).train(model, Classification(), data, range(ROWS), 3, collate, CPU, weights=weights)
        return model

    for one, other in zip(with_sample(1.0).parameters(), with_sample(-3.0).parameters(), strict=True):
        assert torch.equal(one, other)


class Augmented:
    """Samples with noise of all three generators, another one at every read."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = samples()[index]
        noise = torch.rand(6, dtype=torch.float64) + float(np.random.rand()) + random.random()  # noqa: NPY002
        return image + 0.1 * noise, label


def test_random_samples_are_read_again_in_every_epoch_and_replayed_by_the_seed() -> None:
    def model(seed: int) -> nn.Module:
        network_ = nn.Sequential(nn.Dropout(0.3), network())
        SGDTrainer(epochs=2).train(network_, Classification(), Augmented(), range(ROWS), seed, collate, CPU)
        return network_

    first = model(3)
    torch.manual_seed(99), np.random.seed(99), random.seed(99)  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), model(3).parameters(), strict=True))
    run = SGDTrainer(epochs=2, batch_size=ROWS).run(network(), Classification(), Augmented(), range(ROWS), 3, collate, CPU)
    with run.session():
        images = [run.batch(index)[1][0].sort(0).values for index in (0, 1, 0)]
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[1])


def test_training_leaves_the_random_states_of_the_caller_as_they_were() -> None:
    model = network()
    torch.manual_seed(4), np.random.seed(4), random.seed(4)  # noqa: NPY002
    expected = torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    torch.manual_seed(4), np.random.seed(4), random.seed(4)  # noqa: NPY002
    SGDTrainer(epochs=2).train(model, Classification(), Augmented(), range(ROWS), 3, collate, CPU)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002
    assert random.random() == expected[2]


class Partial(nn.Module):
    """A model with a tied weight, a frozen one, one that no loss reaches, and parameters of two dtypes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.frozen, self.unused, self.head = nn.Linear(6, 6), nn.Linear(3, 3), nn.Linear(6, CLASSES).double()
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.frozen(torch.tanh(self.second(torch.tanh(self.first(x.float())))))
        logits: Tensor = self.head(hidden.double())
        return logits


@pytest.mark.parametrize("trainer", [SGDTrainer(epochs=3), AdamWTrainer(epochs=3)], ids=["sgd", "adamw"])
def test_tied_frozen_unused_and_mixed_parameters_train_as_with_torch_optim(trainer: StepTrainer) -> None:
    model = trained(trainer, Partial())
    expected, data = Partial(), samples()
    chosen = [parameter for parameter in expected.parameters() if parameter.requires_grad]
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(chosen, lr=1e-3, weight_decay=0.01)
    if isinstance(trainer, SGDTrainer):
        optimizer = torch.optim.SGD(chosen, lr=0.05, momentum=0.9, weight_decay=5e-4)
    plan = trainer.plan(ROWS, 3)
    schedule = linear(optimizer, len(plan))
    for positions in plan:
        images, labels = collate([data[position] for position in positions])
        optimizer.zero_grad()
        nn.functional.cross_entropy(expected(images), labels).backward()
        optimizer.step()
        schedule.step()
    for (name, found), value in zip(model.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(found, value), name
    assert torch.equal(model.state_dict()["unused.weight"], Partial().unused.weight)


def test_an_update_is_differentiable_where_the_mean_square_is_zero() -> None:
    trainer = AdamWTrainer()
    params = [torch.ones(3, dtype=torch.float64)]
    grads = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64, requires_grad=True)
    new, _ = trainer.update(params, [grads], trainer.initial_state(params), Step(0, 10, 0.1))
    (slope,) = torch.autograd.grad(new[0].sum(), grads)
    assert torch.isfinite(slope).all()


def test_an_update_changes_none_of_its_arguments() -> None:
    for trainer in (SGDTrainer(nesterov=True), AdamWTrainer()):
        params, grads = [torch.randn(3)], [torch.randn(3)]
        state = trainer.initial_state(params)
        before = copy.deepcopy((params, grads, dict(state)))
        trainer.update(params, grads, state, Step(1, 10, 0.1))
        torch.testing.assert_close((params, grads, dict(state)), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SGDTrainer(lr=-1, momentum=-0.1, schedule="step"), ("trainer.lr", "trainer.momentum", "trainer.schedule")),
        (lambda: SGDTrainer(nesterov=True, momentum=0), ("trainer.nesterov",)),
        (lambda: AdamWTrainer(betas=[0.9], eps=-1, clip_grad=0.0), ("trainer.betas", "trainer.eps", "trainer.clip_grad")),
        (lambda: Lion(epochs=0, batch_size=0, lr=1, warmup_steps=-1), ("trainer.epochs", "trainer.warmup_steps")),
    ],
)
def test_arguments_out_of_range_are_refused_together(make: Callable[[], StepTrainer], named: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert set(named) <= {problem.where for problem in caught.value.problems}
