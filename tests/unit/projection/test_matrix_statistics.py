"""Whether the hash is good enough to stand for independent random entries. Seeds are fixed: these tests never flicker."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from projection_oracle import matrix, sjlt

from trak_cli.projection.definition import block_key, tensor_key, words
from trak_cli.projection.gaussian_table import GAUSSIAN_TABLE
from trak_cli.projection.spec import ProjectionSpec

CHECKPOINT = "c3" * 32
KURTOSIS = {"rademacher": 1.0, "gaussian": float(np.mean(GAUSSIAN_TABLE**4))}
RANDOM_KINDS = ("rademacher", "gaussian", "sjlt")


def vectors(shape: str, count: int, p: int) -> npt.NDArray[np.float64]:
    """Unit vectors (count, p) of the shapes that gradients take."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((count, p))
    if shape == "sparse":
        X *= rng.random((count, p)) < 0.02
    if shape == "dominated":
        X *= np.exp(3 * rng.standard_normal(p))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def relative_error(kind: str, X: npt.NDArray[np.float64], k: int, nonzeros: int = 1, seeds: int = 5) -> npt.NDArray[np.float64]:
    """(seeds, pairs): (⟨Pᵀx, Pᵀy⟩/k − ⟨x, y⟩)·√k for every pair of unit vectors."""
    upper = np.triu_indices(len(X), 1)
    errors = []
    for seed in range(seeds):
        Y = X @ matrix(ProjectionSpec(kind, k, seed, nonzeros), CHECKPOINT, "w", range(X.shape[1]))
        errors.append(((Y @ Y.T) / k - X @ X.T)[upper] * math.sqrt(k))
    return np.array(errors)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
@pytest.mark.parametrize("shape", ["spread", "sparse", "dominated"])
def test_dense_inner_products_err_as_independent_entries_would(kind: str, shape: str) -> None:
    # Where few coordinates dominate, all pairs share them and so err together: a draw is worth less, and more are made.
    p, k, seeds = (301, 64, 500) if shape == "dominated" else (3001, 512, 5)
    X = vectors(shape, 64, p)
    upper = np.triu_indices(len(X), 1)
    # For independent columns of entries with fourth moment κ: k·Var = 1 + ⟨x, y⟩² + (κ − 3) Σ x²y².
    variance = (1 + (X @ X.T) ** 2 + (KURTOSIS[kind] - 3) * (X**2 @ (X**2).T))[upper]
    error = relative_error(kind, X, k, seeds=seeds)
    assert 0.95 < math.sqrt(np.mean(error**2 / variance)) < 1.05
    if shape != "dominated":
        assert 0.95 < math.sqrt(np.mean(error**2)) < 1.05


@pytest.mark.parametrize("nonzeros", [1, 2, 4, 8])
def test_sparse_inner_products_keep_the_countsketch_bound(nonzeros: int) -> None:
    error = relative_error("sjlt", vectors("spread", 64, 3001), 512, nonzeros)
    assert 0.85 < math.sqrt(np.mean(error**2)) < 1.06


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_the_expected_gram_matrix_is_k_times_the_identity(kind: str) -> None:
    k, seeds = 256, 150
    grams = [P @ P.T for P in (matrix(ProjectionSpec(kind, k, s, 2), CHECKPOINT, "w", range(96)) for s in range(seeds))]
    mean = np.mean(grams, axis=0)
    assert np.max(np.abs(mean - k * np.eye(96))) < 5.5 * math.sqrt(2 * k / seeds)


def test_bits_of_a_word_are_fair_and_uncorrelated() -> None:
    T = tensor_key(0, CHECKPOINT, "w")
    word = words(block_key(T, "rademacher", np.arange(512)), np.arange(256)).ravel()
    bits = 1.0 - 2.0 * ((word[:, None] >> np.arange(32, dtype=np.uint32)) & 1)
    sigma = 1 / math.sqrt(len(word))
    assert np.max(np.abs(bits.mean(axis=0))) < 5 * sigma
    correlation = bits.T @ bits / len(word) - np.eye(32)
    assert np.max(np.abs(correlation)) < 5 * sigma


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_columns_are_uncorrelated(kind: str) -> None:
    P = matrix(ProjectionSpec(kind, 192, 0, 4), CHECKPOINT, "w", range(20_000))
    correlation = P.T @ P / len(P) - np.eye(192) * np.mean(P**2, axis=0)
    assert np.max(np.abs(correlation)) < 5 / math.sqrt(len(P))


@pytest.mark.parametrize("kind", RANDOM_KINDS)
@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 8, 16, 31, 32, 33, 64, 1024, 8192])
def test_rows_and_blocks_are_uncorrelated(kind: str, lag: int) -> None:
    P = matrix(ProjectionSpec(kind, 64), CHECKPOINT, "w", range(lag + 4096))
    assert abs(np.mean(P[lag:] * P[:-lag])) < 5 / math.sqrt(P[lag:].size)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
@pytest.mark.parametrize("lag", [1, 2, 4, 16, 256, 1024])
def test_columns_far_apart_are_uncorrelated(kind: str, lag: int) -> None:
    P = matrix(ProjectionSpec(kind, 1280), CHECKPOINT, "w", range(512))
    assert abs(np.mean(P[:, lag:] * P[:, :-lag])) < 5 / math.sqrt(P[:, lag:].size)


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_tensors_checkpoints_and_seeds_are_uncorrelated(kind: str) -> None:
    neighbour = CHECKPOINT[:-1] + "2"
    choices = [(0, CHECKPOINT, "w"), (1, CHECKPOINT, "w"), (0, neighbour, "w"), (0, CHECKPOINT, "w1"), (0, CHECKPOINT, "b")]
    parts = [
        matrix(ProjectionSpec(kind, 128, seed), checkpoint, name, range(3000)).ravel() for seed, checkpoint, name in choices
    ]
    correlation = np.array(parts) @ np.array(parts).T / parts[0].size
    assert np.max(np.abs(correlation - np.diag(np.diag(correlation)))) < 5 / math.sqrt(parts[0].size)


def test_sparse_entries_fall_evenly_on_columns_and_pairs_collide_rarely_enough() -> None:
    rows, k, s = 64_000, 512, 2
    column, _ = sjlt(tensor_key(0, CHECKPOINT, "w"), np.arange(rows), k, s)
    count = np.bincount(column.ravel(), minlength=k)
    expected = rows * s / k
    assert np.max(np.abs(count - expected)) < 5 * math.sqrt(expected)
    # Two rows of one group never meet; two of different groups meet in a range of k/s columns with chance s/k.
    meet = np.mean(column[:-16:16] == column[16::16])
    assert meet < s / k + 5 * math.sqrt(s / k / (rows / 16 * s))
    group = column[:16]
    assert all(len(set(group[:, r].tolist())) == 16 for r in range(s))
