"""What the model predicted for rows of a split, with classes named as the labels of the split are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trak_cli.report.payload import Label, Prediction
from trak_cli.results.outputs.model_outputs import Outputs, read_outputs
from trak_cli.results.samples import Samples
from trak_cli.stages.index.split_sizes import rows_of
from trak_cli.store.layout import Layout

#: Bytes of shards that a command reads at most to print predictions in a terminal.
TERMINAL_BYTES = 1 << 29

#: Rows, evenly spaced, whose labels name the classes of a data set without ``classes``.
_NAMING_ROWS = 256

#: Rows of a class whose labels are compared before they name it.
_COMPARED = 3


@dataclass(frozen=True)
class ClassNames:
    """Classes in the form of the labels of a data set, so that both can be compared: names or numbers.

    Attributes:
        like: a label of the data set; None without labels.
        names: of the classes by number, as far as they are known.
    """

    like: Label | None
    names: Mapping[int, str]

    def shown(self, label: Label) -> Label:
        """A label in that form, as far as it is known."""
        text = str(label)
        named = {name: number for number, name in self.names.items()}
        if isinstance(self.like, str):
            return self.names.get(int(text), text) if text.isdecimal() and text not in named else text
        return named.get(text, int(text) if text.isdecimal() else label)

    def of_class(self, number: int) -> Label:
        """The class with this number; "class 3" if labels are texts and its name is not known."""
        if self.like is not None and not isinstance(self.like, str):
            return number
        if number in self.names:
            return self.names[number]
        return number if self.like is None else str(number) if self.like.isdecimal() else f"class {number}"

    def agree(self, label: Label | None, number: int) -> bool | None:
        """Whether a label is the class with this number; None if that is not known."""
        if not isinstance(label, str):
            return None if label is None else label == number
        if number in self.names:
            return label == self.names[number]
        return label == str(number) if label.isdecimal() else None

    @property
    def unnamed(self) -> bool:
        """Whether labels are names of classes, and the data set does not say of which."""
        return isinstance(self.like, str) and not self.like.isdecimal() and not self.names


def class_names(dataset: Any, like: Label | None) -> ClassNames:
    """The names in ``classes`` of a data set, as those of torchvision have it, or of the one that it is a subset of."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    texts = isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(name, str) for name in names)
    return ClassNames(like, dict(enumerate(names)) if texts and names else {})


def named_predictions(
    outputs: Outputs, samples: Samples | None, known: Mapping[int, str] | None = None
) -> dict[int, Prediction]:
    """The predictions of a split by row, with the names of its classes.

    Args:
        known: names of classes, for a data set whose labels are names and which has no ``classes``; more are taken from the
            labels of rows that are predicted as labelled.
    """
    if not outputs.predicted:
        return {}
    names = class_names(None if samples is None else samples.dataset, _label(samples, min(outputs.predicted)))
    if names.unnamed:
        names = replace(names, names={**(known or {}), **_learned(outputs, samples)})
    return {
        row: Prediction(
            names.of_class(vote.number),
            vote.probability,
            names.agree(_label(samples, row), vote.number) if vote.correct is None else vote.correct,
        )
        for row, vote in outputs.predicted.items()
    }


def _learned(outputs: Outputs, samples: Samples | None) -> dict[int, str]:
    """The names of classes, from the labels of rows whose predicted class is that of the label, where they agree."""
    rows: dict[int, list[int]] = {}
    for row, vote in outputs.predicted.items():
        if vote.correct and len(alike := rows.setdefault(vote.number, [])) < _COMPARED:
            alike.append(row)
    labels = {number: {_label(samples, row) for row in alike} for number, alike in rows.items()}
    return {number: str(*found) for number, found in labels.items() if len(found) == 1 and None not in found}


def stored_names(layout: Layout, checkpoints: Collection[str], split: str, samples: Samples | None) -> ClassNames:
    """The names of the classes as a data set has them, else as the labels of stored rows of its split tell.

    Raises:
        StoreError, MachineError, InputError: as for :func:`read_predictions`.
    """
    like = None if samples is None else _label(samples, 0)
    names = class_names(None if samples is None else samples.dataset, like)
    if not (names.unnamed and checkpoints):
        return names
    count = rows_of(layout, split)
    rows = range(0, count, -(-count // _NAMING_ROWS))
    return replace(names, names=_learned(read_outputs(layout, checkpoints, split, rows, TERMINAL_BYTES), samples))


def _label(samples: Samples | None, row: int) -> Label | None:
    """The label as the data set describes it; of a data set that describes nothing, that of the sample."""
    if samples is None or (samples.description(row) and not set(samples.description(row)) & set(samples.label_names)):
        return None
    return samples.label(row)


def read_predictions(
    layout: Layout, checkpoints: Collection[str], split: str, rows: Iterable[int], samples: Samples | None
) -> dict[int, Prediction]:
    """The predictions for rows of a split, for a terminal; empty where the store does not have them.

    Raises:
        StoreError, MachineError: a shard is damaged or cannot be read.
        InputError: the data set cannot give a label.
    """
    outputs = read_outputs(layout, checkpoints, split, sorted(set(rows)), TERMINAL_BYTES)
    return named_predictions(
        outputs, samples, stored_names(layout, checkpoints, split, samples).names if outputs.predicted else None
    )
