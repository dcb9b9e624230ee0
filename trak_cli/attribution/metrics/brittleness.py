"""The smallest removal of helpful samples that flips a prediction."""

from __future__ import annotations

import numpy as np

from trak_cli.types import BoolArray, Float64, IntArray


def smallest_flips(counts: IntArray, flipped: BoolArray) -> Float64:
    """For every target, the smallest number of removed samples that flips its prediction; inf where none of them does: (t,).

    min {k ∈ counts: the model trained without the k highest scores of j predicts another class than the label of j}:
    ``brittleness`` of dattri, after Ilyas et al. 2022 (arXiv 2202.00622, section 3). Less is better.

    Args:
        counts: (c,) numbers of removed samples, different from one another.
        flipped: (c, t) whether the prediction for a target is flipped without its ``counts`` highest scores.
    """
    smallest: Float64 = np.where(flipped, counts[:, None].astype(np.float64), np.inf).min(axis=0)
    return smallest
