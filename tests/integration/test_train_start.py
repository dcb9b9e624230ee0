"""`trak train` and `trak retrain` from a checkpoint, and of a part of the model, by the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_project import TARGETS, Project

from trak_cli.plugins.checkpoints.state import load
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.types import Float32

NORMED = '''

class Normed(nn.Module):
    """A body with BatchNorm and dropout, and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.body(x))


class Careless:
    """A trainer that knows nothing of fixed parameters, and no snapshots."""

    def train(self, model, task, dataset, indices, seed, collate, device):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
'''
HEAD = {"head.weight", "head.bias"}
FULL = "runs/tiny/checkpoints/full_0.safetensors"
START, PART = f"train.start={FULL}", ("train.only_parameters=true", "parameters.include=[head.*]")


@pytest.fixture
def started(project: Project) -> Project:
    """The project with such a model, and one training of it from scratch."""
    plugin, config = project.folder / "tiny_plugin.py", project.folder / "tiny.yaml"
    plugin.write_text(plugin.read_text() + NORMED)
    config.write_text(config.read_text().replace("tiny_plugin.Net", "tiny_plugin.Normed") + "trainer: {epochs: 2}\n")
    project.done("train", "train.count=1")
    return project


def files(project: Project) -> dict[str, dict[str, torch.Tensor]]:
    return {path.stem: load(path) for path in sorted((project.store / "checkpoints").glob("*.safetensors"))}


def moved(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> set[str]:
    assert set(a) == set(b)
    return {name for name in a if not torch.equal(a[name], b[name])}


@pytest.mark.parametrize("trainer", ["sgd", "adamw"])
def test_heads_are_trained_on_a_fixed_body(started: Project, trainer: str) -> None:
    asked = [f"trainer={trainer}", START, *PART, "train.count=2", "seed=7"]
    started.done("train", *asked)
    found = files(started)
    assert list(found) == ["full_0", "full_0_part_7", "full_0_part_8"]
    for one, other in (("full_0", "full_0_part_7"), ("full_0", "full_0_part_8"), ("full_0_part_7", "full_0_part_8")):
        assert moved(found[one], found[other]) == HEAD
    before = started.files()
    (started.store / "checkpoints" / "full_0_part_7.safetensors").unlink()
    started.done("train", *asked)
    assert started.files() == before
    started.done("featurize", "checkpoints=${store}/checkpoints/*.safetensors")
    assert len(Layout(started.store).checkpoints()) == 3


def test_heads_start_from_their_seed_and_whole_models_from_the_file(started: Project) -> None:
    still = ["trainer.lr=0", "train.count=1", "seed=5"]
    started.done("train", *still, "train.folder=new")
    started.done("train", *still, START, *PART)
    started.done("train", *still, START)
    started.done("train", *still, *PART)
    found = files(started)
    assert list(found) == ["full_0", "full_0_part_5", "full_0_tuned_5", "part_5"]
    new = load(started.folder / "new" / "full_5.safetensors")
    assert not moved({name: found["full_0_part_5"][name] for name in HEAD}, {name: new[name] for name in HEAD})
    statistics = {name for name in new if "running" in name or "tracked" in name}
    assert moved(found["full_0"], found["full_0_tuned_5"]) == statistics  # training of all is training as usual
    assert moved(new, found["part_5"]) == statistics


def test_snapshots_of_heads_are_named_after_the_head(started: Project) -> None:
    started.done("train", START, *PART, "train.count=1", "trainer.epochs=3", "train.snapshots=2")
    found = files(started)
    assert list(found) == ["full_0", "full_0_part_0", "full_0_part_0_epoch_2"]
    assert moved(found["full_0"], found["full_0_part_0_epoch_2"]) == HEAD


def test_a_trainer_that_changes_what_is_fixed_is_refused(started: Project) -> None:
    (started.folder / "tiny.yaml").write_text((started.folder / "tiny.yaml").read_text().replace("trainer: {epochs: 2}\n", ""))
    careless = ["trainer._target_=tiny_plugin.Careless"]
    started.refused(4, "train", *careless, START, *PART, says=("trainer", "body.0.weight", "parameters.include"))
    started.done("train", *careless, START, "train.count=1")


def test_bad_starts_and_patterns_are_refused(started: Project) -> None:
    for stage in ("train", "retrain"):
        says = ("train.start", "'gone.pt'", "train.count", "correct the path")
        started.refused(2, stage, "train.start=gone.pt", "train.count=0", says=says)
        started.refused(
            2,
            stage,
            START,
            "train.only_parameters=true",
            "parameters.include=[top.*, head.*]",
            says=("parameters.include", "top.*", "head.weight"),
        )
        misfit = "train.start=checkpoints/a.safetensors"
        says = (misfit, "no body.0.weight", "first.bias", "top.*")
        started.refused(4, stage, misfit, "train.only_parameters=true", "parameters.include=[top.*]", says=says)
    started.done("featurize", "train.start=gone.pt", "checkpoints=runs/tiny/checkpoints/*")  # featurize trains nothing


def outputs(store: Path) -> Float32:
    """Of the retrained models, (subsets, targets)."""
    layout = Layout(store)
    found = [read_image(layout.retrained(subset)).arrays["outputs_test"] for subset in layout.retrained_subsets()]
    return np.concatenate(found)


def test_a_ground_truth_begins_where_the_training_does(started: Project) -> None:
    """With a learning rate of zero the outputs tell what a model started from."""
    still = ["trainer.lr=0", "retrain.subsets=2", "retrain.models_per_subset=1"]
    started.done("retrain", *still, START, "train.only_parameters=true", "parameters.include=[head.bias]")
    fixed = outputs(started.store)
    assert fixed.shape == (2, TARGETS)
    assert np.ptp(fixed, axis=0).max() > 0  # each model has a fresh bias
    says = ("start", "parameters")
    started.refused(3, "retrain", *still, says=says)
    started.refused(3, "retrain", *still, START, says=says[1:])


def test_fine_tuned_ground_truths_share_their_start(project: Project) -> None:
    start = "train.start=checkpoints/a.safetensors"
    still = ["trainer.lr=0", "retrain.subsets=3"]
    project.done("retrain", *still, start)
    found = outputs(project.store)
    assert (found == found[:1]).all()
    project.done("retrain", *still, start)  # nothing is left to do
    project.refused(3, "retrain", *still, "train.start=checkpoints/b.pt", says=("start",))
    project.done("retrain", *still, "store=runs/scratch")
    scratch = outputs(project.folder / "runs" / "scratch")
    assert (scratch[0] != scratch[1]).any()
