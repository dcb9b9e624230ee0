"""Quality on the reference ground truth: LDS with no ground truth used, mean over projection seeds.

All seeds and ten checkpoints take ten minutes or more: that is what ``TRAK_REQUIRE=quality`` asks for. Without it, one of each.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from reference_data import gradients
from scores_oracle import weights_of

from trak_cli.attribution.estimator.rows import clip_threshold, training_rows, unit_rows
from trak_cli.attribution.estimator.shrinkage import cosines, shrinkage_factor
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.lds.lds import lds
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.attribution.scores import sample_weight, score_block, target_factor
from trak_cli.config.estimators import shipped_estimators
from trak_cli.config.schema import TrakConfig
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block, Float32, Float64

THOROUGH = "quality" in os.environ.get("TRAK_REQUIRE", "").split(",")
COUNTS = (1, 5, 10) if THOROUGH else (1,)
#: (estimator, what the checkpoints were trained on, projection seeds): LDS with 1, 5 and 10 checkpoints that must be reached.
BARS = {
    ("early_training", "full", 5): (0.34, 0.45, 0.47),
    ("early_training", "half", 5): (0.45, 0.54, 0.55),
    ("balanced", "full", 2): (0.34, 0.44, 0.46),
    ("trak", "full", 2): (0.16, 0.24, 0.26),
}


class Found(NamedTuple):
    """Features of the training set (1200, k) and of the targets (200, k), f and q (1200,) of one checkpoint."""

    train: Float32
    targets: Float32
    outputs: Float32
    out_to_loss: Float32


@functools.lru_cache(maxsize=2)
def features(reference: Path, checkpoint: Path, seeds: int, dim: int = TrakConfig().projection.dim) -> list[Found]:
    """With the default projection, for each projection seed."""
    split = np.load(reference / "split.npz")
    n = len(split["train_index"])
    found = gradients(checkpoint, np.concatenate([split["train_index"], split["target_index"]]))
    p = found.gradients.shape[1]
    default = TrakConfig().projection
    every = []
    for seed in range(seeds):
        spec = ProjectionSpec(default.kind, dim, seed, default.nonzeros)
        projector = make_projector(ProjectionJob(spec, sha256(checkpoint), {"all": p}))
        rows = (projector.project([Block("all", found.gradients)]) / p**0.5).numpy()
        every.append(Found(rows[:n], rows[n:], found.outputs[:n], found.out_to_loss[:n]))
    return every


def kernel_and_weight(spec: EstimatorSpec, found: Found) -> tuple[Float64, Float64]:
    """What one checkpoint adds to the two averages, which are shrunk at last."""
    limit = clip_threshold(spec, found.train)
    rows = training_rows(spec, found.train, limit)
    weights = weights_of(spec, rows, found.out_to_loss, found.outputs)
    gram = GramSum(found.train.shape[1])
    gram.add(rows, weights.gram, outputs=found.outputs)
    spectrum = decompose(gram.result())
    plain = replace(spec, shrinkage=0.0)
    factor = target_factor(plain, found.targets, spectrum, spec.ridge_in(spectrum), limit)
    block = score_block(plain, [factor], [found.train], np.ones(len(found.train)))
    # One factor for each target is left out: no LDS sees it.
    return (block / factor.length if spec.normalize_targets else block).astype(np.float64), weights.sample


@pytest.mark.slow
@pytest.mark.timeout(3600 if THOROUGH else 300)
@pytest.mark.parametrize(("name", "trained_on", "seeds"), BARS)
def test_lds_with_the_default_projection(reference: Path, name: str, trained_on: str, seeds: int) -> None:
    truth = np.load(reference / "groundtruth.npz")
    spec = shipped_estimators()[name]
    bars, seeds = BARS[name, trained_on, seeds][: len(COUNTS)], seeds if THOROUGH else 1
    kernels: list[Float64] = [np.zeros(())] * seeds
    alike: list[Float64] = [np.zeros(())] * seeds
    weights: list[list[Float64]] = [[] for _ in range(seeds)]
    measured = []
    for number in range(1, max(COUNTS) + 1):
        for seed, found in enumerate(features(reference, reference / f"{trained_on}_{number - 1}.pt", seeds)):
            kernel, ratio = kernel_and_weight(spec, found)
            kernels[seed] = kernels[seed] + kernel
            alike[seed] = alike[seed] + cosines(unit_rows(found.targets), found.train)
            weights[seed].append(ratio)
        if number in COUNTS:
            scores = [kernel / number * sample_weight(spec, ratios) for kernel, ratios in zip(kernels, weights, strict=True)]
            if spec.shrinkage:
                factors = [shrinkage_factor(cosine / number, spec.shrinkage, number) for cosine in alike]
                scores = [one * factor for one, factor in zip(scores, factors, strict=True)]
            measured.append(float(np.mean([lds(one, truth["masks"], truth["outputs"]).mean for one in scores])))
    print(name, trained_on, [round(value, 3) for value in measured])
    assert all(value >= bar for value, bar in zip(measured, bars, strict=True)), measured
