"""How long `trak ask` takes on a large store, compared with one read of its features.

    python scripts/bench_ask.py --rows 1000000
    python scripts/bench_ask.py --rows 200000 --targets 1 8 --store /tmp/big   (keeps the store, and uses it again)

The store is that of scripts/bench_scale.py: features that are drawn. New targets are drawn too, so the time does not include
the start-up: loading the model and computing the features of the targets. Reading and scoring alternate, and the least time of
each counts. It is processor time: the files come from the cache of the operating system, and other programs do not change it.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_scale import drawn, write_store

from trak_cli.attribution.topk import TopK
from trak_cli.config.load import load
from trak_cli.results.new_scores import NewTargetScorer
from trak_cli.stages.featurizing.new_targets import ModelOutputs
from trak_cli.stages.finalize import finalize
from trak_cli.stages.index.inventory import Inventory, take_inventory
from trak_cli.stages.scoring.block_scorer import prepare_targets
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN, Rows, Silent

REPEATS, K = 3, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="training rows")
    parser.add_argument("--k", type=int, default=512, help="features per row")
    parser.add_argument("--dtype", default="bfloat16", help="features.dtype")
    parser.add_argument("--estimator", default="early_training")
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 8], help="new targets at a time")
    parser.add_argument("--threads", type=int, default=1, help="shards that are read at a time")
    parser.add_argument("--store", type=Path, help="folder of the store, kept (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(options.store or Path(folder) / "store")
        print(json.dumps(measure(layout, options), indent=2))


def measure(layout: Layout, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of one read, and of the scores of new targets."""
    if not layout.plan.exists():
        write_store(layout, options.rows, options.k, options.dtype)
    loaded = load("finalize", None, None, [f"store={layout.root}", f"estimator={options.estimator}"])
    finalize(loaded, Silent())
    inventory, estimator = take_inventory(layout, ["*"]), loaded.config.estimator.spec
    report: dict[str, Any] = {"rows": inventory.rows, "k": inventory.dim, "estimator": options.estimator}
    for count in options.targets:
        features = drawn(Rows(0, count), inventory.dim, "new").features
        targets = prepare_targets(inventory, estimator, dict.fromkeys(inventory.checkpoints, features).__getitem__)
        outputs = ModelOutputs(*np.zeros((2, 1, count), np.float32), None)
        scorer = NewTargetScorer(inventory, estimator.name, outputs, targets, options.threads)
        seconds = [(timed(lambda: read(inventory)), timed(partial(best, scorer, count))) for _ in range(REPEATS)]
        reading, asking = (min(column) for column in zip(*seconds, strict=True))
        report[f"targets {count}"] = {"read_s": reading, "ask_s": asking, "ratio": round(asking / reading, 2)}
    report["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return report


def read(inventory: Inventory) -> None:
    """One read of the features, as every stage reads them: digests checked, decoded to float32."""
    for name in inventory.checkpoints:
        for _ in inventory.read_all(name, TRAIN):
            pass


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def best(scorer: NewTargetScorer, count: int) -> None:
    """The highest and lowest scores of so many targets, as `trak ask` collects them."""
    found = TopK(count, K)
    for rows, scores in scorer.blocks():
        found.update(scores, rows.start)


if __name__ == "__main__":
    main()
