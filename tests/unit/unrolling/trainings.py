"""Small trainings in float64 of many kinds, and two slow oracles for the derivative of f in the weights of their samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from trak_cli.plugins import AdamWTrainer, SGDTrainer, Step, StepTrainer
from trak_cli.plugins.samples import collate
from trak_cli.plugins.trainers.step_run import StepRun
from trak_cli.plugins.trainers.step_trainer import State
from trak_cli.tasks import CausalLM, Classification, Contrastive, Regression, Task
from trak_cli.unrolling.contract import Target
from trak_cli.unrolling.memory_plan import Budget
from trak_cli.unrolling.sweep_state import SweepState
from trak_cli.unrolling.unroll import Unrolling

CPU = torch.device("cpu")

#: Enough for all graphs of these trainings.
AMPLE = 500.0


@dataclass(frozen=True)
class Case:
    """A training: how its model is made, its task and trainer, and its samples; the first ones are also the targets."""

    model: Callable[[], nn.Module]
    task: Task
    trainer: StepTrainer
    samples: Sequence[Any]
    seed: int = 3

    @property
    def rows(self) -> int:
        return len(self.samples)

    def run(self) -> StepRun:
        return self.trainer.run(self.model(), self.task, self.samples, range(self.rows), self.seed, collate, CPU)

    def unrolling(self, budget_mb: float = AMPLE, targets: int = 1) -> Unrolling:
        unrolling = Unrolling(self.run(), self.task.output, Budget(budget_mb), targets)
        unrolling.forward()
        return unrolling

    def targets(self, count: int = 3) -> list[Target]:
        """Single samples, the last target is a group in two batches of unequal size."""
        singles: list[Target] = [lambda row=row: [collate([self.samples[row]])] for row in range(count - 1)]
        return [*singles, lambda: [collate(list(self.samples[:5])), collate(list(self.samples[5:7]))]]

    def trained(self, weights: Tensor | None) -> nn.Module:
        model = self.model()
        self.trainer.train(model, self.task, self.samples, range(self.rows), self.seed, collate, CPU, weights=weights)
        return model

    def values(self, weights: Tensor | None) -> Tensor:
        """f of the targets after a training with these weights."""
        model = self.trained(weights).eval()
        with torch.no_grad():
            outputs = [torch.cat([self.task.output(model, batch) for batch in target()]) for target in self.targets()]
        return torch.stack([output.mean() for output in outputs])


def swept(unrolling: Unrolling, targets: Sequence[Target], start: SweepState | None = None) -> Tensor:
    """The derivative after whole sweeps over the targets in blocks, (T, n)."""
    parts = []
    for first in range(0, len(targets), unrolling.block):
        *_, last = unrolling.sweep(targets[first : first + unrolling.block], start)
        parts.append(last.derivative)
    return torch.cat(parts)


def finite_differences(case: Case, rows: Sequence[int], step: float = 1e-4) -> Tensor:
    """Fourth-order differences of f in the weights of some samples, (T, len(rows))."""
    columns = []
    for row in rows:
        values = {}
        for factor in (-2, -1, 1, 2):
            weights = torch.ones(case.rows, dtype=torch.float64)
            weights[row] += factor * step
            values[factor] = case.values(weights)
        columns.append((8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step))
    return torch.stack(columns, 1)


def one_graph(case: Case) -> Tensor:
    """The derivative by one graph over the whole training, (T, n); for models without buffers that change."""
    run = case.run()
    names = [name for name, parameter in run.model.named_parameters() if parameter.requires_grad]
    params: list[Tensor] = [parameter.detach().clone().requires_grad_() for parameter in run.parameters]
    state = run.initial_state(params)
    weights = torch.ones(case.rows, dtype=torch.float64, requires_grad=True)
    with run.session(), sdpa_kernel(SDPBackend.MATH):
        for index in range(run.steps):
            positions, batch = run.batch(index)
            loss = _Bound(run.model, case.task).loss(dict(zip(names, params, strict=True)), batch, weights[list(positions)])
            grads = torch.autograd.grad(loss, params, create_graph=True, allow_unused=True)
            params, state = run.advance(params, grads, state, index)
        run.model.eval()
        rows = []
        for target in case.targets():
            bound = _Bound(run.model, case.task)
            outputs = torch.cat([bound.output(dict(zip(names, params, strict=True)), batch) for batch in target()])
            rows.append(torch.autograd.grad(outputs.mean(), weights, retain_graph=True)[0])
    return torch.stack(rows)


class _Bound(nn.Module):
    """A model bound to a task, so that its parameters can be replaced in every method of the task."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: Any, weights: Tensor | None) -> Tensor:
        return self.task.output(self.model, batch) if weights is None else self.task.weighted_loss(self.model, batch, weights)

    def loss(self, params: dict[str, Tensor], batch: Any, weights: Tensor) -> Tensor:
        found: Tensor = functional_call(self, {f"model.{name}": value for name, value in params.items()}, (batch, weights))
        return found

    def output(self, params: dict[str, Tensor], batch: Any) -> Tensor:
        found: Tensor = functional_call(self, {f"model.{name}": value for name, value in params.items()}, (batch, None))
        return found


