"""``trak unroll``: scores of one run, what they are compared with, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny_project import ROWS, TARGETS, Project

from trak_cli.config.load import load
from trak_cli.stages.training.trainer_run import Training
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import open_scores, read_scores
from trak_cli.types import Json

STORE, INPUT = 3, 4

#: Eight steps, on few targets, without the check of the scores.
SHORT = ("trainer.epochs=2", "trainer.batch_size=16", "trainer.lr=0.1")
FEW = (*SHORT, "unroll.targets=[5, 0, 9]", "unroll.removals=0")

TRAINERS = """
import torch

from trak_cli.tasks import Classification


class Plain:
    def train(self, model, task, dataset, indices, seed, collate, device):
        pass


class OnlyLoss(Classification):
    def loss(self, model, batch):
        return super().loss(model, batch) + 0.1


class NoLength:
    def __init__(self, rows, seed=0):
        self.rows = rows

    def __len__(self):
        return self.rows
"""


def scores_of(project: Project, name: str = "unroll") -> np.ndarray:
    return read_scores(Layout(project.store).scores(name, "test"))


def told(project: Project, *options: str) -> Any:
    return json.loads(project.done("unroll", "--json", *options).stdout)


def outputs_with(project: Project, options: tuple[str, ...], weights: torch.Tensor, seed: int = 0) -> np.ndarray:
    """f on the target split of the run with these weights of its samples."""
    project.monkeypatch.chdir(project.folder)
    training = Training(load("unroll", None, Path(), list(options)).config, torch.device("cpu"))
    model = training.model(range(training.rows), seed, weights=weights)
    return training.outputs(model, "test").astype(np.float64)


def finite_difference(project: Project, options: tuple[str, ...], row: int, seed: int = 0, step: float = 0.1) -> np.ndarray:
    """The derivative of f of every target with respect to the weight of a training sample."""
    project.monkeypatch.chdir(project.folder)
    rows = len(Training(load("unroll", None, Path(), list(options)).config, torch.device("cpu")).splits["train"])
    up, down = torch.ones(rows), torch.ones(rows)
    up[row] += step
    down[row] -= step
    return (outputs_with(project, options, up, seed) - outputs_with(project, options, down, seed)) / (2 * step)


def digits_project(project: Project) -> tuple[str, ...]:
    """A CNN with ReLU and pooling on a few digits."""
    _plugins(
        project,
        "{_target_: trak_cli.plugins.SmallCNN, width: 4}",
        "{_target_: trak_cli.plugins.Digits, train: 48, targets: 4, split: SPLIT}",
    )
    return ("trainer.batch_size=16", "trainer.epochs=2", "trainer.lr=0.05")


def table_project(project: Project) -> tuple[str, ...]:
    """An MLP on a table in a file, by Nesterov's momentum, with clipped gradients."""
    generator = np.random.default_rng(3)
    for split, rows in (("train", 40), ("test", 5)):
        x, y = generator.normal(size=(rows, 6)).astype("f4"), generator.integers(0, 3, rows)
        np.savez(project.folder / f"{split}.npz", x=x, y=y)
    model = "{_target_: trak_cli.plugins.MLP, inputs: 6, outputs: 3, hidden: [8]}"
    _plugins(project, model, "{_target_: trak_cli.plugins.SampleFile, path: SPLIT.npz}")
    return ("trainer.batch_size=8", "trainer.epochs=2", "trainer.nesterov=true", "trainer.clip_grad=0.5")


def _plugins(project: Project, model: str, data: str) -> None:
    """Replace the model and the data of the project."""
    document = yaml.safe_load((project.folder / "tiny.yaml").read_text())
    train, test = (yaml.safe_load(data.replace("SPLIT", split)) for split in ("train", "test"))
    document |= {"model": yaml.safe_load(model), "dataset": {"train": train, "targets": {"test": test}}}
    (project.folder / "tiny.yaml").write_text(yaml.safe_dump(document))


