"""The projection as its formula reads: slow, in float64, with the matrix written out. Kernels are tested against it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trak_cli.projection.definition import UInt32, block_key, rademacher, tensor_key, words
from trak_cli.projection.gaussian_table import GAUSSIAN_TABLE
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock, FactorBlock, Float64, IntArray, RowBlock


def matrix(spec: ProjectionSpec, checkpoint: str, name: str, rows: range | npt.ArrayLike) -> Float64:
    """Rows of one parameter's part of P.

    Args:
        spec: a random kind (``none`` has no random matrix).
        checkpoint: SHA-256 of the checkpoint file, hexadecimal.
        name: canonical parameter name.
        rows: coordinates inside the flattened parameter, any size up to 2^63 - 1, in any order.

    Returns:
        (len(rows), spec.dim) float64.
    """
    i = np.array(rows, dtype=np.int64)
    T = tensor_key(spec.seed, checkpoint, name)
    if spec.kind == "rademacher":
        return rademacher(T, i, np.arange(spec.dim))
    if spec.kind == "gaussian":
        return gaussian(T, i, np.arange(spec.dim))
    if spec.kind == "sjlt":
        P = np.zeros((len(i), spec.dim))
        column, value = sjlt(T, i, spec.dim, spec.nonzeros)
        np.put_along_axis(P, column, value, axis=1)
        return P
    raise ValueError(f"projection kind {spec.kind!r} has no random matrix")


def factored_matrix(spec: ProjectionSpec, checkpoint: str, name: str, shape: tuple[int, int]) -> Float64:
    """One weight's part of P for kind ``factored``, by the Kronecker product: (m·n, spec.dim) float64.

    Args:
        spec: kind ``factored`` with ``factors`` given.
        shape: (m, n) of the weight.
    """
    assert spec.factors is not None
    T = tensor_key(spec.seed, checkpoint, name)
    sides = []
    for length, columns, side in zip(shape, spec.factors, ("left", "right"), strict=True):
        whole = columns >= length
        random = rademacher(T, np.arange(length), np.arange(columns), side) / np.sqrt(columns)
        sides.append(np.eye(length) if whole else random)
    both = np.kron(sides[0], sides[1])
    return both @ matrix(replace(spec, kind="sjlt"), checkpoint, name, range(both.shape[1]))


def project(spec: ProjectionSpec, checkpoint: str, blocks: Iterable[AnyBlock]) -> Float64:
    """Σ_blocks G_block · P_block: (B, spec.dim) float64. Holds the matrix of one block at a time; no 1/√p."""
    total: Float64 = np.zeros((1, spec.dim))
    for block in blocks:
        if isinstance(block, RowBlock):
            total = total + _project_rows(spec, checkpoint, block)
            continue
        block = block.dense() if isinstance(block, FactorBlock) else block
        G = block.gradient.detach().double().cpu().numpy()
        P = matrix(spec, checkpoint, block.name, range(block.offset, block.offset + G.shape[1]))
        total = total + G @ P
    return total


def _project_rows(spec: ProjectionSpec, checkpoint: str, block: RowBlock) -> Float64:
    total: Float64 = np.zeros((block.batch, spec.dim))
    width = block.values.shape[1]
    for sample, row, values in zip(block.sample.tolist(), block.row.tolist(), block.values.double().cpu().numpy(), strict=True):
        total[sample] += values @ matrix(spec, checkpoint, block.name, range(row * width, (row + 1) * width))
    return total


def _bits(word: UInt32, shift: npt.NDArray[Any], mask: int) -> UInt32:
    """The bits of each word above ``shift``, cut to ``mask``."""
    return (word >> shift.astype(np.uint32)) & np.uint32(mask)


def gaussian(T: int, rows: IntArray, columns: IntArray) -> Float64:
    """Entries of the Gaussian matrix, of mean 0 and variance 1: (len(rows), len(columns)) float64."""
    word = words(block_key(T, "gaussian", rows // 4), columns)
    return GAUSSIAN_TABLE[_bits(word, 8 * (rows[:, None] % 4), 255)]


def sjlt(T: int, rows: IntArray, dim: int, nonzeros: int) -> tuple[IntArray, Float64]:
    """The s = ``nonzeros`` entries of each row of the sparse matrix: columns (len(rows), s) int64 and values float64.

    The s columns of a row are distinct: they lie in s disjoint ranges of dim/s columns. ``dim`` must be divisible by
    16·``nonzeros``.
    """
    r = np.arange(nonzeros)
    n = dim // (16 * nonzeros)
    word = words(block_key(T, "sjlt", rows // 16), np.arange(2 * nonzeros))
    w1, w2 = word[:, 0::2], word[:, 1::2]
    lane = (rows % 16)[:, None]
    bucket = ((w2.astype(np.uint64) * np.uint64(n)) >> np.uint64(32)).astype(np.int64)
    column = 16 * (r * n + bucket) + (lane ^ (w1 & np.uint32(15)).astype(np.int64))
    sign = np.where(_bits(w1, 16 + lane, 1) == 1, -1.0, 1.0)
    return column, sign * math.sqrt(dim / nonzeros)
