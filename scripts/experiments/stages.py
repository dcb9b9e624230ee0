"""Helpers of the experiments: run trak, and load the model, task and data of a run."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trak_cli.batches import to_device
from trak_cli.config.load import load as load_config
from trak_cli.config.schema import TrakConfig
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.stages.inputs.plugins import Components, make_components, make_model
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

FOLDER = Path(__file__).parent
CPU = torch.device("cpu")

Array = np.ndarray[Any, Any]


def trak(stage: str, name: str, *overrides: str) -> str:
    """Run one stage as a user would; its stdout."""
    command = [sys.executable, "-m", "trak_cli", stage, "-d", str(FOLDER), "-n", name, *overrides]
    print(f"$ trak {' '.join(command[3:])}", file=sys.stderr, flush=True)
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    print(f"  {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return done.stdout


def shared(stage: str, name: str, workers: int = 2) -> None:
    """Run one stage with several workers."""
    share = [f"worker.count={workers}"]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda index: trak(stage, name, f"worker.index={index}", *share), range(workers)))


def plain(name: str, store: Path, split: str, *overrides: str) -> dict[str, Path]:
    """Scores from gradients without Adam's scales, under the same checkpoints: label -> file."""
    other = Path(f"{store}_plain")
    more = [*overrides, "gradients.optimizer=sgd", f"store={other}", f"checkpoints={store}/checkpoints/*.safetensors"]
    other.mkdir(exist_ok=True)
    if (store / "data").exists() and not (other / "data").exists():
        (other / "data").symlink_to((store / "data").resolve())
    trak("featurize", name, *more)
    files = {}
    for estimator, stages in (("early_training", ("finalize", "score")), ("cosine", ("score",))):
        for stage in stages:
            trak(stage, name, *more, f"estimator={estimator}")
        files[f"{estimator}_plain"] = other / f"{estimator}.npy"
        np.save(files[f"{estimator}_plain"], read_scores(Layout(other).scores(estimator, split)))
    return files


def config_of(name: str) -> TrakConfig:
    """The resolved configuration of an experiment."""
    return load_config("train", name, FOLDER, []).config


def trained(config: TrakConfig) -> Iterator[tuple[Components, nn.Module]]:
    """The parts of a run, with the weights of one checkpoint after another in the model."""
    parts = make_components(config, CPU)
    for path in sorted((Path(config.store) / "checkpoints").glob("*.safetensors")):
        model = make_model(config)
        apply(model, load(path), path)
        yield parts, model.eval()


def representations(parts: Components, model: nn.Module, split: str) -> Array:
    """(rows, width) the mean over the tokens of the last hidden state (of the encoder, where there is one), of unit length."""
    dataset, rows = parts.splits[split], []
    for start in range(0, len(dataset), 128):
        samples = [dataset[i] for i in range(start, min(start + 128, len(dataset)))]
        batch = to_device(parts.collate(samples), CPU)
        rows.append(_pooled(model, batch))
    vectors = torch.cat(rows).double()
    return np.asarray(torch.nn.functional.normalize(vectors, dim=1))


def _pooled(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    body: Any = model.get_encoder() if model.config.is_encoder_decoder else model.base_model  # type: ignore[operator,union-attr]
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        hidden = body(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    return (hidden * mask).sum(1) / mask.sum(1)


def similarity(config: TrakConfig, split: str) -> Array:
    """(targets, n) cosine of the representations, mean over the checkpoints."""
    every = []
    for parts, model in trained(config):
        targets, train = (representations(parts, model, name) for name in (split, "train"))
        every.append(targets @ train.T)
    return np.asarray(np.mean(every, axis=0))


def with_error(values: Array) -> str:
    """Mean ± standard error."""
    return f"{values.mean():+.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}"
