"""The suspicious training samples of a report, and the self-influence of all training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trak_cli.config.load import Loaded
from trak_cli.errors import ConfigError, StoreError
from trak_cli.report import page
from trak_cli.results.samples import Samples
from trak_cli.results.suspects import Suspect, describe_suspects
from trak_cli.results.suspicion.ranking import CRITERIA, rank
from trak_cli.types import Float64, Reporter

#: Training samples whose scores propose a label.
_NEIGHBOURS = 20

#: Criterion -> what it is, for readers of a page.
_ABOUT = {
    "left_out": "left out is how wrong the label looks to a regression on the other samples (above 1, they contradict it)",
    "loss": "loss is 1 minus the probability of the label",
    "margin": "margin is the log-odds of the label (low is suspicious)",
    "self_influence": "self influence is how much the sample raises the output on itself",
    "harm": "harm is the sum of its negative scores on the targets",
    "harm_count": "harm count is the number of targets on which its score is negative",
}


@dataclass(frozen=True)
class Suspicion:
    """What ``trak suspects`` finds.

    Attributes:
        suspects: the most suspicious first.
        criteria: names of their values.
        self_influence: (n,) of every training row; None where the store cannot give it.
        notes: why criteria, or all of it, are missing.
    """

    suspects: Sequence[Suspect] = ()
    criteria: Sequence[str] = ()
    self_influence: Float64 | None = None
    notes: Sequence[str] = ()

    def table(self, places: Sequence[int]) -> page.Suspects | None:
        """The table of a page; ``places``: of the samples on it. None without suspects."""
        if not self.suspects:
            return None
        proposed = any(one.proposed is not None for one in self.suspects)
        predicted = any(one.predicted is not None for one in self.suspects)
        names = [name for name, shown in (("predicted", predicted), ("proposed label", proposed)) if shown]
        columns = [*names, *(name.replace("_", " ") for name in self.criteria)]
        rows = [
            (
                place,
                [
                    *([None if one.predicted is None else one.predicted.short()] if predicted else []),
                    *([one.proposed] if proposed else []),
                    *one.values.values(),
                ],
            )
            for place, one in zip(places, self.suspects, strict=True)
        ]
        return page.Suspects(columns, rows, _about(self.criteria, self.notes, proposed))


def find_suspicious(loaded: Loaded, reporter: Reporter, split: str, count: int, samples: Samples | None) -> Suspicion:
    """The ``count`` most suspicious training samples. A store that has no features or Gram matrices for them gives a note.

    Args:
        samples: the training set; None if it is not at hand.
    """
    try:
        ranking = rank(loaded, reporter, split)
        by = next(name for name in CRITERIA if name in ranking.values)
        rows = ranking.order(by)[:count].tolist()
        found = describe_suspects(loaded, reporter, ranking, rows, _NEIGHBOURS, samples)
    except (ConfigError, StoreError) as error:
        problem = error.problems[0]
        return Suspicion(notes=[f"{problem.where}: {problem.found}; {problem.remedy}"])
    return Suspicion(found, list(ranking.values), ranking.values.get("self_influence"), ranking.notes)


def _about(criteria: Sequence[str], notes: Sequence[str], proposed: bool) -> list[str]:
    first = f"Ordered by {criteria[0].replace('_', ' ')}. Look at each sample before you change or remove it: hard or rare ones"
    columns = f"Columns: {'; '.join(_ABOUT[name] for name in criteria if name in _ABOUT)}."
    proposal = ["The proposed label is that of the training samples which contradict the label the most."] if proposed else []
    return [f"{first} are suspicious, too.", columns, *proposal, *notes]
