"""A single checkpoint that trak train made from random weights is averaged with blends; other checkpoints are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from small_project import read_store
from test_ask import asked
from test_submit import work
from tiny_project import Project

from trak_cli.plugins.checkpoints.notes import can_be_blended
from trak_cli.store.layout import Layout

OWN = "checkpoints=runs/tiny/checkpoints/*"
SAID = "4 blends with new random weights"
HINT = "only one checkpoint: ensemble.members=4 usually improves scores"


@pytest.fixture
def trained(project: Project) -> Project:
    """The project with one trained checkpoint."""
    project.done("train", "train.count=1", "trainer.epochs=2")
    return project


def members(project: Project, *arguments: str) -> list[str]:
    """What the names of the checkpoints of a run end in, after the name of their file."""
    told = json.loads(project.done("featurize", OWN, *arguments, "--json").stdout)
    return [name.partition("+")[2] for name in told["checkpoints"]]


BLENDS = ["", *(f"fresh0.25.0.{index}" for index in (1, 2, 3, 4))]


def test_a_single_trained_checkpoint_has_four_blends(trained: Project) -> None:
    told = trained.done("featurize", OWN)
    assert SAID in told.stderr
    assert "ensemble.members=0" in told.stderr
    automatic = read_store(trained.store)
    assert len(automatic) == 5 * 2
    trained.done("featurize", OWN, "ensemble.members=4", "ensemble.kind=fresh", "store=runs/asked")
    asked = read_store(trained.folder / "runs" / "asked")
    assert automatic.keys() == asked.keys()
    for key, shard in automatic.items():
        assert shard.features.tobytes() == asked[key].features.tobytes()
    assert work(trained, OWN, "featurize") == []
    trained.done("finalize", OWN)
    assert len(json.loads(trained.done("score", OWN, "--json").stdout)["checkpoints"]) == 5


def test_members_can_be_left_out_and_chosen(trained: Project) -> None:
    told = trained.done("featurize", OWN, "ensemble.members=0")
    assert HINT not in told.stderr
    assert SAID not in told.stderr
    assert len(Layout(trained.store).checkpoints()) == 1
    assert members(trained, "ensemble.members=2") == BLENDS[:3]
    assert members(trained, "ensemble.scale=0.5")[1] == "fresh0.5.0.1"
    assert members(trained, "ensemble.kind=mask") == [""]
    assert members(trained, "ensemble.kind=mask", "ensemble.members=1") == ["", "mask0.1.0.1"]


def test_several_checkpoints_and_files_of_others_have_no_members(trained: Project) -> None:
    told = trained.done("featurize", "checkpoints=checkpoints/a.safetensors", "store=runs/other").stderr
    assert HINT in told
    assert "ensemble.kind=fresh" in told
    assert len(Layout(trained.folder / "runs" / "other").checkpoints()) == 1
    both = f"checkpoints=[checkpoints/a.safetensors,{OWN.partition('=')[2]}]"
    told = trained.done("featurize", both, "store=runs/both").stderr
    assert HINT not in told
    assert SAID not in told
    assert len(Layout(trained.folder / "runs" / "both").checkpoints()) == 2
    foreign = ("checkpoints=checkpoints/a.safetensors", "store=runs/asked")
    trained.done("featurize", *foreign, "ensemble.kind=fresh")  # the user knows what the file does not say
    assert sum("+fresh" in name for name in Layout(trained.folder / "runs" / "asked").checkpoints()) == 4
    trained.done("featurize", *foreign, "ensemble.members=1")
    assert sum("+mask" in name for name in Layout(trained.folder / "runs" / "asked").checkpoints()) == 1


def test_representations_and_models_in_parts_have_no_blends(trained: Project) -> None:
    representation = ("gradients.engine=representation", "gradients.module=first", "projection.kind=none")
    assert members(trained, *representation, "store=runs/represented") == [""]
    assert members(trained, "device_map={second: cpu}", "store=runs/placed") == [""]


def test_members_of_a_run_that_had_fewer_checkpoints_are_named(trained: Project) -> None:
    trained.done("featurize", OWN)
    trained.done("train", "train.count=2", "trainer.epochs=2")
    told = trained.done("featurize", OWN).stderr
    assert "warning: the store also holds full_0-" in told
    assert "estimator.average_over=[*-????????]" in told
    assert len(Layout(trained.store).checkpoints()) == 2 + 4
    without = ("estimator.average_over=[*-????????]",)
    trained.done("finalize", OWN, *without)
    told = json.loads(trained.done("score", OWN, *without, "--json").stdout)
    assert len(told["checkpoints"]) == 2


def test_a_run_without_members_refuses_those_that_an_earlier_run_began(trained: Project) -> None:
    """It must not wait for features that nobody computes."""
    trained.done("featurize", OWN)
    for shard in trained.store.rglob("*.h5"):
        if "+fresh" in str(shard):
            shard.unlink()
    leftover = ("ensemble.members=0", OWN)
    says = ("+fresh0.25.0.1", "estimator.average_over=[*-????????]")
    trained.refused(3, "run", *leftover, says=says)
    told = json.loads(trained.done("run", *leftover, "estimator.average_over=[*-????????]", "--json").stdout)
    assert len(told["score"]["checkpoints"]) == 1


def test_new_targets_have_the_members_of_the_store_whatever_the_configuration_says(trained: Project) -> None:
    for stage in ("featurize", "finalize", "score"):
        trained.done(stage, OWN)
    before = asked(trained, OWN)
    np.testing.assert_array_equal(asked(trained, OWN, "ensemble.members=0"), before)
    trained.done("train", "train.count=2", "trainer.epochs=2")
    np.testing.assert_array_equal(asked(trained, OWN), before)


def test_the_kind_of_members_that_are_not_made_may_be_any(project: Project) -> None:
    fresh = ("ensemble.kind=fresh", "device_map={second: cpu}")
    told = json.loads(project.done("featurize", *fresh, "--json").stdout)
    assert len(told["checkpoints"]) == 2
    project.refused(2, "featurize", *fresh, "ensemble.members=1", says=("ensemble.kind", "device_map"))
    part = ("ensemble.kind=fresh", "train.only_parameters=true", "parameters.include=[second.*]")
    project.done("train", *part, "train.count=1", "trainer.epochs=1")


def test_a_checkpoint_without_the_note_is_the_same_run(trained: Project) -> None:
    (file,) = (trained.store / "checkpoints").iterdir()
    save_file(load_file(file), file)
    assert not can_be_blended(file)
    told = trained.done("retrain", "retrain.same_seed=true", "retrain.subsets=1", "trainer.epochs=2")
    assert "warning" not in told.stderr


def test_pages_and_doctor_count_members_apart(trained: Project) -> None:
    assert "1, and 4 members derived from it, that fit" in " ".join(trained.done("doctor", OWN).stdout.split())
    for stage in ("featurize", "finalize", "score"):
        trained.done(stage, OWN)
    trained.done("report", OWN, "--out", "page.html")
    page = (trained.folder / "page.html").read_text()
    assert "one checkpoint and 4 members derived from it" in page


def test_refine_works_on_the_checkpoint_alone(trained: Project) -> None:
    for stage in ("featurize", "finalize"):
        trained.done(stage, OWN)
    told = trained.done("refine", OWN, "refine.targets=[0]", "--json")
    assert [one["checkpoint"].partition("-")[0] for one in json.loads(told.stdout)["reports"]] == ["full_0"]
    assert "+" not in json.loads(told.stdout)["reports"][0]["checkpoint"]
    assert "left out: 4 members blended with fresh weights" in told.stderr


OTHERS = """

