"""What is known about the training rows that compressed features chose, where not all rows were scored."""

from __future__ import annotations

from dataclasses import dataclass

from trak_cli.plurals import counted
from trak_cli.stages.compressing.recall import MOST, Recall
from trak_cli.types import IntArray


@dataclass(frozen=True)
class CandidateSummary:
    """The training rows that were scored.

    Attributes:
        count: rows of each end of every target that approximate scores chose.
        scored: how many rows these are together.
        recall: the share of the highest and lowest scores, as many as are shown (at most 100), that this many candidates
            contained when `trak compress` measured it; None if it did not, for this estimator.
        targets: how many targets it was measured with; None likewise.
        split: whose targets these were; None likewise.
    """

    count: int
    scored: int
    recall: float | None
    targets: int | None
    split: str | None


@dataclass(frozen=True)
class Candidates:
    """The training rows that were scored, where not all of them were.

    Attributes:
        count: rows with the highest approximate scores, and as many with the lowest, of every target.
        rows: (m,) all of these rows, in ascending order.
        recall: measured by `trak compress`; None if it was not measured for this estimator.
    """

    count: int
    rows: IntArray
    recall: Recall | None

    def summary(self, k: int) -> CandidateSummary:
        """What is known about the k highest and k lowest scores."""
        recall = self.recall
        if recall is None:
            return CandidateSummary(self.count, len(self.rows), None, None, None)
        return CandidateSummary(self.count, len(self.rows), recall.of(k, self.count), len(recall.ranks), recall.split)

    def sentence(self, rows: int, k: int) -> str:
        """The same in a sentence; ``rows``: of the training set."""
        found = self.summary(k)
        scored = f"{found.scored:,} of {rows:,} training rows scored, the {found.count:,} best candidates of each end"
        if found.recall is None:
            return f"{scored}; their recall was not measured for this estimator: run trak compress with the same configuration"
        extremes = f"the {min(k, MOST)} highest and lowest scores of {counted(found.targets or 0, 'target')}"
        return f"{scored}; trak compress found {found.recall:.1%} of {extremes} of {found.split} among so many"