KINDS: dict[str, Callable[[Project], tuple[str, ...]]] = {
    "SGD": lambda _: SHORT,
    "AdamW": lambda _: (*SHORT, "trainer=adamw", "trainer.lr=0.01", "trainer.warmup_steps=2", "trainer.schedule=cosine"),
    "digits": digits_project,
    "table": table_project,
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_derivatives_with_respect_to_weights_of_samples(project: Project, kind: str) -> None:
    options = (*KINDS[kind](project), "unroll.targets=[3, 0, 2]", "unroll.removals=0")
    _compare(project, options)


def test_scores_of_a_language_model_are_derivatives(words: Project) -> None:
    _compare(
        words, ("trainer=adamw", "trainer.epochs=2", "trainer.batch_size=16", "unroll.targets=[3, 0, 2]", "unroll.removals=0")
    )


def _compare(project: Project, options: tuple[str, ...]) -> None:
    project.done("unroll", *options)
    scores = scores_of(project)
    for row in (0, 17, scores.shape[1] - 1):
        expected = finite_difference(project, options, row)[[3, 0, 2]]
        np.testing.assert_allclose(scores[:, row], expected, rtol=0.03, atol=0.01 * np.abs(scores).max())


def test_all_targets_blocks_and_runs(project: Project) -> None:
    """Without chosen targets every row is scored; blocks change nothing but rounding; another run has other scores."""
    project.done("unroll", *SHORT, "unroll.removals=0", "unroll.block=5")
    everything = scores_of(project)
    assert everything.shape == (TARGETS, ROWS)
    assert open_scores(Layout(project.store).scores("unroll", "test")).target_rows is None
    project.done("unroll", *FEW, "unroll.name=few", "unroll.block=1")
    np.testing.assert_allclose(scores_of(project, "few"), everything[[5, 0, 9]], rtol=1e-4, atol=1e-7)
    project.done("unroll", *FEW, "unroll.name=other", "unroll.run=1")
    other = scores_of(project, "other")
    assert np.abs(other - everything[[5, 0, 9]]).max() > 0.01 * np.abs(everything).max()
    np.testing.assert_allclose(other[1, 3], finite_difference(project, FEW, 3, seed=1)[0], rtol=0.02, atol=1e-4)


def test_a_group_has_the_mean_of_the_scores_of_its_targets(project: Project) -> None:
    project.done("unroll", *FEW)
    project.done("unroll", *FEW, "unroll.group=true", "unroll.name=group")
    np.testing.assert_allclose(scores_of(project, "group")[0], scores_of(project).mean(axis=0), rtol=1e-4, atol=1e-7)
    assert json.loads(project.done("top", "estimator.name=group", "--json").stdout)["group"] == [5, 0, 9]


def test_the_run_is_the_one_that_trak_train_stored(project: Project) -> None:
    project.done("train", *SHORT, "train.count=2")
    assert "full_0.safetensors: the same weights" in project.done("unroll", *FEW).stdout
    assert "full_1.safetensors: the same weights" in project.done("unroll", *FEW, "unroll.run=1", "unroll.name=one").stdout


def test_states_of_the_run_are_stored_until_the_scores_are_complete(project: Project) -> None:
    """Another worker goes on from them, and from what is left if some are damaged; the scores are the same bytes."""
    options = (*FEW, "unroll.block=1")
    told(project, *options, "unroll.name=alone")
    shared = (*options, "unroll.save_minutes=0", "worker.count=3")
    assert told(project, *shared, "worker.index=0")["effort"]["steps"] == 8
    states = sorted((project.store / "unrolled").rglob("state_*.h5"))
    assert states
    assert told(project, *shared, "worker.index=1")["effort"]["steps"] == 0
    for path in states[:-1]:
        path.unlink()
    states[-1].write_bytes(states[-1].read_bytes()[:-9])
    last = told(project, *shared, "worker.index=2")
    assert (last["complete"], last["effort"]["steps"]) == (True, 8)
    assert not list((project.store / "unrolled").rglob("state_*.h5"))
    np.testing.assert_array_equal(scores_of(project), scores_of(project, "alone"))


def test_metasmoothness_is_measured_on_request(project: Project) -> None:
    smooth = told(project, *SHORT, "unroll.targets=[1]", "unroll.removals=0", "unroll.directions=1")
    assert smooth["metasmoothness"] > 0.8
    assert (smooth["effort"]["directions"], smooth["warnings"]) == (1, [])
    rough = ("trainer.epochs=12", "trainer.batch_size=4", "trainer.lr=1.5", "trainer.momentum=0.9", "unroll.name=rough")
    found = told(project, *rough, "unroll.targets=[1]", "unroll.removals=0", "unroll.directions=1")
    assert found["metasmoothness"] < 0.5
    assert any("metasmoothness" in warning for warning in found["warnings"])


def test_weights_up_to_rounding_are_the_same_run_and_others_are_refused(project: Project) -> None:
    from safetensors.torch import load_file, save_file

    project.done("train", *SHORT, "train.count=2")
    path = project.store / "checkpoints" / "full_0.safetensors"
    weights = load_file(path)
    save_file({name: value * (1 + 1e-6) for name, value in weights.items()}, path)
    assert "the same up to rounding" in project.done("unroll", *FEW).stdout
    save_file({name: value * 1.001 for name, value in weights.items()}, path)
    out = project.done("unroll", *FEW, "unroll.name=drifted").stdout
    assert "warning: " in out
    assert "not the same weights" in out
    assert "not the same weights" in project.done("top", "estimator.name=drifted").stdout
    shutil.copy(path.with_name("full_1.safetensors"), path)
    says = ("full_0.safetensors", "weights that differ", "train.folder=FOLDER")
    project.refused(INPUT, "unroll", *FEW, "unroll.name=another", says=says)
    project.done("unroll", *FEW, "unroll.name=another", "train.folder=elsewhere")


def test_removals_tell_whether_scores_can_be_trusted(project: Project) -> None:
    summary = told(project, *SHORT, "unroll.targets=[1, 2]", "unroll.removals=4", "unroll.drop=0.05")
    assert summary["smoothness"]["rank_correlation"] > 0.9
    assert summary["smoothness"]["trusted"]
    assert summary["warnings"] == []
    again = told(project, *SHORT, "unroll.targets=[1, 2]", "unroll.removals=4", "unroll.drop=0.05")
    assert (again["effort"]["steps"], again["effort"]["removals"]) == (0, 0)
    assert again["smoothness"] == summary["smoothness"]


def test_scores_of_a_training_that_is_not_smooth_are_not_trusted(project: Project) -> None:
    rough = ("trainer.epochs=12", "trainer.batch_size=4", "trainer.lr=1.5", "trainer.momentum=0.9")
    summary = told(project, *rough, "unroll.targets=[1, 2]", "unroll.removals=4")
    assert not summary["smoothness"]["trusted"]
    assert summary["warnings"]
    assert "warning: " in project.done("top", "estimator.name=unroll").stdout


def test_workers_share_blocks_and_removals(project: Project) -> None:
    options = (*SHORT, "unroll.targets=[5, 0, 9]", "unroll.removals=2", "unroll.block=1")
    first = told(project, *options, "worker.index=0", "worker.count=2")
    assert (first["complete"], first["blocks"]["written"], first["blocks"]["left_to_others"]) == (False, 2, 1)
    second = told(project, *options, "worker.index=1", "worker.count=2")
    assert (second["complete"], second["blocks"]["written"], second["effort"]["removals"]) == (True, 1, 1)
    shared = scores_of(project)
    alone = told(project, *options, "unroll.name=alone")
    np.testing.assert_array_equal(scores_of(project, "alone"), shared)
    assert alone["smoothness"] == second["smoothness"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("trainer.lr=0.2", "trainer"),
        ("seed=4", "seed"),
        ("dataset.train.seed=9", "samples.train"),
        ("unroll.targets=[5, 0]", "chosen.rows"),
        ("unroll.block=2", "target_block"),
        ("unroll.group=true", "chosen.group"),
    ],
)
def test_scores_of_other_settings_are_refused_or_replaced(project: Project, change: str, key: str) -> None:
    project.done("unroll", *FEW, "unroll.block=1")
    block = () if change.startswith(("unroll.block", "unroll.group")) else ("unroll.block=1",)
    changed = (*[option for option in FEW if not change.startswith(option.split("=")[0])], change, *block)
    project.refused(STORE, "unroll", *changed, says=(f"fingerprint {key}", "unroll.name=NAME", "unroll.overwrite=true"))
    project.done("unroll", *changed, "unroll.overwrite=true")
    assert "test: complete" in project.done("status").stdout


