"""A store with features that were drawn, not computed, and a ground truth that a known estimator predicts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scores_oracle import scores

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.weights import Terms
from trak_cli.attribution.lds.lds import subset_predictions
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.store.json_files import write_json_once
from trak_cli.store.layout import Layout
from trak_cli.store.shards import FeatureRows, write_features
from trak_cli.types import BoolArray, Float32, Float64, Rows, shards_of

ROWS, TARGETS, DIM, SHARD_ROWS, SUBSETS = 90, 24, 12, 32, 60


@dataclass(frozen=True)
class SyntheticStore:
    """Features of two checkpoints, as arrays and as a store; q follows from f as for log-odds, if f is not a sum of terms."""

    root: Path
    train: list[Float32]
    outputs: list[Float32]
    out_to_loss: list[Float32]
    targets: list[Float32]
    masks: BoolArray
    terms: list[Terms] | None = None

    def scores(self, spec: EstimatorSpec) -> Float64:
        """The formula on whole matrices."""
        return scores(spec, self.train, self.out_to_loss, self.targets, self.outputs, self.terms)

    def write_truth(self, path: Path, best: EstimatorSpec, noise: float) -> None:
        """Outputs that ``best`` predicts, up to noise (in units of their own spread)."""
        outputs = subset_predictions(self.scores(best), self.masks)
        outputs /= outputs.std(axis=1, keepdims=True)
        outputs += noise * np.random.default_rng(5).standard_normal(outputs.shape)
        np.savez(path, masks=self.masks, outputs=outputs.T)


def make_store(root: Path, checkpoints: int = 2, with_terms: bool = False, residuals: bool = False) -> SyntheticStore:
    """Draw and write it. ``residuals``: q of either sign, as for a squared loss."""
    generator = np.random.default_rng(0)
    directions = 3.0 ** -np.arange(DIM)  # directions of very different length: the ridge matters
    train = [(generator.standard_normal((ROWS, DIM)) * directions).astype(np.float32) for _ in range(checkpoints)]
    targets = [(generator.standard_normal((TARGETS, DIM)) * directions).astype(np.float32) for _ in range(checkpoints)]
    outputs = [generator.normal(2, 3, ROWS).astype(np.float32) for _ in range(checkpoints)]
    out_to_loss = [(1 / (1 + np.exp(f.astype(np.float64)))).astype(np.float32) for f in outputs]
    masks = np.stack([generator.permutation(ROWS) < ROWS // 2 for _ in range(SUBSETS)])
    terms = None
    if with_terms:
        out_to_loss = [generator.random(ROWS).astype(np.float32) for _ in range(checkpoints)]
        counts = generator.integers(1, 9, ROWS).astype(np.float32)
        rows = [(generator.standard_normal((ROWS, DIM)) * directions[::-1]).astype(np.float32) for _ in range(checkpoints)]
        terms = [Terms(one, counts) for one in rows]
    if residuals:
        out_to_loss = [generator.standard_normal(ROWS).astype(np.float32) for _ in range(checkpoints)]
    store = SyntheticStore(root, train, outputs, out_to_loss, targets, masks, terms)
    _write(store)
    return store


def _write(store: SyntheticStore) -> None:
    layout = Layout(store.root)
    plan = {"version": 3, "engine": "loop", "microbatch": 8, "shard_rows": SHARD_ROWS, "strategies": {}, "measured": []}
    write_json_once(layout.plan, plan)
    write_json_once(layout.split("train"), {"rows": ROWS})
    write_json_once(layout.split("test"), {"rows": TARGETS})
    for number, (X, T) in enumerate(zip(store.train, store.targets, strict=True)):
        fingerprint = {
            "kind": "features",
            "format": FORMAT_VERSION,
            "checkpoint": f"{number:064}",
            "projection": {"dim": DIM},
            "dtype": "float32",
            **({} if store.terms is None else {"terms": {"signs": 1}}),
        }
        name = f"c{number}"
        write_json_once(layout.fingerprint(name), fingerprint)
        nothing = np.zeros(TARGETS, np.float32)
        for split, columns in (
            ("train", (X, store.out_to_loss[number], store.outputs[number])),
            ("test", (T, nothing, nothing)),
        ):
            for index, rows in enumerate(shards_of(len(columns[0]), SHARD_ROWS)):
                part = [column[rows.start : rows.stop] for column in columns]
                ids = np.arange(rows.start, rows.stop, dtype=np.uint64)
                values = FeatureRows(Rows(rows.start, rows.stop), part[0], part[1], part[2], ids)
                if store.terms is not None and split == "train":
                    own = [column[rows.start : rows.stop] for column in store.terms[number]]
                    values = replace(values, term_features=own[0], terms=own[1])
                path = layout.features(name, split, index)
                write_features(path, values, {**fingerprint, "split": split}, {}, "float32")
