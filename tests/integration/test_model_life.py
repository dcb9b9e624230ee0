"""Every model is right, or refused with the reason: building, loading, evaluation mode, and what passes from call to call."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_project import read_store
from tiny_project import Project
from torch import Tensor, nn

from trak_cli.tasks import Classification

INPUT = 4

engines = pytest.mark.parametrize("engine", ["hooks", "vmap", "loop"])


@pytest.fixture
def odd(project: Project) -> Project:
    """The tiny project with the plugin of odd models beside it, and without checkpoints."""
    shutil.copy(Path(odd_models.__file__), project.folder / "odd_plugin.py")
    for file in (project.folder / "checkpoints").iterdir():
        file.unlink()
    return project


def is_made_by_a_call(model: nn.Module) -> bool:
    return hasattr(model, "created_by_call") or any(map(nn.parameter.is_lazy, model.parameters()))


def moved(build: Callable[[], nn.Module], seed: int) -> dict[str, Tensor]:
    """The state of a model that training has moved, stored in training mode."""
    torch.manual_seed(seed)
    model = build()
    if is_made_by_a_call(model):
        model(torch.randn(5, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 3)
        for name, buffer in model.named_buffers():
            if name == "power":
                buffer.fill_(2.0)
    return {name: value.clone() for name, value in model.state_dict().items()}


def store_checkpoints(odd: Project, name: str, count: int = 2) -> list[dict[str, Tensor]]:
    states = [moved(getattr(odd_models, name), seed) for seed in range(count)]
    for number, state in enumerate(states):
        save_file(state, odd.folder / "checkpoints" / f"{number}.safetensors")
    return states


def command(name: str, *arguments: str) -> list[str]:
    return [f"model={{_target_: odd_plugin.{name}}}", "gradients.microbatch=4", *arguments]


def oracle(name: str, state: dict[str, Tensor], data: Any) -> tuple[np.ndarray, np.ndarray]:
    """f and gradients by the plainest code: a new model for each sample, load_state_dict, eval(), one backward pass."""
    outputs, gradients = [], []
    name = "Net" if name.startswith("Reentrant") else name  # the same function, whose gradients PyTorch gives
    for x, y in (data[row] for row in range(len(data))):
        model = getattr(odd_models, name)()
        if is_made_by_a_call(model):
            with torch.no_grad():
                model(torch.randn(5, 8))
        model.load_state_dict(state)
        model.eval()
        f = Classification().output(model, (x[None], torch.tensor([y])))
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(f.sum(), parameters, allow_unused=True)
        flat = [
            torch.zeros_like(one) if gradient is None else gradient for one, gradient in zip(parameters, found, strict=True)
        ]
        outputs.append(float(f.detach()))
        gradients.append(torch.cat([one.flatten() for one in flat]).numpy())
    return np.array(outputs), np.stack(gradients)


RIGHT = [
    "merging",
    "adding",
    "DecidesOnLoad",
    "normalised",
    "spectral",
    "old_norms",
    "Square",
    "LazyNet",
    "LazyConvNet",
    "CreatedInForward",
    "GrowingCache",
    "Counting",
    "Queue",
    "NotReentrant",
    "Reentrant",
    "ReentrantFirst",
    "DetachedProduct",
]


@engines
@pytest.mark.parametrize("name", RIGHT)
def test_features_are_those_of_plain_pytorch_under_every_checkpoint(odd: Project, name: str, engine: str) -> None:
    states = store_checkpoints(odd, name)
    told = command(name, f"gradients.engine={engine}", "projection.kind=none", "dataset.train.rows=8")
    if (name, engine) == ("NotReentrant", "vmap"):
        odd.refused(INPUT, "featurize", *told, says=("vmap refuses", "gradients=loop"))
        return
    odd.done("featurize", *told)
    import tiny_plugin  # the project's folder is on the path now

    data = tiny_plugin.Data(12, seed=2)
    stored = read_store(odd.store)
    for number, state in enumerate(states):
        (found,) = [rows for (checkpoint, split), rows in stored.items() if (checkpoint[0], split) == (str(number), "test")]
        outputs, gradients = oracle(name, state, data)
        np.testing.assert_allclose(found.outputs, outputs, atol=2e-4 * max(1, np.abs(outputs).max()))
        exact = gradients / gradients.shape[1] ** 0.5
        np.testing.assert_allclose(found.features, exact, atol=1e-3 * np.abs(exact).max())


@engines
@pytest.mark.parametrize(("name", "unused"), [("merging", "first.A, first.B"), ("FusedOnEval", "scale, second.weight")])
def test_parameters_that_are_not_used_in_evaluation_mode_are_named(odd: Project, name: str, unused: str, engine: str) -> None:
    store_checkpoints(odd, name)
    logged = odd.done("featurize", *command(name, f"gradients.engine={engine}")).stderr
    assert f"the output does not depend on {unused} in evaluation mode" in logged


REFUSED = {
    "OnlyLoRA": ("depends on first.A, first.B in training mode, but on no selected parameter after eval()", "merge_weights"),
    "AveragedInside": ("first.bias, first.weight, second.bias and 1 more in training mode",),
    "CachedProduct": ("the model keeps a value between calls", "cached"),
    "SharedCache": ("the model keeps a value between calls",),
    "LastBatch": ("the model keeps a value between calls", "last"),
    "Annealed": ("the model keeps a value between calls", "steps"),
    "HiddenState": ("the model keeps a value between calls", "state"),
    "DetachedState": ("the model keeps a value between calls", "state"),
    "Keys": ("the model keeps a value between calls", "keys"),
    "OwnGenerator": ("the model keeps a value between calls", "generator"),
    "RunningMean": ("a forward pass that changes the buffer mean in evaluation mode", "only if self.training"),
    "Observer": ("a forward pass that changes the buffer largest",),
    "MergedAtFirst": ("a forward pass that changes the parameter first.weight",),
    "Clipping": ("a forward pass that changes the parameter first.weight",),
    "RandomFeatures": ("directions, which differs each time the model is built", "a persistent buffer"),
    "RandomAttribute": ("order, which differs each time the model is built",),
    "FrozenOnBuild": ("scale, which differs each time the model is built",),
    "Squeezed": ("squeeze(-1)",),
    "SqueezedInside": ("squeeze(-1)",),
    "StaysInTraining": ("training mode after model.eval()", "call super().train(mode)"),
    "OnAnotherDevice": ("odd_plugin.py:", "in forward"),
    "Exits": ("the end of the program, SystemExit: 0", "odd_plugin.py:"),
    "Asserts": ("AssertionError: no message, at `assert x.shape[1] == 9`", "odd_plugin.py:"),
    "Recurses": ("RecursionError", "odd_plugin.py:"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_of_sample_and_weights_is_refused_with_the_reason(odd: Project, name: str) -> None:
    store_checkpoints(odd, name, 1)
    for engine in ("hooks", "vmap", "loop"):
        sys.modules.pop("odd_plugin", None)  # each call of the program is a process of its own
        odd.refused(INPUT, "featurize", *command(name, f"gradients.engine={engine}"), says=REFUSED[name])
    sys.modules.pop("odd_plugin", None)
    shown = odd.trak("doctor", *command(name))
    assert shown.code == INPUT
    for text in REFUSED[name]:
        assert text in shown.stdout + shown.stderr


@pytest.mark.parametrize("name", ["LazyNet", "LazyConvNet", "CreatedInForward", "merging"])
def test_what_train_writes_featurize_reads(odd: Project, name: str) -> None:
    told = [*command(name), "train.count=2", "trainer.epochs=1", "train.folder=checkpoints"]
    odd.done("train", *told)
    odd.done("retrain", *told, "retrain.subsets=2", "retrain.models_per_subset=1")
    for engine in ("hooks", "vmap", "loop"):
        odd.done("featurize", *command(name, f"gradients.engine={engine}", f"name={engine}"))


def test_training_stores_weights_that_eval_has_not_merged(odd: Project) -> None:
    """The model that retrain evaluates and the one that featurize loads have the same outputs."""
    told = [*command("merging"), "train.count=1", "trainer.epochs=3", "train.folder=checkpoints"]
    odd.done("train", *told)
    odd.done("featurize", *command("merging"), "ensemble.members=0")
    (file,) = (odd.folder / "checkpoints").iterdir()
    state = load_file(file)
    import tiny_plugin

    outputs, _ = oracle("merging", state, tiny_plugin.Data(12, seed=2))
    (found,) = [rows for (_, split), rows in read_store(odd.store).items() if split == "test"]
    np.testing.assert_allclose(found.outputs, outputs, atol=1e-4)
    model = odd_models.merging()
    model.load_state_dict(state)
    product = model.first.B @ model.first.A
    assert float(product.detach().norm()) > 1e-3


KEEPERS = {
    "a class attribute": """