class Momentum(StepTrainer):
    """An optimizer of a user: RMSprop with momentum, and one tensor that belongs to no parameter."""

    def initial_state(self, params: Sequence[Tensor]) -> State:
        zeros = [torch.zeros_like(param) for param in params]
        return {"square": zeros, "velocity": zeros, "scale": [torch.ones((), dtype=torch.float64)]}

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: State, step: Step
    ) -> tuple[Sequence[Tensor], State]:
        squares = [0.9 * old + 0.1 * grad**2 for old, grad in zip(state["square"], grads, strict=True)]
        scale = 0.9 * state["scale"][0] + 0.1 * torch.stack([square.mean() for square in squares]).mean()
        directions = [grad / (square + 0.01 + scale) ** 0.5 for grad, square in zip(grads, squares, strict=True)]
        velocities = [0.5 * old + new for old, new in zip(state["velocity"], directions, strict=True)]
        new = [param - step.lr * velocity for param, velocity in zip(params, velocities, strict=True)]
        return new, {"square": squares, "velocity": velocities, "scale": [scale]}


def vectors(rows: int = 21, classes: int = 3, width: int = 5) -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(width, generator=generator, dtype=torch.float64), row % classes) for row in range(rows)]


def images(rows: int = 21) -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(6)
    return [(torch.randn(1, 6, 6, generator=generator, dtype=torch.float64), row % 3) for row in range(rows)]


def texts(rows: int = 19) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    found = []
    for row in range(rows):
        ids = torch.randint(0, 11, (6,), generator=generator)
        labels = ids.clone()
        labels[: row % 4] = -100
        found.append({"input_ids": ids, "labels": labels})
    return found


def pairs(rows: int = 17) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(8)
    values = torch.randn(2, rows, 4, generator=generator, dtype=torch.float64)
    return [{"pixel_values": values[0, row], "input_ids": values[1, row], "key": torch.tensor(row)} for row in range(rows)]


def seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A function that makes the same model at every call, in float64."""

    def made() -> nn.Module:
        torch.manual_seed(0)
        return make().double()

    return made


class Attention(nn.Module):
    """A causal language model whose output weights are tied to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.query, self.mix, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        x: Tensor = self.embedding(input_ids)
        parts = self.query(self.norm(x)).unflatten(-1, (3, 2, 4)).transpose(1, 3).unbind(2)
        mixed = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        logits: Tensor = self.head(x + self.mix(mixed.transpose(1, 2).flatten(2)))
        return logits


class Recurrent(nn.Module):
    """A classifier with an LSTM or a GRU."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(1, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(x[:, :, None])[0][:, -1])
        return logits


class Pairs(nn.Module):
    """Embeds both halves of a pair by linear maps."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.image, self.text = nn.Linear(4, 3), nn.Linear(4, 3)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        found: Tensor = self.image(pixel_values)
        return found

    def get_text_features(self, input_ids: Tensor) -> Tensor:
        found: Tensor = self.text(input_ids)
        return found


def contrastive() -> Contrastive:
    task, model = Contrastive(mask=None), seeded(Pairs)()
    with torch.no_grad():
        task.bind(task.context(model, [collate(pairs(6))]))
    return task


def perceptron(*middle: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return seeded(lambda: nn.Sequential(nn.Linear(5, 6), *(make() for make in middle), nn.GELU(), nn.Linear(6, 3)))


def convolutional() -> nn.Module:
    blocks = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, momentum=None), nn.GELU(), nn.AvgPool2d(2), nn.Dropout2d(0.2)]
    return nn.Sequential(*blocks, nn.Conv2d(3, 4, 2), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 3))


class Partly(nn.Module):
    """A model with a frozen layer, one that no loss reaches, and one used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.frozen, self.unused, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(2, 2), nn.Linear(5, 3)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.twice(self.frozen(torch.tanh(self.twice(x))))))
        return logits


def sgd(**arguments: Any) -> SGDTrainer:
    return SGDTrainer(**{"epochs": 2, "batch_size": 8, "lr": 0.1, "weight_decay": 0.01} | arguments)


def adamw(**arguments: Any) -> AdamWTrainer:
    return AdamWTrainer(**{"epochs": 2, "batch_size": 8, "lr": 0.02, "eps": 1e-3} | arguments)


def noisy(batch: Any) -> Any:
    """A batch with noise on its inputs."""
    return batch[0] + 0.3 * torch.randn_like(batch[0]), batch[1]


CASES = {
    "nesterov, schedule, clipping": Case(
        perceptron(), Classification(), sgd(nesterov=True, schedule="cosine", warmup_steps=2, clip_grad=0.4), vectors()
    ),
    "no momentum": Case(perceptron(), Classification(), sgd(momentum=0.0, schedule="constant"), vectors()),
    "adamw": Case(perceptron(), Classification(), adamw(clip_grad=0.5, betas=(0.8, 0.95)), vectors()),
    "own optimizer": Case(perceptron(), Classification(), Momentum(2, 8, 0.02, warmup_steps=1), vectors()),
    "dropout, layer norm": Case(
        perceptron(lambda: nn.Dropout(0.3), lambda: nn.LayerNorm(6)), Classification(), sgd(epochs=3), vectors()
    ),
    "batch norm": Case(perceptron(lambda: nn.BatchNorm1d(6)), Classification(), sgd(), vectors(rows=17)),
    "convolutions": Case(seeded(convolutional), Classification(), adamw(), images()),
    "tied embedding, attention": Case(seeded(Attention), CausalLM(), adamw(), texts()),
    "contrastive": Case(seeded(Pairs), contrastive(), sgd(), pairs()),
    "regression": Case(seeded(lambda: nn.Linear(5, 1)), Regression(), sgd(epochs=4), vectors()),
    "lstm": Case(seeded(lambda: Recurrent("LSTM")), Classification(), sgd(), vectors(rows=12)),
    "gru": Case(seeded(lambda: Recurrent("GRU")), Classification(), sgd(), vectors(rows=12)),
    "augmentation": Case(perceptron(), Classification(), sgd(augment=noisy), vectors()),
    "frozen, unused, used twice": Case(seeded(Partly), Classification(), adamw(), vectors()),
}
