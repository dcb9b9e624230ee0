"""How a run scales: features of many rows, finalize and top-k scores; and what narrow dtypes change in the scores.

    python scripts/bench_scale.py --rows 10000 100000 1000000 --dtype bfloat16 --bare
    python scripts/bench_scale.py --rows 1000000 --dtype float16
    python scripts/bench_scale.py --rows 100000 --compare

Features are drawn, not computed: each row is normal, with directions of decreasing length, times a log-normal size that
varies over several orders of magnitude, like the gradients of confident and uncertain samples. They are written by the function
that `trak featurize` uses; `trak finalize` and `trak score` then run as usual. ``--compare`` writes the same rows as float32,
float16 and int8, and compares the scores. ``--bare`` (float32 and bfloat16) alternates each stage with the same arithmetic on
plain reads (scripts/bare_pass.py), and compares the least times: processor time of all threads, and elapsed time. Files come
from the cache of the operating system. The store is in a temporary folder and is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bare_pass
import numpy as np
from bare_pass import Plain

from trak_cli.config.load import load
from trak_cli.gradients.tuning.allocator import keep_freed_memory
from trak_cli.stages.finalize import finalize
from trak_cli.stages.index.inventory import take_inventory
from trak_cli.stages.index.run_plan import VERSION
from trak_cli.stages.score import score
from trak_cli.stages.scoring.block_scorer import CheckpointTargets
from trak_cli.stages.scoring.score_reader import read_kept
from trak_cli.store.dtypes import decode_rows, encode_rows
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
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000], help="training rows of each run")
    parser.add_argument("--k", type=int, default=512, help="features per row")
    parser.add_argument("--dtype", default="float16", help="features.dtype")
    parser.add_argument("--top-k", type=int, default=100, help="score.top_k; 0: dense scores")
    parser.add_argument("--estimator", default="trak")
    parser.add_argument("--bare", action="store_true", help="compare with plain reads")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each with --bare")
    parser.add_argument("--compare", action="store_true", help="compare dense scores of float16 and int8 with those of float32")
    parser.add_argument("--folder", help="where the temporary store is put (default: the system's)")
    options = parser.parse_args()
    keep_freed_memory()  # as the commands do; the plain reads benefit too
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            if options.compare:
                report = compare(Path(folder), rows, options.k)
            elif options.bare:
                report = beside_bare(Path(folder), rows, options)
            else:
                report = run(Path(folder), rows, options.k, options.dtype, options.top_k)
            print(json.dumps(report, indent=2), flush=True)


def beside_bare(folder: Path, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Each stage and its bare pass in turns; the results of both must agree."""
    layout = Layout(folder / options.dtype)
    write_store(layout, rows, options.k, options.dtype)
    overrides = [f"store={layout.root}", f"estimator={options.estimator}"]
    configs = {"finalize": load("finalize", None, None, overrides)}
    configs["score"] = load("score", None, None, [*overrides, f"score.top_k={options.top_k}"])
    spec = configs["finalize"].config.estimator.spec
    shards = Plain([layout.features("drawn", TRAIN, index) for index in layout.shards("drawn", TRAIN)], options.k)
    targets, results = drawn(Rows(0, TARGETS), options.k, "test").features, {}
    seconds: dict[str, list[tuple[float, float]]] = {}

    def measure(name: str, work: Callable[[], Any]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        results[name] = work()
        seconds.setdefault(name, []).append((time.process_time() - processor, time.perf_counter() - wall))

    for _ in range(options.repeats):
        shutil.rmtree(layout.root / "finalized", ignore_errors=True)
        measure("bare finalize", lambda: bare_pass.finalize(shards, rows, spec))
        measure("finalize", lambda: finalize(configs["finalize"], Silent()))
    inventory = take_inventory(layout, ["*"])
    opened = CheckpointTargets(inventory, spec, "drawn")
    factor = opened.factor(decoded(targets, options.dtype))
    for _ in range(options.repeats):
        shutil.rmtree(layout.root / "scores", ignore_errors=True)
        measure("bare score", lambda: bare_pass.score(shards, factor, opened.sample_weight, spec.shrinkage, options.top_k))
        measure("score", lambda: score(configs["score"], Silent()))
    kept, _ = read_kept(layout, spec.name, "test")
    least = {name: tuple(min(column) for column in zip(*times, strict=True)) for name, times in seconds.items()}
    report: dict[str, Any] = {"rows": rows, "k": options.k, "dtype": options.dtype, "estimator": spec.name}
    for name in ("finalize", "score"):
        for place, kind in enumerate(("processor", "elapsed")):
            own, bare = least[name][place], least[f"bare {name}"][place]
            report[f"{name} {kind}"] = {"s": round(own, 2), "bare_s": round(bare, 2), "ratio": round(own / bare, 2)}
        report[f"{name} microseconds of a row"] = round(1e6 * least[name][0] / rows, 2)
    report["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    report["same_top"] = float((kept.top.indices == results["bare score"].top.indices).mean())
    return report


def decoded(features: Float32, dtype: str) -> Float32:
    """Features as they are read from a store of this dtype."""
    return decode_rows(encode_rows(features, dtype), dtype)


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


def write_store(
    layout: Layout, rows: int, k: int, dtype: str, draw: Callable[[Rows, int, str], FeatureRows] | None = None
) -> None:
    """Features of one checkpoint, as ``draw`` makes them: by default :func:`drawn`."""
    draw = draw or drawn
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
            write_features(path, draw(part, k, split), {**fingerprint, "split": split}, {}, dtype)


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
