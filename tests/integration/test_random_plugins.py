"""Plugins that draw weights, samples or batches from the global random states of PyTorch, NumPy or Python."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_project import read_store
from tiny_project import Project

import trak_cli as trak
from trak_cli.config.validate.plugins import instantiate_repeatable
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

PLUGINS = """
import random

import numpy as np

DRAWS = {
    "torch": lambda count: torch.randn(count),
    "numpy": lambda count: torch.from_numpy(np.random.randn(count)).float(),
    "random": lambda count: torch.tensor([random.gauss(0, 1) for _ in range(count)]),
}


class Drawn(Net):
    def __init__(self, source):
        super().__init__()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(DRAWS[source](parameter.numel()).view_as(parameter) / 2)


class DrawnOnCall(nn.Module):
    '''Makes its last layer, with weights of NumPy, when it sees the first batch.'''

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), DrawnLinear(3)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class DrawnLinear(nn.LazyLinear):
    def initialize_parameters(self, x):
        super().initialize_parameters(x)
        with torch.no_grad():
            self.weight.copy_(DRAWS["numpy"](self.weight.numel()).view_as(self.weight))


class DrawnData:
    def __init__(self, rows, source):
        self.inputs = DRAWS[source](8 * rows).view(rows, 8)

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, row):
        return self.inputs[row], row % 3

    def describe(self, row):
        return {"first": round(float(self.inputs[row, 0]), 4)}


def flipped(batch):
    x, y = batch
    return x * torch.from_numpy(np.random.choice([-1.0, 1.0], len(x))).float()[:, None] + random.random(), y


class ShuffledByNumPy:
    '''Draws its batches from NumPy's state, whatever the seed, and checks nothing.'''

    def train(self, model, task, dataset, indices, seed, collate, device, weights=None):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for position in np.random.permutation(len(indices))[:24].reshape(-1, 8):
            batch = collate([dataset[indices[i]] for i in position])
            chosen = torch.ones(8) if weights is None else weights[position]
            optimizer.zero_grad()
            task.weighted_loss(model, batch, chosen).backward()
            optimizer.step()


from trak_cli.tasks import Classification


class DrawingTask(Classification):
    '''Checks a random part of every batch.'''

    def validate(self, model, batch):
        np.random.rand(3), torch.rand(3), random.random()
        super().validate(model, batch)
