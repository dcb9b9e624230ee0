"""Histograms of the scores of many targets, from blocks in any order, without knowing their range beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trak_cli.types import Float32, Float64, IntArray

#: Exponent of the range of a target whose scores are all zero, and the least one.
_LEAST = -160


class Histograms:
    """One histogram for each target: ``bins`` bins of equal width between −2^e and 2^e, with the least e that holds all scores.

    The bins of a smaller range are parts of those of a larger one, so the counts do not depend on the order of the blocks.

    Args:
        targets: t, their number.
        bins: an even number.
    """

    def __init__(self, targets: int, bins: int = 64) -> None:
        if bins < 2 or bins % 2:
            raise ValueError(f"{bins} bins: expected an even number")
        self._half = bins // 2
        self._counts: IntArray = np.zeros((targets, bins), np.int64)
        self._exponents: IntArray = np.full(targets, _LEAST, np.int64)

    @property
    def counts(self) -> IntArray:
        """(t, bins): the number of scores in each bin, the lowest first."""
        return self._counts

    @property
    def reaches(self) -> list[float]:
        """2^e of each target."""
        return [float(2.0**exponent) for exponent in self._exponents]

    def update(self, places: IntArray, scores: Float32) -> None:
        """Add scores.

        Args:
            places: (m,) different targets, 0 to t − 1.
            scores: (m, r) finite scores of these targets.
        """
        if not scores.size:
            return
        _, needed = np.frexp(np.abs(scores).max(axis=1).astype(np.float64))  # the largest score is below 2^needed
        for place, exponent in zip(places, needed, strict=True):
            self._widen(int(place), max(int(exponent), _LEAST))
        scale = self._half / np.exp2(self._exponents[places].astype(np.float64))
        bins = np.floor(scores.astype(np.float64) * scale[:, None]).astype(np.int64) + self._half
        width = 2 * self._half
        flat = (np.arange(len(places))[:, None] * width + bins).ravel()
        self._counts[places] += np.bincount(flat, minlength=len(places) * width).reshape(len(places), width)

    def _widen(self, place: int, exponent: int) -> None:
        """Merge the bins of a target into those of the range 2^exponent, if that is larger."""
        steps = exponent - int(self._exponents[place])
        if steps <= 0:
            return
        offsets = np.arange(-self._half, self._half) >> min(steps, 62)
        self._counts[place] = np.bincount(offsets + self._half, self._counts[place], 2 * self._half).astype(np.int64)
        self._exponents[place] = exponent


def pooled(counts: IntArray, reaches: Sequence[float], bins: int = 61, span: float = 12.0) -> tuple[Float64, Float64]:
    """Histograms of several targets as one, each in units of its own standard deviation.

    Args:
        counts: (t, b) histograms, that of target i between −``reaches[i]`` and ``reaches[i]``.
        bins, span: of the result: from −``span`` to ``span`` standard deviations; scores beyond that count in the last bins.

    Returns:
        (bins,) centres, and the share of the scores in each bin.
    """
    edges = np.linspace(-span, span, bins + 1)
    total = np.zeros(bins)
    for row, reach in zip(counts, reaches, strict=True):
        width = 2 * reach / len(row)
        centres = -reach + width * (np.arange(len(row)) + 0.5)
        mean = np.average(centres, weights=row)
        deviation = float(np.sqrt(np.average((centres - mean) ** 2, weights=row) + width**2 / 12))
        lows, highs = (centres - width / 2) / deviation, (centres + width / 2) / deviation
        cover = np.clip(np.minimum(highs[:, None], edges[1:]) - np.maximum(lows[:, None], edges[:-1]), 0, None)
        shares = cover / (width / deviation)
        shares[:, 0] += np.clip(edges[0] - lows, 0, highs - lows) / (highs - lows)
        shares[:, -1] += np.clip(highs - edges[-1], 0, highs - lows) / (highs - lows)
        total += row @ shares
    return (edges[1:] + edges[:-1]) / 2, total / total.sum()
