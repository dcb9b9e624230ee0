"""The documented extensions run from the shell, and give what the loop, NumPy or a plain state_dict gives."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from fresh_process import fresh_trak
from safetensors.torch import save_file
from small_project import Everything, assert_close, assert_identical, read_store
from tiny_project import ROWS, Project, weights

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "extensions"

ONE_CHECKPOINT = "checkpoints=checkpoints/a.safetensors"
WHOLE_GRADIENT = "projection.kind=none"


@pytest.fixture
def extended(project: Project) -> Project:
    """The tiny project with all examples in its folder."""
    for example in EXAMPLES.glob("*.py"):
        shutil.copy(example, project.folder)
    return project


def trak(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``trak featurize`` in a process of its own, where nothing is registered yet."""
    return fresh_trak(project.folder, "featurize", "-d", ".", *arguments)


def featurized(project: Project, name: str, *arguments: str) -> tuple[Everything, str]:
    """The features of a run, and its log."""
    outcome = trak(project, f"store=runs/{name}", *arguments)
    assert outcome.returncode == 0, outcome.stderr
    return read_store(project.folder / "runs" / name), outcome.stderr


def test_every_example_is_short_and_says_how_to_use_it() -> None:
    for example in EXAMPLES.glob("*.py"):
        text = example.read_text()
        assert text.startswith('"""'), example
        assert "extensions: [" in text or "_target_" in text, example
        assert len(text.splitlines()) <= 40, example


def test_a_layer_rule_gives_the_gradients_of_the_loop(extended: Project) -> None:
    state = {name.replace("first", "0").replace("second", "3"): value for name, value in weights(0).items()}
    save_file({**state, "1.gain": torch.linspace(0.5, 2, 6)}, extended.folder / "checkpoints" / "scaled.safetensors")
    options = ("checkpoints=checkpoints/scaled.safetensors", "model._target_=layer_rule.ScaledNet")
    ruled, log = featurized(extended, "ruled", "extensions=[layer_rule]", *options)
    loop, _ = featurized(extended, "loop", "gradients.engine=loop", *options)
    assert "5 of 5 parameter tensors by the rules of their layers" in log
    assert_close(ruled, loop, 1e-5)


def test_a_projection_is_the_product_with_its_matrix(extended: Project) -> None:
    gradients, _ = featurized(extended, "gradients", ONE_CHECKPOINT, WHOLE_GRADIENT)
    projected, _ = featurized(extended, "projected", ONE_CHECKPOINT, "extensions=[projection]", "projection.kind=subsample")
    digest = hashlib.sha256((extended.folder / "checkpoints" / "a.safetensors").read_bytes()).hexdigest()
    for key, shard in projected.items():
        k, p = shard.features.shape[1], gradients[key].features.shape[1]
        matrix = np.zeros((p, k))
        matrix[np.random.default_rng([0, int(digest, 16)]).integers(p, size=k), np.arange(k)] = np.sqrt(p)
        np.testing.assert_allclose(shard.features, gradients[key].features @ matrix, rtol=1e-5, atol=1e-7)


def test_an_unregistered_projection_is_refused_with_the_registered_ones(extended: Project) -> None:
    outcome = trak(extended, "projection.kind=subsampled", "extensions=[projection]")
    assert outcome.returncode == 2
    assert "rademacher, gaussian, sjlt, factored, none, subsample" in outcome.stderr


def test_a_checkpoint_reader_gives_the_weights_of_the_file(extended: Project) -> None:
    np.savez(extended.folder / "checkpoints" / "a.npz", **{name: value.numpy() for name, value in weights(0).items()})
    # The random combinations of classes would follow the digest of the file.
    told = (WHOLE_GRADIENT, "gradients.classes=false")
    plain, _ = featurized(extended, "plain", ONE_CHECKPOINT, *told)
    refused = trak(extended, "checkpoints=checkpoints/*.npz")
    assert refused.returncode == 2
    assert "a.npz" in refused.stderr
    assert ".bin, .ckpt, .index.json, .pt, .pth, .safetensors" in refused.stderr
    read, _ = featurized(extended, "read", "checkpoints=checkpoints/*.npz", *told, "extensions=[checkpoint_reader]")
    assert_identical(*({split: rows for (_, split), rows in store.items()} for store in (read, plain)))


def test_a_task_returns_its_output_and_the_gradients_of_the_loop(extended: Project) -> None:
    found, _ = featurized(extended, "hooks", ONE_CHECKPOINT, "task._target_=task.SquaredError")
    loop, _ = featurized(extended, "loop", ONE_CHECKPOINT, "task._target_=task.SquaredError", "gradients.engine=loop")
    assert_close(found, loop, 1e-5)
    expected = [_squared_error(row) for row in range(ROWS)]
    (train,) = (rows for (_, split), rows in found.items() if split == "train")
    np.testing.assert_allclose(train.outputs, expected, rtol=1e-5)
    assert set(train.out_to_loss.tolist()) == {1.0}


def _squared_error(row: int) -> float:
    """−‖model(x) − onehot(y)‖² of a training row of the tiny project, in NumPy."""
    state = {name: value.double().numpy() for name, value in weights(0).items()}
    generator = torch.Generator().manual_seed(1000 + row)
    x = torch.randn(8, generator=generator).double().numpy()
    y = int(torch.randint(3, (), generator=generator))
    hidden = np.tanh(state["first.weight"] @ x + state["first.bias"])
    return -float(((state["second.weight"] @ hidden + state["second.bias"] - np.eye(3)[y]) ** 2).sum())


def test_a_trainer_trains_and_retrains_by_its_own_steps(extended: Project) -> None:
    lion = "trainer={_target_: trainer.SmoothLion, epochs: 20, batch_size: 16, lr: 0.02, schedule: cosine, clip_grad: 1.0}"
    extended.done("train", lion, "train.count=1")
    extended.done("retrain", lion, "retrain.subsets=2")
    path = extended.store / "checkpoints" / "full_0.safetensors"
    stored = path.read_bytes()
    path.unlink()
    extended.done("train", lion, "train.count=1")
    assert path.read_bytes() == stored
