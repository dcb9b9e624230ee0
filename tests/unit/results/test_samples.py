"""The records of samples that `trak select` writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch.utils.data import Subset

from trak_cli.errors import InputError
from trak_cli.results.samples import Samples


class Rows:
    """A text data set: a table, and samples made from it."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": np.arange(3)}

    def row(self, i: int) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": "hello"}]} if i < 2 else {}[i]

    def describe(self, i: int) -> dict[str, Any]:
        return {"messages": "user: hello"}


class Images:
    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return np.zeros((3, 4, 4)), 7

    def describe(self, i: int) -> dict[str, Any]:
        return {"image": np.zeros((4, 4)), "file": "a.png"}


def test_a_text_data_set_gives_the_row_of_its_table_as_it_is() -> None:
    samples = Samples("train", Rows())
    assert samples.record(1) == {"messages": [{"role": "user", "content": "hello"}]}
    with pytest.raises(InputError, match=r"row\(2\)"):
        samples.record(2)


@pytest.mark.parametrize(
    ("sample", "words", "names"),
    [
        (("a dull film", "negative"), "label negative, text a dull film", ["label", "text"]),
        ((np.zeros((3, 8, 8), np.float32), np.int64(4)), "label 4", ["label", "image"]),
        (("a text",), "a text", ["text"]),
        ({"text": "a text", "label": 1}, "label 1, text a text", ["label", "text"]),
        (([1, 2, 3], 5), "label 5", []),
    ],
)
def test_a_sample_that_nothing_describes_shows_its_texts_and_images(sample: Any, words: str, names: list[str]) -> None:
    samples = Samples("train", [sample])
    assert samples.words(0) == words
    assert list(samples.description(0)) == names


class Reviews:
    """A data set that names its label in its own way."""

    label_name = "sentiment"
    rows = ("a dull film", "bad"), ("a fine film", "good")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return np.zeros(3), ["bad", "good"].index(self.rows[i][1])

    def describe(self, i: int) -> dict[str, Any]:
        return dict(zip(("review", "sentiment"), self.rows[i], strict=True))


def test_a_data_set_may_name_its_label() -> None:
    samples = Samples("train", Reviews())
    assert (samples.label(1), samples.words(1)) == ("good", "review a fine film, sentiment good")
    assert samples.words(1, labelled=False) == "review a fine film"
    assert samples.record(1) == {"review": "a fine film", "sentiment": "good"}


@pytest.mark.parametrize("label", [3, "good"])
def test_a_data_set_that_describes_nothing_may_name_its_label(label: Any) -> None:
    class Named(list[Any]):
        label_name = "sentiment"

    samples = Samples("train", Named([{"review": "a fine film", "sentiment": label}]))
    assert samples.label(0) == label
    assert samples.words(0) == f"label {label}, review a fine film"
    assert samples.words(0, labelled=False) == "review a fine film"


def test_a_subset_is_described_by_its_data_set() -> None:
    samples = Samples("train", Subset(Subset(Reviews(), [1, 0]), [0]))  # type: ignore[arg-type]
    assert samples.words(0) == "review a fine film, sentiment good"


def test_other_data_sets_give_the_texts_and_numbers_of_the_description_and_the_label() -> None:
    assert Samples("train", Images()).record(0) == {"file": "a.png", "label": 7}
