"""Parity with the original library: the same features, the same weights, the same scores up to one positive factor."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from reference_data import gradients
from scores_oracle import scores

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.weights import weigh
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import decompose
from trak_cli.attribution.scores import sample_weight, score_block, target_factor
from trak_cli.types import Float32, Float64, FloatArray

PARAMETERS = 13_706
RIDGE = 0.01  # λ as the reference scores were computed with, added to XᵀX as it is
PAPER = EstimatorSpec("trak", ridge=RIDGE, ridge_unit="absolute")


@dataclass(frozen=True)
class Features:
    train: Float32
    targets: Float32
    out_to_loss: Float32


@functools.cache
def features(folder: Path, checkpoint: int) -> Features:
    """φ = gᵀP/√p with the fixed matrix of the reference, one per checkpoint."""
    split = np.load(folder / "split.npz")
    matrix = np.random.default_rng(checkpoint).standard_normal((PARAMETERS, 256)).astype(np.float32)
    train, _, weights = gradients(folder / f"full_{checkpoint}.pt", split["train_index"])
    targets = gradients(folder / f"full_{checkpoint}.pt", split["target_index"][::10]).gradients
    scale = np.float32(PARAMETERS**0.5)
    return Features(train.numpy() @ matrix / scale, targets.numpy() @ matrix / scale, weights)


def streamed(parts: list[Features], spec: EstimatorSpec, chunk: int = 100) -> FloatArray:
    """Scores by the pieces that the stages use: Gram summed in chunks, targets preconditioned, rows in blocks."""
    factors = []
    for part in parts:
        total = GramSum(part.train.shape[1])
        for start in range(0, len(part.train), chunk):
            rows = slice(start, start + chunk)
            total.add(part.train[rows], weigh(spec, None, part.train[rows], part.out_to_loss[rows]).gram)
        factors.append(target_factor(spec, part.targets, decompose(total.result()), RIDGE))
    weights = sample_weight(spec, [part.out_to_loss for part in parts])
    blocks = [
        score_block(spec, factors, (part.train[start : start + chunk] for part in parts), weights[start : start + chunk])
        for start in range(0, len(weights), chunk)
    ]
    return np.concatenate(blocks, axis=1)


def misfit(ours: FloatArray, theirs: FloatArray) -> float:
    """1 - Pearson correlation, and the factor between the two must be positive."""
    return 1 - float(np.corrcoef(ours.ravel().astype(np.float64), theirs.ravel().astype(np.float64))[0, 1])


@pytest.mark.parametrize("checkpoint", [0, 1])
def test_features_and_out_to_loss_are_the_original_librarys(shipped: Path, checkpoint: int) -> None:
    theirs = np.load(shipped / "trak_reference.npz")
    ours = features(shipped, checkpoint)
    expected = theirs["projected_first8"][checkpoint]
    error = np.linalg.norm(ours.train[:8] - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 1e-5
    np.testing.assert_allclose(ours.out_to_loss, theirs["out_to_loss"][checkpoint], atol=1e-6, rtol=0)


def test_scores_of_one_checkpoint_are_the_original_librarys(shipped: Path) -> None:
    theirs = np.load(shipped / "trak_reference.npz")["scores_1"].T
    one = features(shipped, 0)
    assert misfit(streamed([one], PAPER), theirs) < 1e-8
    assert misfit(scores(PAPER, [one.train], [one.out_to_loss], [one.targets]), theirs) < 1e-8


def test_scores_of_two_checkpoints_are_too_once_each_kernel_is_scaled_as_the_original_scales_it(shipped: Path) -> None:
    theirs = np.load(shipped / "trak_reference.npz")["scores_2"].T
    parts = [features(shipped, 0), features(shipped, 1)]
    kernels = []
    for part in parts:
        inverse = np.linalg.inv(part.train.T.astype(np.float64) @ part.train + RIDGE * np.eye(256))
        one = scores(PAPER, [part.train], [np.ones_like(part.out_to_loss)], [part.targets])
        kernels.append(one / np.abs(inverse).mean())
    ours: Float64 = np.mean(kernels, axis=0) * sample_weight(PAPER, [part.out_to_loss for part in parts])
    assert misfit(ours, theirs) < 1e-8
