"""How a run scales: features of many rows, finalize and top-k scores; and what narrow dtypes change in the scores.

    python scripts/bench_scale.py --rows 1000000 --dtype float16
    python scripts/bench_scale.py --rows 100000 --compare

Features are drawn, not computed: each row is normal, with directions of decreasing length, times a log-normal size that
varies over several orders of magnitude, like the gradients of confident and uncertain samples. They are written by the function
that `trak featurize` uses; `trak finalize` and `trak score` then run as usual. ``--compare`` writes the same rows as float32,
float16 and int8, and compares the scores. The store is in a temporary folder and is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.config.load import load
from trak_cli.stages.finalize import finalize
from trak_cli.stages.index.run_plan import VERSION
from trak_cli.stages.score import score
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.store.json_files import write_json_once
from trak_cli.store.layout import Layout
from trak_cli.store.shards import FeatureRows, write_features
from trak_cli.store.virtual import read_scores
from trak_cli.types import TRAIN, Float32, Rows, Silent, shards_of

TARGETS = 100
SHARD_ROWS = 1024
#: Standard deviation of log10 of a row's size.
SPREAD = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="training rows")
    parser.add_argument("--k", type=int, default=512, help="features per row")
    parser.add_argument("--dtype", default="float16", help="features.dtype")
    parser.add_argument("--top-k", type=int, default=100, help="score.top_k; 0: dense scores")
    parser.add_argument("--compare", action="store_true", help="compare dense scores of float16 and int8 with those of float32")
    parser.add_argument("--folder", help="where the temporary store is put (default: the system's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.compare:
            print(json.dumps(compare(Path(folder), options.rows, options.k), indent=2))
        else:
            print(json.dumps(run(Path(folder), options.rows, options.k, options.dtype, options.top_k), indent=2))


def run(folder: Path, rows: int, k: int, dtype: str, top_k: int) -> dict[str, Any]:
    """Write, finalize and score one store; seconds, peak memory and sizes."""
    layout = Layout(folder / dtype)
    seconds = {"write": timed(lambda: write_store(layout, rows, k, dtype))}
    overrides = [f"store={layout.root}", "estimator=trak"]
    seconds["finalize"] = timed(lambda: finalize(load("finalize", None, None, overrides), Silent()))
    kept = [f"score.top_k={top_k}"] if top_k else []
    seconds["score"] = timed(lambda: score(load("score", None, None, [*overrides, *kept]), Silent()))
    features = size_of(layout.root / "features")
    return {
        "rows": rows,
        "k": k,
        "dtype": dtype,
        "top_k": top_k or None,
        "seconds": {key: round(value, 1) for key, value in seconds.items()},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "features_mb": round(features / 1e6, 1),
        "features_over_float32": round(features / (4 * (rows + TARGETS) * k), 4),
        "finalized_mb": round(size_of(layout.root / "finalized") / 1e6, 1),
        "scores_mb": round(size_of(layout.root / "scores") / 1e6, 3),
        "score_files": sum(path.is_file() for path in (layout.root / "scores").rglob("*")),
    }


def compare(folder: Path, rows: int, k: int) -> dict[str, Any]:
    """The runs in each dtype with dense scores, and the differences of these relative to the spread of each target."""
    report: dict[str, Any] = {}
    scores: dict[str, Float32] = {}
    for dtype in ("float32", "float16", "int8"):
        report[dtype] = run(folder, rows, k, dtype, 0)
        scores[dtype] = read_scores(Layout(folder / dtype).scores("trak", "test"))
    reference = scores["float32"].astype(np.float64)
    spread = reference.std(axis=1, keepdims=True)
    for dtype in ("float16", "int8"):
        apart = (scores[dtype] - reference) / spread
        report[dtype]["scores_apart"] = {
            "rms": float(np.sqrt((apart**2).mean())),
            "median": float(np.median(np.abs(apart))),
            "largest": float(np.abs(apart).max()),
        }
    return report


def write_store(layout: Layout, rows: int, k: int, dtype: str) -> None:
    """Features of one checkpoint."""
    plan = {"version": VERSION, "engine": "loop", "microbatch": 64, "shard_rows": SHARD_ROWS, "strategies": {}, "measured": []}
    write_json_once(layout.plan, plan)
    fingerprint = {
        "kind": "features",
        "format": FORMAT_VERSION,
        "checkpoint": f"{0:064}",
        "projection": {"kind": "rademacher", "dim": k, "seed": 0},
        "dtype": dtype,
    }
    write_json_once(layout.fingerprint("drawn"), fingerprint)
    for split, length in ((TRAIN, rows), ("test", TARGETS)):
        write_json_once(layout.split(split), {"rows": length})
        for index, part in enumerate(shards_of(length, SHARD_ROWS)):
            path = layout.features("drawn", split, index)
            write_features(path, drawn(part, k, split), {**fingerprint, "split": split}, {}, dtype)


def drawn(rows: Rows, k: int, split: str) -> FeatureRows:
    """Some rows: a function of their numbers, whatever the dtype."""
    generator = np.random.default_rng([rows.start, split == TRAIN])
    features = generator.standard_normal((len(rows), k), dtype=np.float32)
    features *= np.logspace(0, -3, k, dtype=np.float32)
    features *= 10 ** generator.normal(-4, SPREAD, (len(rows), 1)).astype(np.float32)
    outputs = generator.normal(2, 2, len(rows)).astype(np.float32)
    out_to_loss = (1 / (1 + np.exp(outputs))).astype(np.float32)
    return FeatureRows(rows, features, out_to_loss, outputs, np.arange(rows.start, rows.stop, dtype=np.uint64))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
