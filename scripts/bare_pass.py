"""The arithmetic of `trak finalize` and `trak score` on plain reads: what scripts/bench_scale.py compares the stages with.

Shards are read as bytes, and their values taken from the places where HDF5 has them: no digest, no HDF5, no check, no thread,
and no file is written. The products are those of the stages, in the same dtypes, in buffers that are used again:

- finalize reads all shards for the rows of the simulated training and simulates it, and reads them again for the float64
  product with its parameters (q̄) and the float64 product XᵀX of 1,024 rows at a time; then the eigendecomposition.
- score reads all shards once, for the float32 products with the targets and with the targets at unit length (shrinkage), the
  factors of the scores in float64, and the highest and lowest k.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from trak_cli.attribution.estimator.simulated_training import flow_rows, simulate
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.scores import TargetFactor
from trak_cli.attribution.topk import TopBottom, TopK
from trak_cli.types import Float32, Float64

COLUMNS = ("features", "out_to_loss", "outputs")


@dataclass
class Plain:
    """The training shards of a store of float32 or bfloat16 features, read without any check."""

    paths: list[Path]
    dim: int

    def __iter__(self) -> Iterator[tuple[int, dict[str, Float32]]]:
        """(first row, columns) of every shard; the arrays are valid until the next."""
        rows, places, buffer = 0, {}, np.empty(0, np.float32)
        for path in self.paths:
            data = path.read_bytes()
            if rows == 0 or path == self.paths[-1]:
                places = _places(path)
            columns = {}
            for name, (dtype, shape, offset) in places.items():
                values = np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape)
                if dtype == np.uint16:
                    buffer = buffer if buffer.shape == shape else np.empty(shape, np.float32)
                    bits = buffer.view(np.uint32)
                    bits[:] = values
                    bits <<= 16
                    values = buffer
                columns[name] = values
            yield rows, columns
            rows += len(columns["outputs"])


def _places(path: Path) -> dict[str, tuple[np.dtype, tuple[int, ...], int]]:
    with h5py.File(path) as file:
        return {name: (file[name].dtype, file[name].shape, file[name].id.get_offset()) for name in COLUMNS}


def finalize(shards: Plain, rows: int, spec: EstimatorSpec) -> tuple[Float64, Float64, Float32]:
    """Eigenvalues, eigenvectors and q̄."""
    threshold, times, parameters = math.inf, np.zeros(0), np.zeros((shards.dim, 0))
    if spec.simulates_training:
        wanted, parts = flow_rows(rows), []
        for start, shard in shards:
            some = wanted[(wanted >= start) & (wanted < start + len(shard["outputs"]))] - start
            parts.append((shard["features"][some], shard["outputs"][some]))
        features, outputs = (np.concatenate(one) for one in zip(*parts, strict=True))
        lengths = np.sqrt(np.einsum("rk,rk->r", features, features, dtype=np.float64))
        threshold = spec.clip_norm * float(np.median(lengths)) if spec.clip_norm else math.inf
        features *= np.minimum(1, threshold / lengths)[:, None].astype(np.float32)
        training = simulate(features, outputs, rows)
        times, parameters = training.times, training.parameters
    total, chunk, product = np.zeros((shards.dim, shards.dim)), np.empty((1024, shards.dim)), np.empty((shards.dim, shards.dim))
    weights = []
    for _, shard in shards:
        features, block = shard["features"], chunk[: len(shard["features"])]
        block[:] = features
        squares = np.einsum("rk,rk->r", block, block)
        if spec.clip_norm:
            block *= np.minimum(1, threshold / np.sqrt(squares))[:, None]
        if spec.simulates_training:
            steps = 0.5 * (1 - np.tanh(block @ parameters / 2))
            q = (steps[:, :-1] + steps[:, 1:]) @ np.diff(times) / (2 * times[-1])
            block *= np.sqrt(q**spec.gram_exponent)[:, None]
            weights.append(q.astype(np.float32))
        total += np.matmul(block.T, block, out=product)
    values, vectors = np.linalg.eigh(total)
    return values, vectors, np.concatenate(weights) if weights else np.zeros(0, np.float32)


def score(shards: Plain, factor: TargetFactor, q: Float32 | None, shrinkage: float, k: int) -> TopBottom:
    """The highest and lowest scores; ``q``: of all training samples, None for that of the shards."""
    best = TopK(len(factor.rows), k)
    for start, shard in shards:
        features = shard["features"]
        weight = shard["out_to_loss"] if q is None else q[start : start + len(features)]
        products = factor.stacked @ features.T
        scores = products[: len(factor.scale)] * factor.scale
        scores *= weight
        if factor.unit is not None or math.isfinite(factor.clip_threshold):
            lengths = np.sqrt(np.einsum("rk,rk->r", features, features))
            scores *= np.minimum(1, factor.clip_threshold / lengths)
        if factor.unit is not None:
            cosine = products[len(factor.scale) :]
            cosine /= lengths
            np.abs(cosine, out=cosine)
            scores *= cosine / (cosine + np.float32(shrinkage))
        best.update(scores.astype(np.float32), start)
    return best.result()
