"""Features in 2 bits each, for scores that are good enough to choose which rows are scored exactly.

Rows are brought to unit length and whitened, z = Tᵀ x / |x|, with T from a sample of rows: every direction then has the same
spread, so that the relative error of x·q is about the same for every q, whatever the metric of the estimator. T ends with a
random rotation, after which the coordinates of any row are close to normal, and four levels fit all of them (as in Gao & Long
2024, RaBitQ; Zandieh et al. 2025, TurboQuant). Then

    x·q  ≈  |x| g (levels · T⁻¹ q),      g = (z · levels) / |levels|²,

where the error has a standard deviation of about a third of that of x·q over all rows. The sign and the size of x·q are kept,
so that the same rows serve the highest and the lowest scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trak_cli.attribution.estimator.rows import clip_factors, lengths_of_rows, unit_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.scores import Products, TargetFactor
from trak_cli.types import Float32, Float64, IntArray

#: Part of fingerprints: raise it when codes or the basis change.
COMPRESSION_VERSION = 1

#: Codes in a byte.
PER_BYTE = 4

#: Distance of the four levels in standard deviations: the best of equally spaced ones for normal values.
_STEP = np.float32(0.9957)

#: Rows that are multiplied at a time.
_BLOCK = 512

#: Seed of the random rotation, which is stored with the basis.
_SEED = 20_240_521

#: The four levels of each byte, (256, 4), as one 16-byte value each, which NumPy copies as a whole.
_LEVELS = (((np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3) - np.float32(1.5)).astype(np.float32) * _STEP
_LEVELS_OF_BYTE = _LEVELS.view(np.complex128)[:, 0]


class Basis(NamedTuple):
    """The matrices T and T⁻¹, (k, k) float32."""

    forward: Float32
    backward: Float32


class CompressedRows(NamedTuple):
    """Some rows.

    Attributes:
        codes: (r, ⌈k / 4⌉) uint8, four codes of 2 bits in each byte.
        scales: (r,) float32, g.
        lengths: (r,) float32, |x|.
    """

    codes: npt.NDArray[np.uint8]
    scales: Float32
    lengths: Float32

    def at(self, some: slice | IntArray) -> CompressedRows:
        """Some of these rows."""
        return CompressedRows(self.codes[some], self.scales[some], self.lengths[some])


@dataclass(frozen=True)
class CompressedTargets:
    """The targets of one checkpoint, ready to be multiplied by compressed rows.

    Attributes:
        factor: the same targets for features.
        stacked: the vectors of ``factor`` times T⁻¹, one column each, (4 ⌈k / 4⌉, vectors), with zeros after the first k rows.
    """

    factor: TargetFactor
    stacked: Float32

    @staticmethod
    def of(factor: TargetFactor, basis: Basis) -> CompressedTargets:
        vectors = basis.backward @ factor.stacked.T
        padding = -len(vectors) % PER_BYTE
        return CompressedTargets(factor, np.ascontiguousarray(np.pad(vectors, ((0, padding), (0, 0)))))

    def products(self, spec: EstimatorSpec, rows: CompressedRows) -> Products:
        """What :func:`trak_cli.attribution.scores.products` gives for the rows themselves, approximately."""
        targets = len(self.factor.scale)
        products = np.empty((self.stacked.shape[1], len(rows.codes)), np.float32)
        for start in range(0, len(rows.codes), _BLOCK):  # what a processor core keeps in its cache
            levels = levels_of(rows.codes[start : start + _BLOCK])
            products[:, start : start + _BLOCK] = (levels @ self.stacked).T
        products *= rows.scales
        kernel = products[:targets]
        if not spec.unit_norm:
            kernel *= rows.lengths
        threshold = self.factor.clip_threshold
        clip = None if math.isinf(threshold) else clip_factors(rows.lengths.astype(np.float64), threshold)
        return Products(kernel, products[targets:] if self.factor.unit is not None else None, clip)


def unit_gram(features: Float32) -> Float32:
    """The sum of u uᵀ over rows (r, k), each of them at unit length: (k, k)."""
    unit = unit_rows(features)
    gram: Float32 = unit.T @ unit
    return gram


def make_basis(gram: Float64, rows: int) -> Basis:
    """The basis for ``rows`` rows of which some have this sum of u uᵀ.

    Directions in which unit rows have less than k / rows of their mean square are not brought to the same spread: a ridge of
    the mean squared length, which is the default or half of it, makes them unimportant.
    """
    size = len(gram)
    trace = float(np.trace(gram)) or 1.0
    values, vectors = np.linalg.eigh(gram * (size / trace))
    spread = np.sqrt(values.clip(min=0) + min(1.0, size / rows))
    rotation, _ = np.linalg.qr(np.random.default_rng(_SEED).standard_normal((size, size)))
    forward = (vectors / spread) @ rotation
    backward = rotation.T @ (vectors * spread).T
    return Basis(forward.astype(np.float32), backward.astype(np.float32))


def compress(basis: Basis, features: Float32) -> CompressedRows:
    """Compress some rows (r, k); a row of zeros has the scale 0."""
    lengths = lengths_of_rows(features)
    white = unit_rows(features) @ basis.forward
    size = white.shape[1]
    step = _STEP * np.sqrt(np.einsum("rk,rk->r", white, white) / size)[:, None]
    codes = (white >= -step).astype(np.uint8)
    codes += white >= 0
    codes += white >= step
    packed = np.zeros((len(codes), -(-size // PER_BYTE)), np.uint8)
    for place in range(PER_BYTE):
        some = codes[:, place::PER_BYTE]
        packed[:, : some.shape[1]] |= some << (2 * place)
    levels = levels_of(packed)[:, :size]
    scales = np.einsum("rk,rk->r", white, levels) / np.einsum("rk,rk->r", levels, levels)
    return CompressedRows(packed, scales, lengths.clip(max=np.finfo(np.float32).max).astype(np.float32))


def levels_of(codes: npt.NDArray[np.uint8]) -> Float32:
    """The values that codes stand for, in standard deviations: (r, 4 · bytes of a row) float32."""
    return np.take(_LEVELS_OF_BYTE, codes).view(np.float32)
