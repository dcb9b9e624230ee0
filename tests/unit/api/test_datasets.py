"""Data sets in memory: what stands for a data set, and what is refused with a way to give it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from trak_cli.api.datasets import as_dataset, as_splits, dtype_problems
from trak_cli.errors import Problem
from trak_cli.plugins.samples import sample_id

X, Y = torch.arange(12.0).reshape(6, 2), torch.arange(6) % 3


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([])


class Frame:
    """What a table of pandas looks like from outside."""

    iloc = ()

    def __len__(self) -> int:
        return 3

    def __getitem__(self, column: str) -> list[int]:
        return [1, 2, 3]


@pytest.mark.parametrize(
    "data", [(X, Y), (X.numpy(), Y.numpy()), [(x, y) for x, y in zip(X, Y, strict=True)], TensorDataset(X, Y)]
)
def test_columns_lists_and_data_sets_have_the_same_samples(data: Any) -> None:
    problems: list[Problem] = []
    samples = as_dataset(data, "train", problems)
    assert not problems
    assert len(samples) == 6
    assert [sample_id(tuple(samples[row])) for row in range(6)] == [sample_id((X[row], Y[row])) for row in range(6)]


def test_a_mapping_of_arrays_has_samples_by_name() -> None:
    samples = as_dataset({"input_ids": X, "labels": Y}, "train", [])
    assert len(samples) == 6
    assert samples[4]["labels"] == 1
    with pytest.raises(IndexError):
        samples[6]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (DataLoader(TensorDataset(X, Y), shuffle=True), "LOADER.dataset, and collate=LOADER.collate_fn"),
        (Stream(), "list(DATA)"),
        ((row for row in X), "list(DATA)"),
        (Frame(), "to_numpy('float32')"),
        ((Frame(), Y), "to_numpy('float32')"),
        ({"x": X, "y": Frame()}, "to_numpy('float32')"),
        ((X, Y[:2]), "columns of 6, 2 entries"),
        ("train.csv", "an object of type str"),
        ({"train": [1], "test": [2]}, "the keys 'train', 'test'"),
        (7, "an object of type int"),
        ((X[0], 1), "[SAMPLE]"),
        ((X.numpy(), Y.numpy()[0]), "[SAMPLE]"),
        (("a text", "positive"), "a tuple of str, str, which is one sample"),
        ({"input_ids": X[0], "labels": Y[0]}, "[SAMPLE]"),
    ],
)
def test_what_has_no_numbered_samples_is_refused_with_what_to_give(data: Any, says: str) -> None:
    problems: list[Problem] = []
    as_dataset(data, "train", problems)
    (problem,) = problems
    assert problem.where == "train"
    assert says in str(problem)


def test_targets_have_one_split_or_the_named_ones() -> None:
    assert list(as_splits((X, Y), [])) == ["targets"]
    assert list(as_splits({"x": X, "y": Y}, [])) == ["targets"]
    assert list(as_splits({"test": TensorDataset(X, Y), "mine": [(X[0], 1)]}, [])) == ["test", "mine"]


def test_one_sample_is_no_mapping_of_splits() -> None:
    problems: list[Problem] = []
    as_splits({"x": X[0], "label": 1}, problems)
    assert [problem.where for problem in problems] == ["targets"]
    assert "[SAMPLE]" in problems[0].remedy


@pytest.mark.parametrize("targets", [{}, {"train": TensorDataset(X, Y)}])
def test_targets_need_a_split_of_another_name_than_the_training_set(targets: Any) -> None:
    problems: list[Problem] = []
    as_splits(targets, problems)
    assert "targets={'test': DATA}" in problems[0].remedy


@pytest.mark.parametrize("wide", [X.double(), X.numpy().astype(np.float64)])
def test_inputs_in_float64_are_refused_for_a_model_in_float32_only(wide: Any) -> None:
    splits = {"train": as_dataset((wide, Y.double()), "train", [])}
    (problem,) = dtype_problems(splits, nn.Linear(2, 2))
    assert "column 0 in float64" in str(problem)
    assert not list(dtype_problems(splits, nn.Linear(2, 2).double()))
