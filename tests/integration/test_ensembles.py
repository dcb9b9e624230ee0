"""Derived members and snapshots by the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_project import read_store, stamps
from tiny_project import ROWS, TARGETS, Project, weights

from trak_cli.plugins.checkpoints.derived import derive
from trak_cli.plugins.checkpoints.member import Member
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

TWO = ["ensemble.members=2", "ensemble.kind=noise", "ensemble.scale=0.05"]


def test_members_are_checkpoints_of_their_own(featurized: Project) -> None:
    before = stamps(featurized.store)
    told = json.loads(featurized.done("featurize", "--json", *TWO).stdout)
    names = Layout(featurized.store).checkpoints()
    assert sorted(told["checkpoints"]) == names
    assert len(names) == 2 * (1 + 2)
    assert sum("+noise0.05.0.2" in name for name in names) == 2
    assert {path: stamp for path, stamp in stamps(featurized.store).items() if path in before} == before
    assert len(list(featurized.folder.rglob("*.safetensors"))) == 1  # members are never written
    featurized.done("featurize", *TWO, "ensemble.scale=0.1")  # another member, another name
    assert len(Layout(featurized.store).checkpoints()) == 2 * (1 + 2 + 2)
    featurized.done("finalize", *TWO)
    featurized.done("score", *TWO, "estimator.average_over=[*+noise0.05*]")
    assert read_scores(Layout(featurized.store).scores("early_training", "test")).shape == (TARGETS, ROWS)


def test_scores_of_fewer_checkpoints_are_shown_with_a_note(featurized: Project) -> None:
    featurized.done("finalize")
    featurized.done("score")
    assert "these scores average" not in featurized.done("top", "--target", "0").stderr
    featurized.done("featurize", *TWO)
    told = featurized.done("top", "--target", "0").stderr
    assert "these scores average 2 checkpoints" in told
    assert "6 in the store" in told
    featurized.refused(3, "score", *TWO, says=("a list of", "score.overwrite=true"))


@pytest.mark.parametrize(("kind", "scale"), [("noise", 0.05), ("fresh", 0.25)])
def test_a_member_has_the_features_of_the_weights_it_stands_for(project: Project, kind: str, scale: float) -> None:
    """The same weights, written as a checkpoint file: up to the random matrix, which is the checkpoint's own."""
    project.done("featurize", "ensemble.members=1", f"ensemble.kind={kind}", f"ensemble.scale={scale}", "projection.kind=none")
    member = Member(kind, scale, 0, 1)
    layout = Layout(project.store)
    (name,) = [one for one in layout.checkpoints() if one.startswith("a-") and one.endswith(".1")]
    digest = json.loads(layout.fingerprint(name).read_text())["checkpoint"]

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(8, 6), torch.nn.Linear(6, 3)

    model = Net()
    model.load_state_dict(weights(0))
    derive(model, member, digest, Net)
    save_file(model.state_dict(), project.folder / "written.safetensors")
    project.done("featurize", "projection.kind=none", "checkpoints=written.safetensors", "store=runs/other")
    written = read_store(project.folder / "runs" / "other")
    ((_, expected),) = [item for item in written.items() if item[0][1] == "train"]
    np.testing.assert_allclose(read_store(project.store)[name, "train"].features, expected.features, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("engine", ["hooks", "vmap", "loop"])
def test_a_blended_member_has_the_outputs_of_its_checkpoint(project: Project, engine: str) -> None:
    """Under its own weights, which are half random, f and q would say nothing about the model."""
    project.done("featurize", "ensemble.members=1", "ensemble.kind=fresh", f"gradients.engine={engine}")
    shards = read_store(project.store)
    members = [(name, split) for name, split in shards if "+fresh0.25.0.1" in name]
    assert len(members) == 4
    for name, split in members:
        member, checkpoint = shards[name, split], shards[name.partition("+")[0], split]
        assert not np.allclose(member.features, checkpoint.features, rtol=0.1)
        for column in ("outputs", "out_to_loss", "residuals", "predicted", "predicted_probability"):
            values = getattr(checkpoint, column)
            assert (values is None) == (column == "residuals" and split == "test")
            if values is not None:
                np.testing.assert_allclose(getattr(member, column), values, rtol=1e-5, atol=1e-6)


def test_blends_need_weights_that_training_starts_from(project: Project) -> None:
    fresh = ("featurize", "ensemble.members=1", "ensemble.kind=fresh")
    project.refused(2, *fresh, "train.start=a.pt", says=("ensemble.kind", "train.start", "ensemble.kind=mask"))
    project.refused(2, *fresh, "device_map=auto", says=("ensemble.kind", "device_map", "ensemble.kind=mask"))


def test_blends_need_a_plugin_that_gives_random_weights(project: Project) -> None:
    plugin = project.folder / "tiny_plugin.py"
    plugin.write_text(plugin.read_text() + "\n\ndef trained():\n    torch.manual_seed(0)\n    return Net()\n")
    fresh = ("featurize", "ensemble.members=1", "ensemble.kind=fresh", "model._target_=tiny_plugin.trained")
    project.refused(4, *fresh, says=("ensemble.kind", "the same weights each time", "ensemble.kind=mask"))


def test_refine_takes_no_blended_members(featurized: Project) -> None:
    """Its curvature would be that of the outputs of half random weights."""
    fresh = ("ensemble.members=1", "ensemble.kind=fresh")
    featurized.done("featurize", *fresh)
    alone = ("refine", "estimator=dot", *fresh, "estimator.average_over=[*+fresh*]")
    featurized.refused(2, *alone, says=("+fresh0.25.0.1", "estimator.average_over=[*-????????]"))
    told = featurized.done("refine", "estimator=dot", *fresh, "refine.targets=[0]", "--json")
    assert "left out: 2 members blended with fresh weights" in told.stderr
    names = [one["checkpoint"] for one in json.loads(told.stdout)["reports"]]
    assert [(name.partition("-")[0], "+" in name) for name in names] == [("a", False), ("b", False)]


def test_bad_scales_are_refused(project: Project) -> None:
    noise = ("ensemble.members=1", "ensemble.kind=noise")
    project.refused(2, "featurize", *noise, "ensemble.scale=0", says=("ensemble.scale", "above 0"))
    project.refused(2, "featurize", "ensemble.kind=mask", "ensemble.scale=1", says=("ensemble.scale", "share"))


def test_snapshots_lie_beside_the_checkpoint(project: Project) -> None:
    asked = ["train.count=1", "trainer.epochs=5", "train.snapshots=2"]
    project.done("train", *asked)
    folder = project.store / "checkpoints"
    assert sorted(path.stem for path in folder.iterdir()) == ["full_0", "full_0_epoch_2", "full_0_epoch_4"]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(set(before.values())) == 3
    (folder / "full_0.safetensors").unlink()
    project.done("train", *asked[:2])  # snapshots change nothing in the training
    assert (folder / "full_0.safetensors").read_bytes() == before[folder / "full_0.safetensors"]


def test_a_trainer_that_takes_no_snapshots_says_so(project: Project) -> None:
    plugin = project.folder / "tiny_plugin.py"
    plugin.write_text(
        plugin.read_text()
        + "\n\nclass Plain:\n    def train(self, model, task, dataset, indices, seed, collate, device):\n        pass\n"
    )
    plain = ["trainer._target_=tiny_plugin.Plain", "train.count=1"]
    project.refused(4, "train", *plain, "train.snapshots=1", says=("train.snapshots", "after_epoch"))
    project.done("train", *plain)


@pytest.fixture
def normed(project: Project) -> Project:
    """A project whose model has batch normalisation, with one trained checkpoint."""
    project.done("train", "model._target_=tiny_plugin.Normed", "train.count=1", "trainer.epochs=3")
    return project


GROWN = f"dataset.train.rows={ROWS + 20}"


@pytest.mark.parametrize(("kind", "grown"), [("fresh", ()), ("mask", ()), ("mask", (GROWN,))])
def test_a_member_has_batch_statistics_of_its_own(normed: Project, kind: str, grown: tuple[str, ...]) -> None:
    """Its features are those of a checkpoint with the same weights and the statistics of the whole training set under them.

    Samples that are appended later change no statistics.
    """
    own = ("model._target_=tiny_plugin.Normed", "projection.kind=none")
    file = "checkpoints=runs/tiny/checkpoints/full_0.safetensors"
    for more in dict.fromkeys([(), grown]):
        normed.done("featurize", *own, file, "ensemble.members=1", f"ensemble.kind={kind}", *more)
    layout = Layout(normed.store)
    (name,) = [one for one in layout.checkpoints() if "+" in one]
    digest = json.loads(layout.fingerprint(name).read_text())["checkpoint"]

    def build() -> torch.nn.Sequential:
        return torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 3))

    model = build()
    model.load_state_dict(load_file(normed.folder / "runs/tiny/checkpoints/full_0.safetensors"))
    derive(model, Member(kind, 0.25 if kind == "fresh" else 0.1, 0, 1), digest, build)
    samples = torch.stack([training_inputs(row) for row in range(ROWS)])
    normal = model[1]
    assert isinstance(normal, torch.nn.BatchNorm1d)
    given = model[0](samples).detach()
    normal.running_mean, normal.running_var = given.mean(0), given.var(0)
    save_file(model.state_dict(), normed.folder / "written.safetensors")
    normed.done("featurize", *own, "checkpoints=written.safetensors", "store=runs/other", *grown)
    ((_, expected),) = [item for item in read_store(normed.folder / "runs" / "other").items() if item[0][1] == "train"]
    found = read_store(normed.store)[name, "train"].features
    assert len(found) == ROWS + 20 * len(grown)
    np.testing.assert_allclose(found, expected.features, rtol=1e-4, atol=1e-5)


def test_a_collate_function_for_single_samples_needs_members_without_batch_statistics(project: Project) -> None:
    with (project.folder / "tiny_plugin.py").open("a") as file:
        file.write(
            "\n\nclass Lone:\n    def __call__(self, samples):\n        (sample,) = samples\n"
            "        return [torch.as_tensor(part).unsqueeze(0) for part in sample]\n"
        )
    project.done("train", "model._target_=tiny_plugin.Normed", "train.count=1", "trainer.epochs=1")
    asked = ["model._target_=tiny_plugin.Normed", "dataset.collate={_target_: tiny_plugin.Lone}"]
    asked += ["checkpoints=runs/tiny/checkpoints/full_0.safetensors", "gradients.engine=loop", "gradients.microbatch=1"]
    project.refused(4, "featurize", *asked, "ensemble.members=1", says=("collating several samples", "ensemble.members=0"))
    project.done("featurize", *asked, "ensemble.members=0")


def training_inputs(row: int) -> torch.Tensor:
    """The inputs of a sample of the training set of the project."""
    return torch.randn(8, generator=torch.Generator().manual_seed(1000 + row))