def test_trainings_that_cannot_be_differentiated_are_refused(project: Project) -> None:
    (project.folder / "mine.py").write_text(TRAINERS)
    for change, says in {
        "trainer={_target_: mine.Plain}": ("Plain", "StepTrainer"),
        "task={_target_: mine.OnlyLoss}": ("losses",),
        "trainer.lr=1e30": ("diverged", "trainer.lr"),
        "trainer.lr=1e8": ("derivative", "not finite"),
        "dataset.train._target_=mine.NoLength": ("__getitem__",),
    }.items():
        options = [option for option in FEW if not (change.startswith("trainer=") and option.startswith("trainer."))]
        project.refused(INPUT, "unroll", *options, change, says=says)


def test_outputs_that_depend_on_their_batch_are_refused(project: Project) -> None:
    options = (*FEW, "unroll.group=true", "+model.batch_statistics=true")
    project.refused(INPUT, "unroll", *options, says=("rest of the batch",))


def test_the_configuration_is_checked_at_once(project: Project) -> None:
    options = ("unroll.targets=[1, 1]", "unroll.group=true", "unroll.block=2", "unroll.drop=1.5", "unroll.name=trak")
    says = ("(5 problems)", "unroll.targets", "unroll.block", "unroll.drop", "unroll.name", "unroll.split")
    project.refused(2, "unroll", *options, "unroll.split=nowhere", says=says)
    project.refused(2, "unroll", f"unroll.targets=[{TARGETS}]", says=(f"rows of test: 0 to {TARGETS - 1}",))
    project.refused(2, "unroll", "+dataset.targets.more=${dataset.targets.test}", says=("one of: test, more",))


