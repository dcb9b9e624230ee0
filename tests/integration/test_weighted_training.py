"""Trainings of a project with weights of samples, and as sequences of steps that can be differentiated."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_project import Project
from torch.utils.data import default_collate

from trak_cli.config.load import load
from trak_cli.errors import InputError
from trak_cli.stages.training.trainer_run import Training
from trak_cli.tasks import Classification
from trak_cli.unrolling.memory_plan import Budget
from trak_cli.unrolling.unroll import Unrolling

LION = Path(__file__).parents[2] / "docs" / "examples" / "extensions" / "trainer.py"

PLUGIN = '''
from trak_cli.plugins import SGDTrainer
from trak_cli.tasks import Classification


def noisy(batch, scale):
    return batch[0] + scale * torch.randn_like(batch[0]), batch[1]


class Plain:
    def train(self, model, task, dataset, indices, seed, collate, device):
        SGDTrainer(epochs=1).train(model, task, dataset, indices, seed, collate, device)


class Weighting(Plain):
    """Weights samples, but does not say in which steps."""

    def train(self, model, task, dataset, indices, seed, collate, device, weights=None):
        SGDTrainer(epochs=1).train(model, task, dataset, indices, seed, collate, device, weights=weights)


class Smoothed(Classification):
    def loss(self, model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.1)
'''


@pytest.fixture
def training(project: Project, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that opens the training of the project with some overrides."""
    plugin = project.folder / "tiny_plugin.py"
    plugin.write_text(plugin.read_text() + PLUGIN)
    shutil.copy(LION, project.folder)
    monkeypatch.chdir(project.folder)

    def opened(*overrides: str) -> Training:
        return Training(load("train", None, project.folder, overrides).config, torch.device("cpu"))

    return opened


@pytest.mark.parametrize(
    "trainer",
    [
        "trainer={_target_: trainer.SmoothLion, epochs: 3, batch_size: 16, lr: 0.02, sharpness: 5}",
        "trainer={_target_: trak_cli.plugins.SGDTrainer, epochs: 3, batch_size: 16, clip_grad: 0.5, schedule: cosine}",
        "trainer={_target_: trak_cli.plugins.AdamWTrainer, epochs: 3, betas: [0.8, 0.95], eps: 1.0e-4, warmup_steps: 3}",
    ],
    ids=["own", "sgd", "adamw"],
)
@pytest.mark.parametrize("part", [[], ["train.only_parameters=true", "parameters.include=[second.*]"]], ids=["all", "part"])
def test_the_derivative_predicts_a_training_with_other_weights(training: Any, trainer: str, part: Sequence[str]) -> None:
    trained: Training = training(trainer, *part)
    target = [lambda: [default_collate([trained.splits["test"][1]])]]
    with trained.steps(range(trained.rows), 0) as run:
        unrolling = Unrolling(run, Classification().output, Budget(100))
        unrolling.forward()
        *_, last = unrolling.sweep(target)
        before = float(Classification().output(unrolling.model.eval(), target[0]()[0]).detach())
    weights = torch.ones(trained.rows)
    weights[7] = 0.9
    model = trained.model(range(trained.rows), 0, weights=weights).eval()
    after = float(Classification().output(model, target[0]()[0]).detach())
    assert after - before == pytest.approx(-0.1 * float(last.derivative[0, 7]), rel=0.05)


def test_weights_of_one_give_the_checkpoint_of_trak_train(project: Project, training: Any) -> None:
    trained: Training = training("trainer.epochs=3")
    plain = trained.model(range(trained.rows), 0)
    weighted = trained.model(range(trained.rows), 0, weights=torch.ones(trained.rows))
    with trained.steps(range(trained.rows), 0) as run:
        unrolling = Unrolling(run, Classification().output, Budget(100))
        unrolling.forward()
    for name, value in plain.state_dict().items():
        assert torch.equal(weighted.state_dict()[name], value)
        assert torch.equal(unrolling.model.state_dict()[name], value)


def test_a_trainer_without_weights_is_refused_where_samples_are_weighted(training: Any) -> None:
    trained: Training = training("trainer={_target_: tiny_plugin.Plain}")
    trained.model(range(trained.rows), 0)
    with pytest.raises(InputError, match="argument weights"):
        trained.model(range(trained.rows), 0, weights=torch.ones(trained.rows))


def test_a_trainer_without_steps_is_refused_where_steps_are_needed(training: Any) -> None:
    trained: Training = training("trainer={_target_: tiny_plugin.Weighting}")
    trained.model(range(trained.rows), 0, weights=torch.ones(trained.rows))
    with pytest.raises(InputError, match="StepTrainer"), trained.steps(range(trained.rows), 0):
        pass


def test_a_task_without_the_losses_of_samples_is_refused_where_samples_are_weighted(training: Any) -> None:
    trained: Training = training("task={_target_: tiny_plugin.Smoothed}", "trainer.epochs=1")
    trained.model(range(trained.rows), 0)
    with pytest.raises(InputError, match=r"task\.losses"):
        trained.model(range(trained.rows), 0, weights=torch.ones(trained.rows))
    with pytest.raises(InputError, match=r"task\.losses"), trained.steps(range(trained.rows), 0):
        pass


def test_an_augmentation_of_the_yaml_is_replayed(training: Any) -> None:
    augment = "+trainer.augment={_target_: tiny_plugin.noisy, _partial_: true, scale: 0.5}"
    trained: Training = training("trainer.epochs=2", augment)
    models = [trained.model(range(trained.rows), 0) for _ in range(2)]
    plain = training("trainer.epochs=2").model(range(trained.rows), 0)
    assert torch.equal(models[0].first.weight, models[1].first.weight)
    assert not torch.equal(models[0].first.weight, plain.first.weight)
