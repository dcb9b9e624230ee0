"""Samples that are in no split, made by the data set of a split from what a user names."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.new_samples import opened_image, sample_like
from trak_cli.results.samples import Samples
from trak_cli.user_errors import report_user_errors
from trak_cli.user_files import parse_json


class NewSamples:
    """A map-style data set of new samples; ``describe`` returns what the user has named.

    Attributes:
        split: whose data set made them.
        label_name: the name of the label in a record.
    """

    def __init__(self, split: str, samples: Sequence[Any], records: Sequence[Any], label_name: str = "label") -> None:
        self.split = split
        self.label_name = label_name
        self._samples = list(samples)
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, i: int) -> Any:
        return self._samples[i]

    def record(self, i: int) -> Mapping[str, Any]:
        """What sample i was made from, by name."""
        record = self._records[i]
        return record if isinstance(record, Mapping) else {"sample": record}

    def describe(self, i: int) -> dict[str, Any]:
        """The values of sample i as they were named, as texts and numbers."""
        named = self.record(i)
        return {name: value if isinstance(value, str | int | float) else json.dumps(value) for name, value in named.items()}

    def shown(self, i: int) -> dict[str, Any]:
        """The values of sample i for a page: with the image itself, and numbers as they are.

        Raises:
            ConfigError, InputError: its image cannot be read.
        """
        named = dict(self.record(i))
        return {**named, "image": opened_image(named["image"]), "file": named["image"]} if "image" in named else named


def make_samples(like: Samples, records: Sequence[Any]) -> NewSamples:
    """The samples of some records: by ``sample_from`` of the data set, else in the form of its own samples.

    Raises:
        InputError: with the problems of every record.
    """
    dataset = like.dataset
    while isinstance(dataset, Subset) and not hasattr(dataset, "sample_from"):
        dataset = dataset.dataset
    made, problems = [], []
    for number, record in enumerate(records):
        where = f"new target {number}"
        try:
            with report_user_errors(where, any_code=True):
                hook = getattr(dataset, "sample_from", None)
                made.append(hook(record) if hook and isinstance(record, Mapping) else sample_like(dataset, record))
        except InputError as error:
            problems += [Problem(f"{where}: {one.where}", one.found, one.expected, one.remedy) for one in error.problems]
    InputError.raise_for(problems)
    return NewSamples(like.split, made, records, like.label_names[0])


def read_records(path: str) -> list[Any]:
    """The records in a file: JSON (a list, or one record), JSONL, CSV or TSV with a line of names; "-": JSONL from stdin.

    Raises:
        InputError: no such file, or one that cannot be read.
    """
    try:
        if path == "-":
            return [parse_json(line) for line in sys.stdin if line.strip()]
        file = Path(path)
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix in (".csv", ".tsv"):
            delimiter = "\t" if file.suffix == ".tsv" else ","
            return list(csv.DictReader(text.splitlines(), delimiter=delimiter, strict=True))
        if file.suffix == ".jsonl":
            return [parse_json(line) for line in text.splitlines() if line.strip()]
        content = parse_json(text)
    except (OSError, ValueError, csv.Error) as error:
        found = f"{error.strerror}" if isinstance(error, OSError) else f"{error}"
        raise InputError(Problem(path, found, "a .json, .jsonl, .csv or .tsv file", "correct the path, or the file")) from error
    return content if isinstance(content, list) and all(isinstance(one, dict) for one in content) else [content]
