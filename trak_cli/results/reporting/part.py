"""One target split of a report: its scores, the chosen targets with their ends, and the last evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trak_cli.config.load import Loaded
from trak_cli.report.payload import Target
from trak_cli.results.neighbours import helpful_and_harmful
from trak_cli.results.outputs.model_outputs import Outputs, read_outputs, scored_checkpoints
from trak_cli.results.reporting.reliability import LdsPanel, read_lds
from trak_cli.results.reporting.score_pass import ScoreEnds, read_ends
from trak_cli.results.reporting.targets import Choice, choose_targets
from trak_cli.results.scored import Scored, open_scored
from trak_cli.types import Json

#: Members of a group of targets that are shown.
_MEMBERS = 12


@dataclass(frozen=True)
class SplitTargets:
    """How many targets of one split are on the page.

    Attributes:
        shown: their number; of a group of targets, 1.
        available: how many targets have scores.
        rows: those that are shown, ascending.
        did_not_fit: chosen rows that did not fit into the file, ascending.
    """

    split: str
    shown: int
    available: int
    rows: list[int]
    did_not_fit: list[int]


@dataclass(frozen=True)
class Part:
    """One target split.

    Attributes:
        checkpoints: of the scores, with their fingerprints.
        ends: in the order of ``choice``.
        lds: None without an evaluation.
    """

    scored: Scored
    checkpoints: Mapping[str, Json]
    choice: Choice
    ends: ScoreEnds
    lds: LdsPanel | None

    def outputs(self, split: str, rows: Sequence[int]) -> Outputs:
        """The outputs of the model, with the checkpoints of these scores, on some rows of a split."""
        return read_outputs(self.scored.layout, self.checkpoints, split, rows)

    @property
    def rows(self) -> list[int]:
        """The rows of the split that may be on the page."""
        return [row for row in self.choice.rows if row is not None] or self._members

    @property
    def training_rows(self) -> set[int]:
        """The training rows that may be on the page."""
        ends = [end for both in self.ends.ends for end in (both.top, both.bottom)]
        return {row for end in ends for row in end.indices[0].tolist()}

    def target(self, place: int) -> Target:
        """The target at a place of the choice, with its positive and negative scores."""
        best, worst = helpful_and_harmful(self.ends.ends[place])
        row, histograms = self.choice.rows[place], self.ends.histograms
        counts = None if histograms is None else histograms.counts[place].tolist()
        reach = 0.0 if histograms is None else histograms.reaches[place]
        return Target(self.scored.split, row, best, worst, counts, reach, self._members, len(self.scored.group or ()))

    @property
    def _members(self) -> list[int]:
        return (self.scored.group or [])[:_MEMBERS]


def open_part(loaded: Loaded, split: str | None, wanted: Sequence[int], most: int, k: int) -> Part:
    """Choose the targets of a split and read their scores.

    Args:
        split: None: the configured or only one that has scores.
        wanted: rows of the split; none: at most ``most``, evenly spaced.

    Raises:
        ConfigError: no such split or target, or fewer than k scores were kept.
        StoreError: there are no scores, or a file is damaged.
    """
    scored = open_scored(loaded, split)
    choice = choose_targets(scored, wanted, most)
    return Part(scored, scored_checkpoints(scored), choice, read_ends(scored, choice.positions, k), read_lds(scored))
