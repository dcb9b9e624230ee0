"""``trak suspects``: training samples that are likely to be mislabelled or harmful, the most suspicious first.

Nothing is deleted or changed: the result is a list for a person to look at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trak_cli.config.load import Loaded
from trak_cli.config.wording import unknown
from trak_cli.errors import ConfigError, Problem
from trak_cli.report.payload import Prediction
from trak_cli.results.outputs.predictions import read_predictions
from trak_cli.results.records import check_table, write_table
from trak_cli.results.samples import Samples, open_samples
from trak_cli.results.suspicion.neighbours import Label, Neighbours, find_neighbours
from trak_cli.results.suspicion.ranking import CRITERIA, Ranking, rank
from trak_cli.types import TRAIN, Reporter


@dataclass(frozen=True)
class Suspect:
    """One training sample.

    Attributes:
        rank: from 1.
        predicted: what the model predicts for it; None if the store does not have it.
        proposed: of a class, the label whose samples contradict it the most; None where left_out is at most 1, so that the
            other samples agree with its label.
        disagreement: the share of its neighbours' scores that is negative; None if they were not searched.
        neighbours: rows of the training samples with the largest scores on it, in magnitude.
        values: criterion -> value.
    """

    rank: int
    row: int
    label: Label
    proposed: Label
    disagreement: float | None
    neighbours: list[int]
    values: dict[str, float]
    description: str
    predicted: Prediction | None = None


@dataclass(frozen=True)
class SuspectsSummary:
    """The most suspicious training samples.

    Attributes:
        split: the held-out split of harm and harm_count; None without one.
        by: the criterion that they are ordered by.
        rows: number of training rows.
        out: the file that was written.
        notes: why criteria are missing.
    """

    store: Path
    estimator: str
    split: str | None
    by: str
    rows: int
    criteria: list[str]
    suspects: list[Suspect]
    out: Path | None
    notes: list[str]


def suspects(
    loaded: Loaded,
    reporter: Reporter,
    *,
    split: str | None = None,
    by: str | None = None,
    k: int = 20,
    neighbours: int = 20,
    out: Path | None = None,
) -> SuspectsSummary:
    """Rank the training set.

    Args:
        split: the held-out split whose stored scores give the harm; None: the only one that has scores.
        by: a criterion; None: the first of :data:`CRITERIA` that the store can give.
        k: how many samples are returned.
        neighbours: how many neighbours of each returned sample propose a label; 0: none, which saves a pass over the features.
        out: a .csv or .parquet file to write.

    Raises:
        ConfigError: an unknown criterion, or one that the store cannot give; a file that cannot be written.
        StoreError: the store has neither features nor scores, or they are damaged or out of date.
        InputError: the data set cannot describe a row.
    """
    if by is not None and by not in CRITERIA:
        raise ConfigError(unknown("--by", by, CRITERIA))
    if out is not None:
        check_table(out)
    ranking = rank(loaded, reporter, split)
    by = by or next(name for name in CRITERIA if name in ranking.values)
    if by not in ranking.values:
        found, remedy = f"{by}, which this store cannot give", "; ".join(ranking.notes) or "choose another one"
        raise ConfigError(Problem("--by", found, f"one of {', '.join(ranking.values)}", remedy))
    rows = ranking.order(by)[:k].tolist()
    summary = SuspectsSummary(
        store=ranking.layout.root,
        estimator=ranking.estimator,
        split=ranking.split,
        by=by,
        rows=ranking.rows,
        criteria=list(ranking.values),
        suspects=describe_suspects(loaded, reporter, ranking, rows, neighbours, open_samples(loaded.config, TRAIN)),
        out=out,
        notes=ranking.notes,
    )
    if out is not None:
        known = any(one.predicted is not None for one in summary.suspects)
        predicted = ["predicted", "predicted_probability"] if known else []
        columns = ["rank", "row", "label", *predicted, "proposed", "disagreement", *ranking.values, "description"]
        write_table(out, columns, [_record(suspect) for suspect in summary.suspects])
    return summary


def describe_suspects(
    loaded: Loaded, reporter: Reporter, ranking: Ranking, rows: list[int], k: int, samples: Samples | None
) -> list[Suspect]:
    """These rows with their labels, values, and the label that each one's ``k`` neighbours propose; k = 0: no neighbours.

    Args:
        samples: the training set; None if it is not at hand.
    """
    inventory = ranking.inventory
    searched: list[Neighbours | None] = [None] * len(rows)
    if k and inventory is not None and rows:
        searched = list(find_neighbours(inventory, loaded.config.estimator.spec, rows, k, reporter))
    labels: dict[int, Label] = {}
    predicted: dict[int, Prediction] = {}
    if inventory is not None:
        predicted = read_predictions(inventory.layout, inventory.checkpoints, TRAIN, rows, samples)

    def label(row: int) -> Label:
        if row not in labels:
            labels[row] = None if samples is None else samples.label(row)
        return labels[row]

    def contradicted(row: int) -> bool:
        """Whether the others predict a negative f, that is, that another class is more likely."""
        return "margin" in ranking.values and bool(ranking.values["left_out"][row] > 1)

    return [
        Suspect(
            rank=place,
            row=row,
            label=label(row),
            proposed=found.opposing_label(label(row), label) if found is not None and contradicted(row) else None,
            disagreement=None if found is None else found.disagreement,
            neighbours=[] if found is None else found.rows,
            values={name: float(values[row]) for name, values in ranking.values.items()},
            description="" if samples is None else samples.words(row, labelled=False),
            predicted=predicted.get(row),
        )
        for place, (row, found) in enumerate(zip(rows, searched, strict=True), 1)
    ]


def _record(suspect: Suspect) -> dict[str, Any]:
    known = suspect.predicted
    predicted = (None, None) if known is None else (known.label, known.probability)
    named = dict(zip(("predicted", "predicted_probability"), predicted, strict=True))
    return {**vars(suspect), **suspect.values, **named}