class Net(Base):
    kept = {}

    def scale(self):
        return self.kept.setdefault("norm", self.first.weight.detach().norm())
""",
    "a global variable": """
KEPT = []

class Net(Base):
    def scale(self):
        KEPT.append(self.first.weight.detach().norm())
        return KEPT[0]
""",
    "a cached function": """
import functools

MODELS = []

@functools.cache
def norm():
    return MODELS[-1].first.weight.detach().norm()

class Net(Base):
    def scale(self):
        MODELS.append(self)
        return norm()
""",
}
BASE = """
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x) / self.scale()))
"""


@pytest.mark.parametrize("keeper", KEEPERS)
def test_a_value_that_the_users_module_keeps_from_checkpoint_to_checkpoint_is_refused(project: Project, keeper: str) -> None:
    (project.folder / "keeping_plugin.py").write_text(BASE + KEEPERS[keeper])
    project.refused(
        4, "featurize", "model._target_=keeping_plugin.Net", says=("after another checkpoint", "a class or a module", "b-")
    )
    project.done("featurize", "model._target_=keeping_plugin.Net", "checkpoints=checkpoints/a.*", "store=runs/alone")


def test_a_module_that_cannot_be_imported_twice_is_accepted(project: Project) -> None:
    once = """
import sys

if hasattr(sys, "_imported_once"):
    raise RuntimeError("imported twice")
sys._imported_once = True

class Net(Base):
    def scale(self):
        return 1
"""
    (project.folder / "single_plugin.py").write_text(BASE + once)
    project.done("featurize", "model._target_=single_plugin.Net")
    del sys._imported_once  # type: ignore[attr-defined]


def test_a_model_that_recognises_a_class_of_its_own_module_is_accepted(project: Project) -> None:
    """A class of the module imported again is another class, so the comparison between checkpoints says nothing."""
    own_class = """
from trak_cli.plugins.samples import collate

class Batch(tuple):
    pass

def together(samples):
    return Batch(collate(samples))

class Net(Base):
    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))

from trak_cli.tasks import Classification

class Own(Classification):
    def output(self, model, batch):
        assert isinstance(model, Net)
        return super().output(model, batch)
"""
    (project.folder / "class_plugin.py").write_text(BASE + own_class)
    names = ("model._target_=class_plugin.Net", "task={_target_: class_plugin.Own}")
    project.done("featurize", *names)
    assert "not checked" in project.done("doctor", *names).stdout


def test_the_users_modules_are_the_same_after_the_checks(project: Project) -> None:
    project.done("featurize")
    before = sys.modules["tiny_plugin"]
    project.done("doctor")
    assert sys.modules["tiny_plugin"] is before
