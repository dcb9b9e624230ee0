"""What the model predicted for rows of a split, with classes named as the labels of the split are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trak_cli.report.payload import Label, Prediction
from trak_cli.results.outputs.model_outputs import Outputs, read_outputs
from trak_cli.results.samples import LABELS, Samples
from trak_cli.store.layout import Layout

#: Bytes of shards that a command reads at most to print predictions in a terminal.
TERMINAL_BYTES = 1 << 29


@dataclass(frozen=True)
class ClassNames:
    """Classes in the form of the labels of a data set, so that both can be compared: names or numbers.

    Attributes:
        like: a label of the data set; None without labels.
        names: of the classes, in the order of their numbers; empty if the data set has none.
    """

    like: Label | None
    names: Sequence[str]

    def shown(self, label: Label) -> Label:
        """A label in that form, as far as it is known."""
        text = str(label)
        if isinstance(self.like, str):
            number = int(text) if text.isdecimal() else len(self.names)
            return self.names[number] if text not in self.names and number < len(self.names) else text
        if text in self.names:
            return self.names.index(text)
        return int(text) if text.isdecimal() else label

    def of_class(self, number: int) -> Label:
        """The class with this number; "class 3" if labels are texts and the data set does not name its classes."""
        if self.like is not None and not isinstance(self.like, str):
            return number
        if number < len(self.names):
            return self.names[number]
        return number if self.like is None else str(number) if self.like.isdecimal() else f"class {number}"

    def agree(self, label: Label | None, number: int) -> bool | None:
        """Whether a label is the class with this number; None if that is not known."""
        if not isinstance(label, str):
            return None if label is None else label == number
        if number < len(self.names):
            return label == self.names[number]
        return label == str(number) if label.isdecimal() else None


def class_names(dataset: Any, like: Label | None) -> ClassNames:
    """The names in ``classes`` of a data set, as those of torchvision have it, or of the one that it is a subset of."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    texts = isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(name, str) for name in names)
    return ClassNames(like, list(names) if texts and names else [])


def named_predictions(outputs: Outputs, samples: Samples | None) -> dict[int, Prediction]:
    """The predictions of a split by row, with the names of its classes."""
    if not outputs.predicted:
        return {}
    names = class_names(None if samples is None else samples.dataset, _label(samples, min(outputs.predicted)))
    return {
        row: Prediction(
            names.of_class(vote.number),
            vote.probability,
            names.agree(_label(samples, row), vote.number) if vote.correct is None else vote.correct,
        )
        for row, vote in outputs.predicted.items()
    }


def _label(samples: Samples | None, row: int) -> Label | None:
    """The label as the data set describes it; of a data set that describes nothing, that of the sample."""
    if samples is None or (samples.description(row) and not set(samples.description(row)) & set(LABELS)):
        return None
    return samples.label(row)


def read_predictions(
    layout: Layout, checkpoints: Iterable[str], split: str, rows: Iterable[int], samples: Samples | None
) -> dict[int, Prediction]:
    """The predictions for rows of a split, for a terminal; empty where the store does not have them.

    Raises:
        StoreError, MachineError: a shard is damaged or cannot be read.
        InputError: the data set cannot give a label.
    """
    return named_predictions(read_outputs(layout, checkpoints, split, sorted(set(rows)), TERMINAL_BYTES), samples)
