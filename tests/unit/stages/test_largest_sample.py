"""The number of samples that fit into memory is measured on a long sample, not on the first one."""

from __future__ import annotations

import pytest
import torch

from trak_cli.plugins.samples import collate
from trak_cli.stages.inputs.microbatches import largest
from trak_cli.stages.inputs.split import Split


@pytest.mark.parametrize("lengths", [(2, 9, 3), (5,), (*range(40), *range(200, 0, -1))])
def test_the_largest_of_evenly_spread_samples(lengths: tuple[int, ...]) -> None:
    dataset = [{"ids": torch.zeros(length), "label": 0, "name": "x" * 500} for length in lengths]
    split = Split("train", dataset, len(dataset), collate, torch.device("cpu"))
    found = split.batch(largest(split, 1).samples)
    assert len(found["label"]) == 1
    assert found["ids"].shape[1] >= 0.9 * max(lengths)
