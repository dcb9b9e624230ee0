"""The base class of the text data sets: a table and a tokenizer."""

from __future__ import annotations

import copy
import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.new_samples import by_role
from trak_cli.plugins.text.chat import spoken
from trak_cli.plugins.text.marking import Marking, marked_tokens
from trak_cli.plugins.text.records import read_table
from trak_cli.plugins.text.tokenizer import load_tokenizer, longest
from trak_cli.types import evenly_spaced

#: Rows whose texts are measured to find the longest ones.
SCANNED = 20_000


class Texts(Dataset[dict[str, Tensor]]):
    """The rows of a table, tokenised when they are read.

    Args:
        path: see :func:`~trak_cli.plugins.text.records.read_table`, as for ``split`` and ``subset``.
        tokenizer: a hub id, a folder or a tokenizer.json; null: the tokenizer.json here.
        columns: the columns of the table that a sample is made from.
        max_length: length to which a text is truncated; null: the maximum of the tokenizer.
    """

    #: Number of labels at the start of a sample that are never predicted.
    unpredicted = 0

    #: Whether the labels of a sample are its input tokens, those that are predicted.
    predicts_input = False

    def __init__(
        self,
        path: str,
        tokenizer: str | None,
        columns: Sequence[str],
        max_length: int | None = None,
        split: str | None = None,
        subset: str | None = None,
    ) -> None:
        if max_length is not None and max_length < 2:
            raise ConfigError(Problem("dataset max_length", str(max_length), "2 or more", "choose a larger one"))
        self.path = path
        self.columns = list(columns)
        self.table = read_table(path, self.columns, split, subset)
        self.tokenizer = load_tokenizer(tokenizer)
        self.max_length = longest(self.tokenizer, max_length)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def roles(self) -> dict[str, str]:
        """The arguments that name columns -> these columns."""
        raise NotImplementedError

    def sample_from(self, record: Mapping[str, Any]) -> dict[str, Tensor]:
        """The sample of a new row, from its values by column, or by the argument that names the column.

        Raises:
            InputError: a value is missing or unknown, or no text.
        """
        values = by_role(record, self.roles)
        return self.of_one_row({self.roles[role]: value for role, value in values.items()})[0]

    def of_one_row(self, row: dict[str, Any]) -> Self:
        """This data set with one other row instead of its table."""
        other = copy.copy(self)
        other.table, other.path = [row], "the new targets"
        return other

    def row(self, i: int) -> dict[str, Any]:
        """Row i of the table."""
        if not 0 <= i < len(self.table):
            raise IndexError(i)
        return self.table[i]

    def text(self, i: int, column: str) -> str:
        """The text in a column of row i.

        Raises:
            InputError: the value is not a text.
        """
        value = self.row(i)[column]
        if not isinstance(value, str):
            found = "nothing" if value is None else f"{value!r:.60}, which is no text"
            raise self.refused(i, f"{found} in the column {column}", "text", "correct the row, or leave it out")
        return value

    def tokens(self, text: str, *more: str, **options: Any) -> Any:
        """The output of the tokenizer for a text (or a pair): a mapping of lists of numbers."""
        return self.tokenizer(text, *more, truncation=False, verbose=False, **options)

    def cut(self, i: int, values: Sequence[int], limit: int | None = None) -> Tensor:
        """(T,) int64, T at most ``limit``.

        Raises:
            InputError: there is no token.
        """
        if not len(values):
            raise self.refused(i, "no token", "a text of one token or more", "correct the row, or leave it out")
        return torch.tensor(list(values[:limit]), dtype=torch.int64)

    def refused(self, i: int, found: str, expected: str, remedy: str) -> InputError:
        """A problem of row i."""
        return InputError(Problem(f"row {i} of {self.path}", found, expected, remedy))

    def extent(self, i: int) -> float:
        """Number of characters of sample i before tokenising; infinite if a value is missing."""
        row = self.row(i)
        texts = [row[column] for column in self.columns]
        return math.inf if any(text is None or text == "" for text in texts) else sum(len(str(text)) for text in texts)

    def rows_to_check(self, count: int) -> list[int]:
        """At most ``count`` rows that are the most likely to be refused: those with missing values and the longest texts.

        Of a table of more than SCANNED rows, evenly spaced ones are considered.
        """
        return heapq.nlargest(count, evenly_spaced(len(self.table), SCANNED).tolist(), key=self.extent)

    def describe(self, i: int) -> dict[str, Any]:
        """What a report shows of sample i: the columns that it is made from, and its tokens, if some of them are predicted."""
        row = self.row(i)
        described: dict[str, Any] = {column: spoken(row[column]) for column in self.columns}
        if self.predicts_input:
            described["tokens"] = Marking(lambda: marked_tokens(self.tokenizer, self[i], self.unpredicted))
        return described
