"""Samples and labels that make no batch are refused with what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from trak_cli.errors import InputError
from trak_cli.plugins.samples import collate
from trak_cli.stages.inputs.split import Split
from trak_cli.tasks import Classification, TextClassification


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ((Image.new("RGB", (4, 4)), 1), "ToTensor"),
        ((object(), 1), "collate a function"),
        ({"x": torch.zeros(2), "path": None}, "NoneType"),
    ],
)
def test_what_the_default_collate_cannot_join_is_named(sample: Any, says: str) -> None:
    with pytest.raises(InputError) as refused:
        Split("train", [sample] * 3, 3, collate, torch.device("cpu")).collated([sample] * 2)
    assert says in str(refused.value)
    assert "no exception" not in str(refused.value)


@pytest.mark.parametrize(
    ("labels", "says"),
    [(("cat", "dog"), "CLASSES.index(label)"), (torch.tensor([0.5, 1.5]), "task=regression"), ([0, 1], "one int per sample")],
)
def test_labels_of_another_kind_are_refused_with_a_way_to_give_them(labels: Any, says: str) -> None:
    with pytest.raises(InputError) as refused:
        Classification().validate(nn.Linear(3, 2), (torch.zeros(2, 3), labels))
    assert says in str(refused.value)


def test_lists_of_tokens_that_nothing_pads_are_named() -> None:
    batch = {"input_ids": [torch.zeros(2), torch.zeros(2)], "labels": torch.zeros(2, dtype=torch.int64)}
    with pytest.raises(InputError, match=r"batch: input_ids.*DataCollatorWithPadding"):
        TextClassification().output(nn.Linear(3, 2), batch)


def test_a_batch_of_transformers_is_referred_to_its_task() -> None:
    batch = {name: torch.zeros(2, dtype=torch.int64) for name in ("input_ids", "attention_mask", "labels")}
    with pytest.raises(InputError, match="give task=text_classification"):
        Classification().validate(nn.Linear(3, 2), batch)
