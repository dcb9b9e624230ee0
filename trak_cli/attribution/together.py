"""A group of training samples that had the largest effect together, and not one by one.

Scores are effects of single samples: when one of several that say the same is taken out, the others make up for it, and each
of them has a small score. When all are taken out nothing makes up for them. So a group is chosen one sample after another: the
one with the highest score, then the one with the highest score under a Gram matrix without it, and so on (adaptive greedy
selection; Hu et al., arXiv 2409.18153, show where the highest single scores fail). Without the group S, f falls by about

    Σ_{i∈S} [t A_S⁻¹ x_i] · front_i,      A_S = A − Σ_{i∈S} u_i u_iᵀ,

one step of Newton's method from the full training set; u_i is the row that sample i has in the Gram matrix A. It is exact for
ridge regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trak_cli.types import Float64, IntArray


@dataclass(frozen=True)
class Candidates:
    """What one checkpoint says of one target and c training samples; all float64.

    Attributes:
        score: (c,) t A⁻¹ x_i, without the front.
        reach: (c,) t A⁻¹ u_j.
        cross: (c, c) u_j A⁻¹ x_i.
        own: (c, c) u_j A⁻¹ u_i.
    """

    score: Float64
    reach: Float64
    cross: Float64
    own: Float64

    def without(self, j: int) -> Candidates:
        """The same under the Gram matrix without u_j u_jᵀ (Sherman and Morrison)."""
        column = self.own[:, j] / (1 - self.own[j, j])
        return Candidates(
            self.score + self.reach[j] / (1 - self.own[j, j]) * self.cross[j],
            self.reach + self.reach[j] * column,
            self.cross + np.outer(column, self.cross[j]),
            self.own + np.outer(column, self.own[j]),
        )


@dataclass(frozen=True)
class Group:
    """Samples that were chosen together.

    Attributes:
        chosen: places among the candidates, in the order of the choice.
        scores: what each one's score was when it was chosen.
        effect: by how much f falls without all of them, as far as this tells: in the unit of scores.
    """

    chosen: IntArray
    scores: Float64
    effect: float


def choose_group(checkpoints: Sequence[Candidates], front: Float64, size: int) -> Group:
    """The ``size`` candidates whose removal lowers f of the target the most, found greedily.

    Args:
        checkpoints: what each says of the same candidates; they are averaged.
        front: (c,), or (checkpoints, c), the factor of each candidate, as :func:`~trak_cli.attribution.scores.front` gives it.
        size: at most c.
    """
    state = list(checkpoints)
    factor = np.broadcast_to(front, (len(state), front.shape[-1]))
    chosen: list[int] = []
    scores: list[float] = []
    free = np.ones(front.shape[-1], dtype=np.bool_)
    for _ in range(size):
        found = _mean(state, factor)
        best = int(np.argmax(np.where(free, found, -np.inf)))
        chosen.append(best)
        scores.append(float(found[best]))
        free[best] = False
        state = [one.without(best) for one in state]
    effect = float(_mean(state, factor)[chosen].sum())
    return Group(np.array(chosen, dtype=np.int64), np.array(scores), effect)


def _mean(state: Sequence[Candidates], factor: Float64) -> Float64:
    mean: Float64 = np.mean([one.score * row for one, row in zip(state, factor, strict=True)], axis=0)
    return mean
