"""Blocks on their way through a projector: filled up where a projector takes dense ones only, refused where they do not fit."""

from __future__ import annotations

import pytest
import torch

from trak_cli.projection.blocks import checked, filled
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import RowBlock


@pytest.mark.parametrize("numbers", [1, 30, 10**6])
def test_rows_become_dense_blocks_of_any_size(numbers: int) -> None:
    values = torch.arange(12.0).reshape(4, 3)
    rows = RowBlock("a", 3, torch.tensor([0, 0, 2, 2]), torch.tensor([1, 6, 0, 6]), values)
    whole = torch.zeros(3, 7, 3)
    for block in filled(rows, 21, numbers):
        whole.view(3, 21)[:, block.offset : block.offset + block.gradient.shape[1]] += block.gradient
    expected = torch.zeros(3, 7, 3)
    expected[rows.sample, rows.row] = values
    assert torch.equal(whole, expected)


@pytest.mark.parametrize(
    ("sample", "row", "says"),
    [([0, 3], [0, 1], "sample 3 of 3"), ([0, 1], [0, 7], "row 7 of 7"), ([0], [0, 1], "1 sample, 2 rows")],
)
def test_rows_that_do_not_fit_are_refused(sample: list[int], row: list[int], says: str) -> None:
    rows = RowBlock("a", 3, torch.tensor(sample), torch.tensor(row), torch.ones(2, 3))
    job = ProjectionJob(ProjectionSpec("none", 21), "00" * 32, {"a": 21}, torch.device("cpu"), 1)
    with pytest.raises(ValueError, match=says):
        list(checked([rows], job))
