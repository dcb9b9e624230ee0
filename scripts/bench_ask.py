"""How long `trak ask` takes on a large store, compared with one read of its features, and what candidates change.

    python scripts/bench_ask.py --rows 1000000
    python scripts/bench_ask.py --rows 100000 1000000 --candidates 1000 --kind clusters --csv docs/results/ask.csv
    python scripts/bench_ask.py --rows 200000 --targets 1 8 --store /tmp/big   (keeps the store, and uses it again)

The features are drawn: those of scripts/bench_scale.py, whose rows have nothing in common, or (``--kind clusters``) those of
4,000 groups of similar rows in 200 classes. New targets are drawn too, so the time does not include the start-up: loading the
model and computing the features of the targets. Reading and scoring alternate, and the least time of each counts. It is
processor time: the files come from the cache of the operating system, and other programs do not change it. With
``--candidates``, the store is compressed first, and bytes that are read are compared too: they determine the time where the
features are not in memory. ``--csv`` adds a row for each store and number of targets.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_scale import drawn, size_of, write_store

from trak_cli.attribution.topk import TopK
from trak_cli.config.load import load
from trak_cli.results.candidates import Candidates
from trak_cli.results.new_scores import NewTargetScorer
from trak_cli.stages.compress import compress
from trak_cli.stages.compressing.candidates import CompressedScorer, find_candidates
from trak_cli.stages.compressing.compressed_store import open_compressed
from trak_cli.stages.compressing.recall import find_recall
from trak_cli.stages.featurizing.new_targets import ModelOutputs
from trak_cli.stages.finalize import finalize
from trak_cli.stages.index.inventory import Inventory, take_inventory
from trak_cli.stages.scoring.block_scorer import prepare_targets
from trak_cli.store.layout import Layout
from trak_cli.store.shards import FeatureRows
from trak_cli.types import TRAIN, Float32, Rows, Silent

REPEATS, K = 3, 10
CLASSES, GROUPS = 200, 20
PAGE = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000], help="training rows of each store")
    parser.add_argument("--k", type=int, default=512, help="features per row")
    parser.add_argument("--dtype", default="bfloat16", help="features.dtype")
    parser.add_argument("--kind", choices=KINDS, default="unrelated", help="what rows have in common")
    parser.add_argument("--estimator", default="early_training")
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 8], help="new targets at a time")
    parser.add_argument("--candidates", type=int, help="also ask with so many candidates")
    parser.add_argument("--threads", type=int, default=1, help="shards that are read at a time")
    parser.add_argument("--store", type=Path, help="folder of the store, kept (default: a temporary one)")
    parser.add_argument("--csv", type=Path, help="file to add the results to")
    options = parser.parse_args()
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(Layout(options.store or Path(folder) / "store"), rows, options):
                print(json.dumps(row, indent=2), flush=True)
                if options.csv is not None:
                    add(options.csv, row)


def measure(layout: Layout, rows: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of one read, and of the scores of new targets."""
    draw = KINDS[options.kind]
    if not layout.plan.exists():
        write_store(layout, rows, options.k, options.dtype, draw)
    overrides = [f"store={layout.root}", f"estimator={options.estimator}", "threads=1"]
    loaded = load("finalize", None, None, overrides)
    finalizing = timed(lambda: finalize(loaded, Silent()))
    inventory, estimator = take_inventory(layout, ["*"]), loaded.config.estimator.spec
    common: dict[str, Any] = {"features": options.kind, "rows": inventory.rows, "k": inventory.dim, "dtype": options.dtype}
    common |= {"estimator": options.estimator, "finalize_s": round(finalizing, 1)}
    if options.candidates is not None:
        loaded = load("compress", None, None, overrides)
        common["compress_s"] = round(timed(lambda: compress(loaded, Silent())), 1)
        common["compressed_share"] = round(size_of(layout.root / "compressed") / size_of(layout.root / "features"), 3)
    report = []
    for count in options.targets:
        features = draw(Rows(0, count), inventory.dim, "new").features
        targets = prepare_targets(inventory, estimator, dict.fromkeys(inventory.checkpoints, features).__getitem__)
        outputs = ModelOutputs(*np.zeros((2, 1, count), np.float32), None)
        scorer = NewTargetScorer(inventory, estimator.name, outputs, targets, options.threads)
        works: dict[str, Callable[[], object]] = {"read_s": partial(read, inventory), "ask_s": partial(best, scorer)}
        row = {**common, "targets": count}
        if options.candidates is not None:
            works["candidates_s"] = partial(among, scorer, options.candidates)
        seconds = {name: min(times) for name, times in alternating(works).items()}
        row |= {name: round(value, 3) for name, value in seconds.items()}
        row["ask_over_read"] = round(seconds["ask_s"] / seconds["read_s"], 2)
        if options.candidates is not None:
            row |= compared(scorer, options.candidates, layout)
        report.append(row)
    return [row | {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)} for row in report]


