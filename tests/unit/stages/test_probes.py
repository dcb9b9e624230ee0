"""Probes lie all over a split and differ, and reading them costs the same for every length of the split."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from trak_cli.plugins.samples import collate
from trak_cli.stages.inputs.probes import ENOUGH, FIRST, PROBES, SPREAD, choose_probes, spread_rows
from trak_cli.stages.inputs.split import Split


class Rows:
    """``sample(row)`` for each row; counts the reads."""

    def __init__(self, rows: int, sample: Any) -> None:
        self.rows, self.sample, self.reads = rows, sample, 0

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Any:
        self.reads += 1
        return self.sample(row)


def split_of(rows: int, sample: Any) -> Split:
    return Split("train", Rows(rows, sample), rows, collate, torch.device("cpu"))


def of_length(length: int) -> tuple[torch.Tensor, int]:
    return torch.zeros(length), 0


@pytest.mark.parametrize("rows", [1, 2, 5, 63, 64, 65, 1000, 10**9])
def test_spread_rows_are_distinct_rows_of_the_split_with_both_ends(rows: int) -> None:
    chosen = spread_rows(rows, 64)
    assert len(set(chosen)) == len(chosen) == min(rows, 64)
    assert {0, rows - 1} <= set(chosen)
    assert min(chosen) == 0
    assert max(chosen) == rows - 1


@pytest.mark.parametrize("count", [16, 64, 128])
def test_any_number_of_spread_rows_leaves_no_large_gap(count: int) -> None:
    ordered = sorted(spread_rows(10**6, count))
    assert max(b - a for a, b in itertools.pairwise(ordered)) < 2.7 * 10**6 / count


@pytest.mark.parametrize("period", [2, 3, 7, 10, 64, 100])
def test_spread_rows_follow_no_period(period: int) -> None:
    """A period in the data, such as every tenth sample being augmented, is met as often as by random rows."""
    hits = sum(row % period == 0 for row in spread_rows(64 * period, 64))
    assert 0 < hits <= 64 / period + 4 * (64 / period) ** 0.5


@pytest.mark.parametrize("rows", [200, 10**4, 10**8])
def test_reading_does_not_grow_with_the_split(rows: int) -> None:
    split = split_of(rows, lambda row: of_length(1 + row % 9))
    choose_probes(split)
    assert split.dataset.reads <= FIRST + SPREAD


def test_fewer_samples_are_read_if_they_are_large() -> None:
    large = torch.zeros(1).expand(2**26)  # takes no memory
    split = split_of(1000, lambda row: (large, row % 2))
    assert len(choose_probes(split).rows) == PROBES
    assert split.dataset.reads == ENOUGH


def test_rows_that_the_data_set_suggests_are_read() -> None:
    split = split_of(10**6, lambda row: of_length(50 if row == 123_456 else 7))
    split.dataset.rows_to_check = lambda count: [123_456, 10**7]
    assert 50 + 1 in choose_probes(split).sizes


@pytest.mark.parametrize("odd", [21, 57, 399])
def test_the_largest_and_the_smallest_are_among_the_probes_wherever_they_lie(odd: int) -> None:
    """Blocks of a twentieth of the split; the first rows all have one size."""
    probes = choose_probes(split_of(400, lambda row: of_length({odd // 20: 30, (odd + 80) % 400 // 20: 2}.get(row // 20, 7))))
    assert {2 + 1, 30 + 1} <= set(probes.sizes)
    assert len(probes.rows) == len(set(probes.rows)) == PROBES


def test_labels_differ_in_a_split_that_is_sorted_by_label() -> None:
    probes = choose_probes(split_of(1000, lambda row: (torch.zeros(3), int(row >= 900))))
    assert {label for _, label in probes.samples} == {0, 1}


def test_texts_differ_in_length() -> None:
    split = split_of(300, lambda row: {"text": "a" * (row % 50 + 1), "label": 0})
    lengths = [len(sample["text"]) for sample in choose_probes(split).samples]
    assert min(lengths) < 5
    assert max(lengths) > 45


def test_the_order_of_probes_follows_neither_row_nor_size() -> None:
    probes = choose_probes(split_of(500, lambda row: of_length(1 + row // 10)))
    for values in (probes.rows, probes.sizes):
        assert values != sorted(values)
        assert values != sorted(values, reverse=True)


def test_a_split_of_one_row_gives_a_batch_of_two() -> None:
    probes = choose_probes(split_of(1, lambda row: of_length(4)))
    assert probes.rows == [0, 0]
    assert probes.together[0].shape == (2, 4)
