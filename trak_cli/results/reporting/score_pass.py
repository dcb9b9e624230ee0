"""The highest and lowest scores of chosen targets, and the distribution of all their scores, from one pass over the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trak_cli.attribution.histogram import Histograms
from trak_cli.attribution.topk import TopBottom, TopK
from trak_cli.results.scored import Scored
from trak_cli.stages.scoring.score_reader import read_rows


@dataclass(frozen=True)
class ScoreEnds:
    """Scores of several targets.

    Attributes:
        ends: the k highest and lowest of each target.
        histograms: of all scores of each target; None if only the ends are stored.
    """

    ends: list[TopBottom]
    histograms: Histograms | None


def read_ends(scored: Scored, positions: Sequence[int], k: int) -> ScoreEnds:
    """The ends and histograms at these positions among the scores.

    Raises:
        ConfigError: fewer than k were kept.
        StoreError: a file is missing or damaged.
    """
    if not scored.dense:
        return ScoreEnds(scored.extremes(positions, k), None)
    histograms, ends = Histograms(len(positions)), dict[int, TopBottom]()
    for places, blocks in read_rows(scored.path, positions):
        best = TopK(len(places), k)
        for rows, scores in blocks:
            best.update(scores, rows.start)
            histograms.update(places, scores)
        ends |= zip(places.tolist(), best.result().each(), strict=True)
    return ScoreEnds([ends[place] for place in range(len(positions))], histograms)