def trained():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


class Plain:
    def train(self, model, task, dataset, indices, seed, collate, device):
        pass
"""


@pytest.mark.parametrize(
    "training",
    [
        ["train.start=checkpoints/a.safetensors"],
        ["train.only_parameters=true", "parameters.include=[second.*]"],
        ["model._target_=tiny_plugin.trained"],
        ["~trainer", "+trainer={_target_: tiny_plugin.Plain}"],
    ],
)
def test_only_trainings_that_certainly_start_from_random_weights_are_noted(project: Project, training: list[str]) -> None:
    with (project.folder / "tiny_plugin.py").open("a") as file:
        file.write(OTHERS)
    epochs = [] if "~trainer" in training else ["trainer.epochs=1"]
    project.done("train", "train.count=1", *training, *epochs)
    (file,) = (project.store / "checkpoints").iterdir()
    assert not can_be_blended(file)
    chosen = [one for one in training if one.startswith("model")]
    assert members(project, *chosen) == [""]


def test_snapshots_are_noted_too(project: Project) -> None:
    project.done("train", "train.count=1", "trainer.epochs=2", "train.snapshots=1")
    assert all(map(can_be_blended, (project.store / "checkpoints").iterdir()))
    assert members(project) == ["", ""]
    assert members(project, "ensemble.members=1") == ["", BLENDS[1]] * 2