def compared(scorer: NewTargetScorer, candidates: int, layout: Layout) -> dict[str, Any]:
    """What the candidates read and find, beside the pass over all rows."""
    store = open_compressed(scorer.inventory)
    recall = find_recall(store, scorer.targets.estimator)
    assert recall is not None
    rows = find_candidates(CompressedScorer.of(scorer.targets, store), candidates, 1, Silent())
    whole, some = best(scorer).result(), among(scorer, candidates).result()
    found = [np.isin(a.indices, b.indices).mean() for a, b in ((whole.top, some.top), (whole.bottom, some.bottom))]
    pages = 2 * PAGE  # a row of 1 KiB may cross the end of a page
    read_bytes = size_of(layout.root / "compressed") + len(rows) * pages
    return {
        "candidates": candidates,
        "scored": len(rows),
        "bytes_share": round(read_bytes / size_of(layout.root / "features"), 3),
        "recall_10": round(recall.of(10, candidates), 4),
        "recall_100": round(recall.of(100, candidates), 4),
        "found_of_these": round(float(np.mean(found)), 3),
    }


def clusters(rows: Rows, k: int, split: str) -> FeatureRows:
    """Rows in groups of similar ones, within classes: a function of their numbers."""
    plain = drawn(rows, k, split)
    centres, groups = _centres(k)
    generator = np.random.default_rng([rows.start, split == TRAIN, 1])
    classes, group = generator.integers(CLASSES, size=len(rows)), generator.integers(GROUPS, size=len(rows))
    features = generator.standard_normal((len(rows), k), dtype=np.float32) * (0.5 * _decrease(k))
    features += centres[classes] + groups[classes * GROUPS + group]
    features *= 10 ** generator.normal(-4, 0.5, (len(rows), 1)).astype(np.float32)
    return FeatureRows(rows, features, plain.out_to_loss, plain.outputs, plain.sample_ids)


_made: dict[int, tuple[Float32, Float32]] = {}


def _centres(k: int) -> tuple[Float32, Float32]:
    """The centres of the classes, and of the groups relative to them."""
    if k not in _made:
        generator = np.random.default_rng(7)
        centres = generator.standard_normal((CLASSES, k), dtype=np.float32) * _decrease(k)
        groups = generator.standard_normal((CLASSES * GROUPS, k), dtype=np.float32) * (0.7 * _decrease(k))
        _made[k] = centres, groups
    return _made[k]


def _decrease(k: int) -> Float32:
    return np.arange(1, k + 1, dtype=np.float32) ** -0.5


KINDS = {"unrelated": drawn, "clusters": clusters}


def read(inventory: Inventory) -> None:
    """One read of the features, as every stage reads them: digests checked, decoded to float32."""
    for name in inventory.checkpoints:
        for _ in inventory.read_all(name, TRAIN):
            pass


def alternating(works: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """The seconds of each work, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            seconds[name].append(timed(work))
    return seconds


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def best(scorer: NewTargetScorer, chosen: Candidates | None = None) -> TopK:
    """The highest and lowest scores of all targets, as `trak ask` collects them."""
    found = TopK(scorer.model.outputs.shape[1], K)
    for rows, scores in scorer.scores(chosen, Silent()):
        found.update(scores, rows)
    return found


def among(scorer: NewTargetScorer, candidates: int) -> TopK:
    """The same with candidates."""
    with_copy = replace(scorer, compressed=open_compressed(scorer.inventory))
    return best(with_copy, with_copy.choose(candidates, Silent()))


def add(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a CSV file."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader() if new else None
        writer.writerow(row)


if __name__ == "__main__":
    main()
