"""The projection as its formula reads: slow, in float64, with the matrix written out. Kernels are tested against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from trak_cli.projection.definition import gaussian, rademacher, sjlt, tensor_key
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock, FactorBlock, Float64, RowBlock


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