def test_unrolled_scores_are_evaluated_like_others(scored: Project) -> None:
    scored.done("unroll", *SHORT, "unroll.removals=0")
    scored.done("retrain", *SHORT, "retrain.subsets=6")
    document: Json = json.loads(scored.done("eval-lds", "lds.estimators=[unroll]", "--json").stdout)
    assert [one["name"] for one in document["score_sets"]][1] == "unroll"


def test_a_replaced_split_loses_what_was_unrolled_for_it(featurized: Project) -> None:
    options = (*SHORT, "unroll.targets=[1]", "unroll.removals=1")
    featurized.done("unroll", *options)
    other = "dataset.targets.test.seed=9"
    featurized.refused(STORE, "unroll", *options, other, says=("fingerprint samples.test",))
    featurized.done("featurize", "dataset.replace=[test]", other)
    assert not [path for path in (featurized.store / "unrolled").rglob("*") if path.is_file()]
    assert told(featurized, *options, other)["complete"]


def test_memory_stays_within_its_budget(project: Project) -> None:
    """Results do not depend on the budget; one that is too small for a step is refused with a sufficient one."""
    plugin = (
        "import torch\nfrom torch import nn\n\n\nclass Wide(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    )
    plugin += "        self.a, self.b = nn.Linear(8, 4000), nn.Linear(4000, 3)\n\n"
    plugin += "    def forward(self, x):\n        return self.b(torch.tanh(self.a(x)))\n"
    (project.folder / "wide_plugin.py").write_text(plugin)
    options = ("model._target_=wide_plugin.Wide", "trainer.epochs=4", "trainer.batch_size=8", *FEW[3:])
    project.done("unroll", *options, "unroll.memory_mb=1000", "unroll.block=3")
    said = project.refused(2, "unroll", *options, "unroll.memory_mb=1", "unroll.name=small", says=("unroll.memory_mb",))
    enough = said.partition("set unroll.memory_mb=")[2].split()[0]
    project.done("unroll", *options, f"unroll.memory_mb={int(enough) + 1}", "unroll.name=small")
    np.testing.assert_allclose(scores_of(project, "small"), scores_of(project), rtol=1e-5, atol=1e-8)