"""

FEW = ("trainer.epochs=2", "trainer.batch_size=16", "train.count=1", "retrain.models_per_subset=1")
MODEL = ("model._target_=tiny_plugin.Drawn",)
SOURCES = ("torch", "numpy", "random")
DATA = ("~dataset.train.seed", "~dataset.targets.test.seed", "dataset.train._target_=tiny_plugin.DrawnData")
DATA += ("dataset.targets.test._target_=tiny_plugin.DrawnData",)
SHUFFLED = ("trainer=null", "+trainer._target_=tiny_plugin.ShuffledByNumPy", "task=null")
SHUFFLED += ("+task._target_=tiny_plugin.DrawingTask", "train.count=2", "retrain.models_per_subset=1")


@pytest.fixture
def drawing(project: Project) -> Project:
    """The project with plugins that draw at random."""
    plugin = project.folder / "tiny_plugin.py"
    plugin.write_text(plugin.read_text() + PLUGINS)
    return project


def as_another_process(number: int) -> None:
    """Put the global states where another process has them."""
    torch.manual_seed(number)
    np.random.seed(number)  # noqa: NPY002
    random.seed(number)


def done(project: Project, stage: str, *options: str, process: int = 0) -> str:
    as_another_process(100 + process)
    outcome = project.done(stage, *options)
    return outcome.stdout + outcome.stderr


def checkpoint(project: Project, store: str, seed: int = 0) -> bytes:
    return (project.folder / "runs" / store / "checkpoints" / f"full_{seed}.safetensors").read_bytes()


def of(source: str) -> tuple[str, ...]:
    return (*MODEL, f"+model.source={source}")


@pytest.mark.parametrize(
    "model", [of("torch"), of("numpy"), of("random"), ("model._target_=tiny_plugin.DrawnOnCall",)], ids=[*SOURCES, "lazy"]
)
def test_initial_weights_are_a_function_of_the_seed_wherever_they_are_drawn(drawing: Project, model: tuple[str, ...]) -> None:
    options = (*model, *FEW, "+trainer.augment={_target_: tiny_plugin.flipped, _partial_: true}")
    for process, store in enumerate(("tiny", "again")):
        done(drawing, "train", *options, f"store=runs/{store}", process=process)
    assert checkpoint(drawing, "tiny") == checkpoint(drawing, "again")
    done(drawing, "train", *options, "seed=1", process=2)
    assert checkpoint(drawing, "tiny", seed=1) != checkpoint(drawing, "tiny")
    said = done(drawing, "retrain", *options, "retrain.same_seed=true", "retrain.subsets=1", process=3)
    assert "warning" not in said
    done(
        drawing, "featurize", *options, "checkpoints=runs/tiny/checkpoints/full_0.safetensors", "ensemble.members=0", process=4
    )
    ((_, rows),) = [(key, rows) for key, rows in read_store(drawing.store).items() if key[1] == "test"]
    full = read_image(Layout(drawing.store).retrained_full(0)).arrays
    np.testing.assert_allclose(full["outputs_test"][0], rows.outputs, rtol=1e-4, atol=1e-5)
    said = done(drawing, "unroll", *options, "unroll.targets=[3]", "unroll.removals=0", process=5)
    assert "full_0.safetensors: the same weights" in said


@pytest.mark.parametrize("source", SOURCES)
def test_scores_of_unroll_are_the_same_in_every_process(drawing: Project, source: str) -> None:
    for process, name in enumerate(("one", "two")):
        options = (*of(source), *FEW, "unroll.targets=[5, 0]", "unroll.removals=1", f"unroll.name={name}")
        done(drawing, "unroll", *options, process=process)
    one, two = (read_scores(Layout(drawing.store).scores(name, "test")) for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("trainer", [FEW, SHUFFLED], ids=["sgd", "own trainer that draws batches"])
@pytest.mark.parametrize("same_seed", [False, True])
def test_workers_in_any_order_give_the_bytes_of_a_single_one(
    drawing: Project, trainer: tuple[str, ...], same_seed: bool
) -> None:
    options = (*of("numpy"), *trainer, f"retrain.same_seed={same_seed}", "retrain.subsets=3")
    done(drawing, "retrain", *options, "store=runs/alone")
    for process, index in enumerate((1, 0), 1):
        done(drawing, "retrain", *options, f"worker.index={index}", "worker.count=2", process=process)
    alone, shared = (retrained(drawing.folder / "runs" / store) for store in ("alone", "tiny"))
    assert len(alone) == 3 + same_seed
    assert shared == alone


def test_a_trainer_that_draws_its_batches_gives_the_same_checkpoint_however_many_are_trained(drawing: Project) -> None:
    """The first model of a process is checked, and the run that is trained again with weights is checked once more."""
    options = (*of("random"), *SHUFFLED)
    done(drawing, "train", *options)
    done(drawing, "train", *options, "seed=1", "train.count=1", "store=runs/second", process=1)
    assert checkpoint(drawing, "second", seed=1) == checkpoint(drawing, "tiny", seed=1)
    assert checkpoint(drawing, "tiny", seed=0) != checkpoint(drawing, "tiny", seed=1)
    said = done(drawing, "retrain", *options, "retrain.same_seed=true", "retrain.subsets=1", "retrain.run=1", process=2)
    assert "warning" not in said


@pytest.mark.parametrize("source", SOURCES)
def test_samples_that_a_data_set_draws_are_the_same_in_every_process(drawing: Project, source: str) -> None:
    data = (*DATA, f"+dataset.train.source={source}", f"+dataset.targets.test.source={source}")
    for process, store in enumerate(("tiny", "again")):
        done(drawing, "train", *data, *FEW, f"store=runs/{store}", process=process)
    assert checkpoint(drawing, "tiny") == checkpoint(drawing, "again")
    checkpoints = (*data, "checkpoints=runs/tiny/checkpoints/full_0.safetensors")
    done(drawing, "run", *checkpoints, process=2)
    done(drawing, "retrain", *data, *FEW, "retrain.subsets=1", process=3)
    shown = [json.loads(done(drawing, "top", *checkpoints, "--json", process=process)) for process in (4, 5)]
    assert shown[0] == shown[1]
    as_another_process(6)
    table = trak.open_store(drawing.store, datasets=True, config_dir=drawing.folder).top(0)
    target = shown[0]["targets"][0]
    assert [f"first {value}" for value in table["first"][:5]] == [one["description"] for one in target["helpful"]]


@pytest.mark.parametrize("target", ["numpy.random.normal", "random.gauss", "torch.normal"])
def test_what_a_plugin_draws_is_a_function_of_its_node_and_the_states_are_restored(target: str) -> None:
    def drawn(mean: float) -> float:
        names = {"numpy.random.normal": ("loc", "scale"), "random.gauss": ("mu", "sigma"), "torch.normal": ("mean", "std")}[
            target
        ]
        more = {"size": [1]} if target == "torch.normal" else {}
        return float(instantiate_repeatable({"_target_": target, names[0]: mean, names[1]: 1.0, **more}, "dataset.train"))

    as_another_process(1)
    first, after = drawn(0.0), [float(torch.rand(())), np.random.rand(), random.random()]  # noqa: NPY002
    as_another_process(1)
    assert after == [float(torch.rand(())), np.random.rand(), random.random()]  # noqa: NPY002
    assert drawn(0.0) == first
    assert drawn(1.0) != pytest.approx(first + 1)


LATE = """
def late():
    import torch
    return float(torch.rand(()))
"""


def test_a_plugin_that_is_the_first_to_import_pytorch_draws_what_it_draws_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_plugin.py").write_text(LATE)
    node = {"_target_": "late_plugin.late"}
    script = f"""
import sys
from trak_cli.config.validate.plugins import instantiate_repeatable
assert "torch" not in sys.modules
print(instantiate_repeatable({node}, "dataset.train"))
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert ended.stdout.split() == [str(instantiate_repeatable(node, "dataset.train"))], ended.stderr


def retrained(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store / "lds").rglob("*.h5")}


def test_stages_called_from_python_leave_the_random_states_of_the_caller(drawing: Project) -> None:
    def drawn() -> list[float]:
        return [float(torch.rand(())), np.random.rand(), random.random()]  # noqa: NPY002

    as_another_process(7)
    expected = [drawn(), drawn()]
    as_another_process(7)
    first = drawn()
    with drawing.monkeypatch.context() as context:
        context.chdir(drawing.folder)
        trak.train(*of("numpy"), *FEW, config_dir=drawing.folder, progress=False)
    assert [first, drawn()] == expected
