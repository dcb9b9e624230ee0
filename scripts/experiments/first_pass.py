"""Which first pass finds the rows with the highest and lowest scores: compressed features, or an inverted file (faiss)?

    pip install faiss-cpu
    python scripts/experiments/first_pass.py --rows 60000 --csv docs/results/first_pass.csv

Scores are products with B = (G + λ)⁻¹, λ two mean squared lengths. An inverted file (IVF, codes of 4 bits in each whitened
direction, inner product) reads only the lists whose centres are nearest to a target; the compressed features of `trak compress`
are read completely. Both get the same whitened rows, and the recall is that of the 10 and 100 highest and lowest scores of 20
targets. Seconds are processor time for one end of one target.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench_ask import KINDS, add

from trak_cli.attribution.compressed import compress, levels_of, make_basis, unit_gram
from trak_cli.types import Float32, IntArray, Rows, shards_of

K, TARGETS, LISTS = 512, 20, 256
COUNTS = (300, 1000)

#: From rows (n, k), vectors (t, k) and a number: the rows of each vector with the largest products.
Search = Callable[[Float32, int], IntArray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    for kind in KINDS:
        for row in measure(kind, options.rows):
            print(row, flush=True)
            if options.csv is not None:
                add(options.csv, row)


def measure(kind: str, rows: int) -> list[dict[str, Any]]:
    """The recall of each first pass on features of one kind."""
    import faiss

    faiss.omp_set_num_threads(1)
    draw = KINDS[kind]
    features = np.concatenate([draw(part, K, "train").features for part in shards_of(rows, 1024)])
    targets = draw(Rows(0, TARGETS), K, "new").features
    gram = (features.T @ features).astype(np.float64)
    queries = np.linalg.solve(gram + 2 * gram.trace() / rows * np.eye(K), targets.T).T.astype(np.float32)
    queries /= np.abs(queries).max(axis=1, keepdims=True)
    scores = queries @ features.T
    truth = [np.argsort(-sign * scores, axis=1)[:, :100] for sign in (1, -1)]
    basis = make_basis(unit_gram(features[:: max(1, rows // 8192)]).astype(np.float64), rows)
    whitened = features @ basis.forward
    whitened /= np.sqrt((whitened**2).sum(axis=1).mean() / K)
    turned = np.ascontiguousarray((basis.backward @ queries.T).T)
    stored = compress(basis, features)

    def scan(vectors: Float32, count: int) -> IntArray:
        found = np.empty((len(vectors), rows), np.float32)
        for start in range(0, rows, 512):
            block = slice(start, start + 512)
            found[:, block] = (levels_of(stored.codes[block]) @ vectors.T).T * (stored.scales * stored.lengths)[block]
        return np.argpartition(-found, count, axis=1)[:, :count]

    results = [result(kind, rows, f"compressed features, {K // 4 + 20} bytes", scan, (turned, truth))]
    index = faiss.index_factory(K, f"IVF{LISTS},SQ4", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 6
    index.train(whitened[:: max(1, rows // 15_000)])
    index.add(whitened)
    for probes in (8, 32, 128):
        index.nprobe = probes
        name = f"inverted file, {K // 2 + 8} bytes, {probes} of {LISTS} lists"
        results.append(result(kind, rows, name, lambda vectors, count: index.search(vectors, count)[1], (turned, truth)))
    return results


def result(kind: str, rows: int, name: str, search: Search, task: tuple[Float32, list[IntArray]]) -> dict[str, Any]:
    """Recall and time of a way to search."""
    vectors, truth = task
    row: dict[str, Any] = {"features": kind, "rows": rows, "first pass": name}
    for count in COUNTS:
        start = time.process_time()
        found = [search(sign * vectors, count) for sign in (1, -1)]
        row["us_of_a_row"] = round(1e6 * (time.process_time() - start) / rows / len(vectors) / 2, 3)
        pairs = [pair for ends in zip(truth, found, strict=True) for pair in zip(*ends, strict=True)]
        for k in (10, 100):
            hits = [np.isin(expected[:k], rows_found).mean() for expected, rows_found in pairs]
            row[f"recall_{k}_of_{count}"] = round(float(np.mean(hits)), 3)
    return row


if __name__ == "__main__":
    main()
