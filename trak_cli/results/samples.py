"""The samples of a split, as people see them: in words, with their label, or as the data set describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import instantiate_repeatable
from trak_cli.report.values import Value, value_of, values_of_sample
from trak_cli.types import TRAIN
from trak_cli.user_errors import report_user_errors

#: Names of the label in a description or a sample that is a mapping, in this order.
LABELS = ("label", "labels", "target", "y")


class Samples:
    """The samples of one split. Every method raises :class:`~trak_cli.errors.InputError` if the data set raises.

    Attributes:
        split: its name.
        dataset: the data set of the plugin.
    """

    def __init__(self, split: str, dataset: Any) -> None:
        self.split = split
        self.dataset = dataset
        self._key = dataset_key(split)
        self._described: tuple[int, dict[str, Any]] = (-1, {})  # the last row, because a label and an image may be read for it

    def __len__(self) -> int:
        with report_user_errors(self._key, any_code=True):
            return len(self.dataset)

    def sample(self, row: int) -> Any:
        """The sample itself."""
        with report_user_errors(f"{self._key}: sample {row}", any_code=True):
            return self.dataset[row]

    def description(self, row: int) -> dict[str, Any]:
        """What ``describe`` of the data set returns: texts, numbers and arrays by name; a text alone is named "text".

        A data set without ``describe`` is described by the texts, images and series of the sample itself, after its label;
        empty if it has none of them.
        """
        if row != self._described[0]:
            self._described = (row, self._describe(row))
        return self._described[1]

    @property
    def label_names(self) -> tuple[str, ...]:
        """Under which names a description may have the label, the attribute ``label_name`` of the data set first."""
        own = getattr(_origin(self.dataset, 0)[0], "label_name", None)
        return (own, *LABELS) if isinstance(own, str) else LABELS

    def _describe(self, row: int) -> dict[str, Any]:
        dataset, place = _origin(self.dataset, row)
        if not hasattr(dataset, "describe"):
            sample = self.sample(row)
            shown = {name: value for name, value in values_of_sample(sample).items() if name not in self.label_names}
            label = _label_of(sample, self.label_names)
            return {**({} if label is None else {"label": label}), **shown} if shown else {}
        with report_user_errors(f"{self._key}: describe({row})", any_code=True):
            described = dataset.describe(place)
        if isinstance(described, Mapping):
            return {str(key): value for key, value in described.items()}
        return {"text": described} if isinstance(described, str) else {}

    def record(self, row: int) -> dict[str, Any]:
        """The row of the table that the sample is made from, if the data set has a method ``row``, as text data sets have;
        else the texts and numbers of the description, and the label."""
        if hasattr(self.dataset, "row"):
            with report_user_errors(f"{self._key}: row({row})", any_code=True):
                found = self.dataset.row(row)
            if isinstance(found, Mapping):
                return dict(found)
        described = {name: value for name, value in self.description(row).items() if isinstance(value, str | int | float)}
        if not hasattr(_origin(self.dataset, row)[0], "describe"):
            described.pop("input", None)  # a few rounded numbers
        if not set(described) & set(self.label_names) and (label := self.label(row)) is not None:
            described["label"] = label
        return described

    def values(self, row: int) -> list[Value]:
        """The description, each value with its kind: image, series, text, number or marked tokens."""
        described = self.description(row)
        with report_user_errors(f"{self._key}: describe({row})", any_code=True):
            values = [value_of(name, value) for name, value in described.items()]
        return [value for value in values if value is not None]

    def words(self, row: int, *, labelled: bool = True) -> str:
        """The description in one line: its texts and numbers, without images and other arrays; without any, the label.

        Args:
            labelled: False: without the label.
        """
        words = {key: value for key, value in self.description(row).items() if isinstance(value, str | int | float)}
        if not labelled:
            words = {key: value for key, value in words.items() if key not in self.label_names}
        elif not words and (label := self.label(row)) is not None:
            return f"label {label}"
        if list(words) == ["text"]:
            return str(words["text"])
        return ", ".join(f"{key} {value}" for key, value in words.items())

    def label(self, row: int) -> str | int | float | None:
        """The label: of the description, else of a sample (input, label) or with a key such as "label"; None without one."""
        described = _named_label(self.description(row), self.label_names)
        return _label_of(self.sample(row), self.label_names) if described is None else described


class SampleSets:
    """The samples of the splits of a configuration; each data set is built once, when it is first asked for."""

    def __init__(self, config: TrakConfig) -> None:
        self._config = config
        self._opened: dict[str, Samples | None] = {}

    def __getitem__(self, split: str) -> Samples | None:
        """Those of one split, as :func:`open_samples` returns them."""
        if split not in self._opened:
            self._opened[split] = open_samples(self._config, split)
        return self._opened[split]


def open_samples(config: TrakConfig, split: str) -> Samples | None:
    """The samples of a split; None if the config does not name the split.

    Raises:
        ConfigError, InputError: the data set cannot be built.
    """
    node = config.dataset.train if split == TRAIN else config.dataset.targets.get(split)
    return None if node is None else Samples(split, instantiate_repeatable(node, dataset_key(split)))


def dataset_key(split: str) -> str:
    """The config key of the data set of a split."""
    return "dataset.train" if split == TRAIN else f"dataset.targets.{split}"


def _label_of(sample: Any, names: tuple[str, ...]) -> str | int | float | None:
    """The label of a sample: (input, label), or a mapping with one of these names; None without one."""
    if isinstance(sample, Mapping):
        return _named_label(sample, names)
    return _number(sample[1]) if isinstance(sample, tuple | list) and len(sample) == 2 else None


def _origin(dataset: Any, row: int) -> tuple[Any, int]:
    """The data set that describes a row, and its row there: of a subset, as random_split makes them, the whole data set."""
    while not hasattr(dataset, "describe") and hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        dataset, row = dataset.dataset, int(dataset.indices[row])
    return dataset, row


def _named_label(values: Mapping[str, Any], names: tuple[str, ...]) -> str | int | float | None:
    for name in names:
        if (found := _number(values.get(name))) is not None:
            return found
    return None


def _number(value: Any) -> str | int | float | None:
    """The value as a text or a Python number; None if it is neither one nor an array of one number."""
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "detach"):
        array = np.asarray(value)
        return array.item() if array.size == 1 and array.dtype.kind in "iufb" else None
    return None
