"""The targets and samples of a page as JSON, within a number of bytes. A sample is stored once and shared by its index."""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trak_cli.report.encoding import encoded
from trak_cli.report.values import Value

Label = str | int | float

#: A row of a split, with its score where it has one.
Scored = tuple[int, float]


@dataclass(frozen=True)
class Prediction:
    """The class that the model predicts: its name or number, its probability, and whether it is the label, if that is known."""

    label: Label
    probability: float
    correct: bool | None = None

    def __str__(self) -> str:
        """For a table in which the label stands too: "as labelled (0.93)", "dog (0.80), wrong"."""
        return self.short() + (", wrong" if self.correct is False else "")

    def short(self) -> str:
        """Where a reader sees whether it is wrong: "as labelled (0.93)", "dog (0.80)"."""
        label = f"{self.label:.6g}" if isinstance(self.label, float) else self.label
        return f"{'as labelled' if self.correct else label} ({self.probability:.2f})"

    def clause(self) -> str:
        """To follow the label in a sentence: "predicted with 0.93", "predicted as dog (0.80), wrong"."""
        return f"predicted with {self.probability:.2f}" if self.correct else f"predicted as {self}"


@dataclass(frozen=True)
class Sample:
    """One sample, as a page shows it.

    Attributes:
        values: what the data set says about it.
        label: None if it is not known.
        output: f, the mean over checkpoints; None if it is not known.
        probability: of the label, likewise.
        self_influence: score of the sample on itself, likewise.
        predicted: by the model, likewise.
    """

    values: Sequence[Value] = ()
    label: Label | None = None
    output: float | None = None
    probability: float | None = None
    self_influence: float | None = None
    predicted: Prediction | None = None


@dataclass(frozen=True)
class Target:
    """One target with the training rows of its highest and lowest scores.

    Attributes:
        row: None for the mean over ``group``.
        counts: histogram of all its scores, between −``reach`` and ``reach``; None if only the ends are stored.
        group: rows over whose mean the scores are, or the first of them.
        members: how many rows the group has.
    """

    split: str
    row: int | None
    helpful: Sequence[Scored]
    harmful: Sequence[Scored]
    counts: Sequence[int] | None = None
    reach: float = 0.0
    group: Sequence[int] = ()
    members: int = 0


@dataclass
class Payload:
    """The data of a page.

    Attributes:
        describe: the sample of a row of a split; called once for each.
        train: name of the split of the training samples.
        budget: bytes of encoded JSON that further targets may take.
        size: bytes of what has been added.
    """

    describe: Callable[[str, int], Sample]
    train: str
    budget: int = 0
    size: int = 0
    _samples: dict[tuple[str, int], str] = field(default_factory=dict)
    _places: dict[tuple[str, int], int] = field(default_factory=dict)
    _targets: list[tuple[tuple[int, str, int], str]] = field(default_factory=list)

    @property
    def targets(self) -> int:
        """How many targets have been added."""
        return len(self._targets)

    @property
    def samples(self) -> int:
        """How many samples have been added."""
        return len(self._samples)

    def add(self, target: Target) -> bool:
        """Add a target with its samples, or nothing of it if they do not fit. Returns whether it was added."""
        own = [(target.split, row) for row in ([target.row] if target.row is not None else target.group)]
        ends = [[(self.train, row) for row, _ in scored] for scored in (target.helpful, target.harmful)]
        new = self._encoded([*own, *ends[0], *ends[1]])
        places = ChainMap({key: self.samples + i for i, key in enumerate(new)}, self._places)
        entry = dumps(
            {
                "s": target.split,
                **({"g": [places[key] for key in own], "n": target.members} if target.row is None else {"i": places[own[0]]}),
                "a": [[places[key], _score(score)] for key, (_, score) in zip(ends[0], target.helpful, strict=True)],
                "b": [[places[key], _score(score)] for key, (_, score) in zip(ends[1], target.harmful, strict=True)],
                **({"c": list(target.counts), "w": _score(target.reach)} if target.counts is not None else {}),
            }
        )
        more = len(entry) + 1 + sum(len(text) + 1 for text in new.values())
        if more > self.budget:
            return False
        self._keep(new)
        order = (-1 if target.row is None else target.row, target.split, self.targets)
        self._targets.append((order, entry))
        self.size += more
        self.budget -= more
        return True

    def add_samples(self, rows: Sequence[int]) -> list[int]:
        """The indices of these training rows, which are added where they are new, whatever the budget."""
        new = self._encoded([(self.train, row) for row in rows])
        self._keep(new)
        self.size += sum(len(text) + 1 for text in new.values())
        return [self._places[self.train, row] for row in rows]

    def json(self) -> str:
        """The whole as one JSON text, safe inside a script element."""
        targets = ",".join(entry for _, entry in sorted(self._targets, key=lambda one: (one[0][1], one[0][0], one[0][2])))
        return f'{{"samples":[{",".join(self._samples.values())}],"targets":[{targets}]}}'

    def _encoded(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """The samples that have not been added yet, each once, as JSON."""
        return {key: self._sample(key) for key in dict.fromkeys(keys) if key not in self._places}

    def _sample(self, key: tuple[str, int]) -> str:
        sample, (split, row) = self.describe(*key), key
        numbers = {"f": sample.output, "p": sample.probability, "q": sample.self_influence}
        return dumps(
            {
                "s": split,
                "r": row,
                **({} if sample.label is None else {"l": sample.label}),
                **{name: _score(number) for name, number in numbers.items() if number is not None},
                **({} if sample.predicted is None else {"m": _predicted(sample.predicted)}),
                "v": [encoded(value) for value in sample.values],
            }
        )

    def _keep(self, new: dict[tuple[str, int], str]) -> None:
        for key, text in new.items():
            self._places[key] = len(self._samples)
            self._samples[key] = text


def _predicted(prediction: Prediction) -> list[Label | bool | None]:
    return [prediction.label, _score(prediction.probability), prediction.correct]


def dumps(value: Any) -> str:
    """JSON in ASCII that no HTML parser takes for markup: every <, >, & and ' is escaped."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("'", "\\u0027")


def _score(number: float) -> float:
    return float(f"{number:.5g}")
