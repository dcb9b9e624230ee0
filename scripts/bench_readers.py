"""How busy `features.readers` keeps the cores if reading a sample takes 5 ms of processor time.

    python scripts/bench_readers.py --readers 0 1 2 3

Each sample is decompressed, outside Python's lock, for about 5 ms of processor time; its gradient takes far less. "busy" is the
mean number of samples and batches that threads work on (decompression; gradients), from the first sample of a shard to the
last, divided by the number of cores, 2. A thread that waits for a core counts, so programs beside this one hardly change it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from trak_cli.config.load import load
from trak_cli.stages import featurize as stage
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.inputs.split import Split
from trak_cli.types import TRAIN, Silent

CORES, DECODE_SECONDS, SIDE = 2, 5e-3, 16


class Decoded:
    """Samples that take DECODE_SECONDS of processor time to read; ``times``: (start, stop) of those read so far."""

    times: ClassVar[list[tuple[float, float]]] = []

    def __init__(self, rows: int) -> None:
        self.rows = rows
        noise = np.random.default_rng(0).integers(0, 16, 1 << 20, dtype=np.uint8).tobytes()
        packed = zlib.compress(noise, 1)
        start = time.thread_time()
        zlib.decompress(packed)
        size = int(len(noise) * DECODE_SECONDS / (time.thread_time() - start))
        self.packed = zlib.compress((noise * (1 + size // len(noise)))[:size], 1)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        if not 0 <= row < self.rows:
            raise IndexError(row)
        begun, place = time.perf_counter(), row % 1000
        data = zlib.decompress(self.packed)
        self.times.append((begun, time.perf_counter()))
        pixels = np.frombuffer(data[place : place + SIDE * SIDE], np.uint8).astype(np.float32)
        return torch.from_numpy((pixels + row % 7) / 16).reshape(1, SIDE, SIDE), row % 3


def network() -> nn.Module:
    """A small network: 12,000 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * (SIDE - 2) ** 2, 8), nn.Tanh(), nn.Linear(8, 3)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--rows", type=int, default=1024)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network().state_dict(), Path(folder) / "a.pt")
        for readers in options.readers:
            print(json.dumps({"readers": readers, **measured(Path(folder), readers, options.rows)}), flush=True)


def measured(folder: Path, readers: int, rows: int) -> dict[str, Any]:
    overrides = [
        f"store={folder}/{readers}",
        f"checkpoints={folder}/a.pt",
        "model._target_=bench_readers.network",
        "task=classification",
        "dataset.train._target_=bench_readers.Decoded",
        f"dataset.train.rows={rows}",
        "dataset.targets.test._target_=bench_readers.Decoded",
        "dataset.targets.test.rows=8",
        "projection.dim=64",
        "gradients=hooks",
        "gradients.microbatch=32",
        "features.shard_rows=512",
        f"features.readers={readers}",
        "threads=1",
    ]
    loaded = load("featurize", None, None, overrides)
    shares: list[float] = []
    whole, columns = Featurizer.rows, Featurizer._columns

    def watched(self: Featurizer, split: Split, *arguments: Any) -> Any:
        Decoded.times.clear()
        found = whole(self, split, *arguments)
        if split.name == TRAIN:
            times = np.array(Decoded.times)
            moments = np.linspace(times.min(), times.max(), 2000)
            active = ((times[:, :1] <= moments) & (moments < times[:, 1:])).sum(axis=0)
            shares.append(float(np.minimum(active, CORES).mean() / CORES))
        return found

    def timed(self: Featurizer, *arguments: Any) -> Any:
        begun = time.perf_counter()
        found = columns(self, *arguments)
        Decoded.times.append((begun, time.perf_counter()))
        return found

    Featurizer.rows, Featurizer._columns = watched, timed  # type: ignore[method-assign]
    try:
        wall, processor = time.perf_counter(), time.process_time()
        stage.featurize(loaded, Silent())
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    finally:
        Featurizer.rows, Featurizer._columns = whole, columns  # type: ignore[method-assign]
    return {"busy": round(float(np.mean(shares)), 3), "wall_s": round(wall, 1), "processor_s": round(processor, 1)}


if __name__ == "__main__":
    from bench_readers import main as start  # the module that the configuration imports

    start()
