"""Write the golden store: a small store of the current format, which every later version must read.

    python tests/reference/make_golden_store.py

It has features in float32, float16 and int8, Gram matrices, dense scores, top-k scores and compressed features.
``golden_store.npz`` holds the values that a reader must get. Run this only for a new format version, and keep the stores of the
older ones.
"""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import numpy as np

from trak_cli.config.load import load
from trak_cli.stages.compress import compress
from trak_cli.stages.finalize import finalize
from trak_cli.stages.index.run_plan import VERSION
from trak_cli.stages.score import score
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.store.json_files import write_json_once
from trak_cli.store.layout import Layout
from trak_cli.store.shards import FeatureRows, write_features
from trak_cli.types import Rows, Silent, shards_of

FOLDER = Path(__file__).with_name("golden_store")
EXPECTED = Path(__file__).with_name("golden_store.npz")
CHECKPOINTS = {"float32": "ab", "float16": "a", "int8": "a"}
LENGTHS = {"train": 7, "test": 3}
DIM, SHARD_ROWS, TOP_K = 4, 4, 2


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    socket.gethostname = lambda: "golden"  # the host is stored with every file
    for dtype in CHECKPOINTS:
        write_store(Layout(FOLDER / dtype), dtype)
    np.savez_compressed(EXPECTED, **read_golden_store(FOLDER))


def write_store(layout: Layout, dtype: str) -> None:
    """Features; of those in float32 also Gram matrices, scores and a compressed copy."""
    plan = {"version": VERSION, "engine": "loop", "microbatch": 4, "shard_rows": SHARD_ROWS, "strategies": {}, "measured": []}
    write_json_once(layout.plan, plan)
    for split, length in LENGTHS.items():
        write_json_once(layout.split(split), {"rows": length})
    for number, checkpoint in enumerate(CHECKPOINTS[dtype]):
        fingerprint = {
            "kind": "features",
            "format": FORMAT_VERSION,
            "checkpoint": f"{number:064}",
            "projection": {"kind": "rademacher", "dim": DIM, "seed": 0},
            "dtype": dtype,
        }
        write_json_once(layout.fingerprint(checkpoint), fingerprint)
        for split, length in LENGTHS.items():
            for index, rows in enumerate(shards_of(length, SHARD_ROWS)):
                path = layout.features(checkpoint, split, index)
                write_features(path, drawn(rows, number), {**fingerprint, "split": split}, {"host": "golden"}, dtype)
    if dtype == "float32":
        store = f"store={layout.root}"
        for estimator in ("trak", "dot"):
            finalize(load("finalize", None, None, [store, f"estimator={estimator}"]), Silent())
        score(load("score", None, None, [store, "estimator=trak"]), Silent())
        score(load("score", None, None, [store, "estimator=dot", f"score.top_k={TOP_K}"]), Silent())
        compress(load("compress", None, None, [store, "estimator=trak", f"worker.part_rows={SHARD_ROWS}"]), Silent())


def drawn(rows: Rows, checkpoint: int) -> FeatureRows:
    """Rows of any size from 1e-30 to 1e30, one of them zero."""
    generator = np.random.default_rng([rows.start, checkpoint])
    features = generator.standard_normal((len(rows), DIM)).astype(np.float32)
    if rows.start:
        features[1:] *= np.array([[1e-30], [0.0]], np.float32)[: len(rows) - 1]
    outputs = generator.normal(2, 1, len(rows)).astype(np.float32)
    out_to_loss = (1 / (1 + np.exp(outputs.astype(np.float64)))).astype(np.float32)
    return FeatureRows(rows, features, out_to_loss, outputs, np.arange(rows.start, rows.stop, dtype=np.uint64))


def read_golden_store(folder: Path) -> dict[str, np.ndarray]:
    """Every value of the golden store, as the readers of this version give it."""
    from test_golden_store import read_store

    return {f"{dtype}/{key}": value for dtype in CHECKPOINTS for key, value in read_store(Layout(folder / dtype)).items()}


if __name__ == "__main__":
    main()
