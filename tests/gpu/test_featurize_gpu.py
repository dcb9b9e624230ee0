"""Whole runs on a CUDA device: the features of the CPU, stores that both have worked on, and the same lists of examples."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from trak_cli.cli.app import app
from trak_cli.config.load import load as load_config
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.stages.inputs.plugins import make_components
from trak_cli.store.layout import Layout
from trak_cli.store.shards import read_features

pytestmark = pytest.mark.gpu

SMALL = ("experiment=digits", "train.count=2", "trainer.epochs=3", "features.shard_rows=256")
KINDS = {
    "rademacher": ("projection.dim=512",),
    "gaussian": ("projection=gaussian", "projection.dim=512"),
    "sjlt": ("projection=sjlt", "projection.dim=512"),
}


def trak(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """One call in ``folder`` that must succeed; its stdout."""
    with monkeypatch.context() as context:
        context.chdir(folder)
        result = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo experiment, trained on the CPU."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        trak(folder, monkeypatch, "train", *SMALL, "device=cpu")
    return folder


def features(store: Path) -> dict[str, np.ndarray]:
    layout = Layout(store)
    return {
        f"{checkpoint}/{split}/{index}": read_features(layout.features(checkpoint, split, index)).features
        for checkpoint in layout.checkpoints()
        for split in layout.splits(checkpoint)
        for index in layout.shards(checkpoint, split)
    }


def top_lists(folder: Path, monkeypatch: pytest.MonkeyPatch, store: str, *more: str) -> list[dict[int, float]]:
    """The ten most helpful training rows of every target, with their scores."""
    for stage in ("finalize", "score"):
        trak(folder, monkeypatch, stage, *SMALL, *more, f"store={store}")
    targets = [word for target in range(200) for word in ("--target", str(target))]
    answer = json.loads(trak(folder, monkeypatch, "top", *SMALL, *more, f"store={store}", "--json", "-k", "10", *targets))
    return [{one["row"]: one["score"] for one in target["helpful"]} for target in answer["targets"]]


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, store: str, device: str, *more: str) -> Path:
    checkpoints = "checkpoints=runs/digits/checkpoints/*.safetensors"
    trak(folder, monkeypatch, "featurize", *SMALL, *more, f"store={store}", f"device={device}", checkpoints, "gradients=hooks")
    return folder / store


def relative_errors(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)


class Kinks:
    """Samples whose gradient rounding decides: a ReLU's input or two candidates of a maximum closer than float32 can tell.

    There the gradient jumps, and two machines that both round correctly may be on different sides.
    """

    def __init__(self, folder: Path) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.chdir(folder)
            self._parts = make_components(load_config("train", "trak", None, list(SMALL)).config, torch.device("cpu"))
        self._checkpoints = {file.stem: file for file in (folder / "runs/digits/checkpoints").glob("*.safetensors")}

    def has(self, checkpoint: str, split: str, row: int) -> bool:
        """Whether weights moved by a millionth move the gradient of a sample by more than a thousandth."""
        file = self._checkpoints[checkpoint.rsplit("-", 1)[0]]
        image, label = self._parts.splits[split][row]
        batch = self._parts.collate([(image, label)])
        batch = [one.double() if one.is_floating_point() else one for one in batch]
        gradients = []
        for seed in range(12):
            model = self._parts.models.build()
            apply(model, load(file), file)
            model.double().eval()
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for weight in model.parameters():
                    noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                    weight += (seed > 0) * 1e-6 * weight.abs().max() * noise
            output = self._parts.task.output(model, batch)
            gradients.append(torch.cat([one.flatten() for one in torch.autograd.grad(output.sum(), list(model.parameters()))]))
        return any(float((one - gradients[0]).norm() / gradients[0].norm()) > 1e-3 for one in gradients)


def test_a_kink_is_distinguished_from_a_smooth_sample(trained: Path) -> None:
    kinks = Kinks(trained)
    found = [kinks.has("full_0-x", "test", row) for row in range(12)]
    assert not all(found), "hardly any sample is at a kink, or the tests below show nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_lists_of_the_gpu_are_those_of_the_cpu(trained: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    more = (*KINDS[kind], "gradients.microbatch=64")
    stores = {device: run(trained, monkeypatch, f"runs/{kind}-{device}", device, *more) for device in ("cpu", "cuda")}
    on_cpu, on_gpu = features(stores["cpu"]), features(stores["cuda"])
    assert on_cpu.keys() == on_gpu.keys()
    kinks, jumped = Kinks(trained), set()
    for name, one in on_cpu.items():
        checkpoint, split, shard = name.split("/")
        for place in np.flatnonzero(relative_errors(on_gpu[name], one) > 1e-3):
            row = 256 * int(shard) + int(place)
            assert kinks.has(checkpoint, split, row), (name, row)
            jumped.add((split, row))
    assert len(jumped) <= 5, jumped
    cpu, gpu = (top_lists(trained, monkeypatch, f"runs/{kind}-{device}", *more) for device in ("cpu", "cuda"))
    for target, (first, second) in enumerate(zip(cpu, gpu, strict=True)):
        if ("test", target) in jumped:
            continue
        for row in first.keys() ^ second.keys():  # only where the tenth place is a tie
            if ("train", row) in jumped:
                continue
            score = first.get(row, second.get(row, 0.0))
            assert abs(score - min(first.values())) <= 1e-3 * max(first.values())


def test_half_of_the_shards_on_each_make_one_store(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = (*KINDS["rademacher"], "gradients.microbatch=64")
    run(trained, monkeypatch, "runs/mixed", "cuda", *more, "worker.index=0", "worker.count=2")
    mixed = run(trained, monkeypatch, "runs/mixed", "cpu", *more, "worker.index=1", "worker.count=2")
    whole = run(trained, monkeypatch, "runs/whole", "cpu", *more)
    found, expected = features(mixed), features(whole)
    assert found.keys() == expected.keys()
    assert any(found[name].tobytes() != expected[name].tobytes() for name in found), "nothing was made on the GPU"
    for name, one in expected.items():
        assert np.median(relative_errors(found[name], one)) < 1e-3  # those at a kink: see above
    assert len(top_lists(trained, monkeypatch, "runs/mixed", *more)) == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_repeated_gives_the_same_bits(trained: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    more = (*KINDS[kind], "gradients.microbatch=64")
    first, again = (features(run(trained, monkeypatch, f"runs/again-{kind}-{i}", "cuda", *more)) for i in range(2))
    assert {name: one.tobytes() for name, one in first.items()} == {name: one.tobytes() for name, one in again.items()}


def test_engines_agree_on_the_gpu(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = (*KINDS["sjlt"], "gradients.microbatch=64")
    reference = features(run(trained, monkeypatch, "runs/engine-hooks", "cuda", *more))
    checkpoints = "checkpoints=runs/digits/checkpoints/*.safetensors"
    for engine in ("vmap", "loop"):
        store = f"runs/engine-{engine}"
        trak(
            trained,
            monkeypatch,
            "featurize",
            *SMALL,
            *more,
            f"store={store}",
            "device=cuda",
            checkpoints,
            f"gradients={engine}",
        )
        for name, one in features(trained / store).items():
            assert np.quantile(relative_errors(reference[name], one), 0.98) < 1e-4, (engine, name)  # but for kinks


def test_memory_comes_back(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocated = []
    for _ in range(3):  # the first leaves the workspace of cuBLAS behind
        run(trained, monkeypatch, "runs/memory", "cuda", *KINDS["rademacher"])
        shutil.rmtree(trained / "runs" / "memory")
        gc.collect()
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[2] <= allocated[1] + 2**16
