"""The kinds of values that a data set may describe a sample by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from trak_cli.report.encoding import SERIES_CHANNELS, SERIES_POINTS, TEXT_CHARACTERS, TEXT_TOKENS, as_bytes, encoded
from trak_cli.report.values import value_of, values_of_sample


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("image", np.zeros((9, 7)), "image"),
        ("image", np.zeros((2, 40)), "image"),
        ("image", torch.zeros(3, 8, 5, dtype=torch.bfloat16), "image"),
        ("photo", np.zeros((8, 5, 4), np.uint8), "image"),
        ("photo", Image.new("P", (4, 6)), "image"),
        ("signal", np.zeros((4, 5)), "series"),
        ("sensors", np.zeros((200, 3)), "series"),
        ("prices", [1.0, 2.5, 3.0], "series"),
        ("age", 31, "number"),
        ("age", np.float32(3.5), "number"),
        ("weight", torch.tensor([2.0]), "number"),
        ("smoker", True, "text"),
        ("comment", "well", "text"),
        ("lines", ["one", "two"], "text"),
        ("story", {"tokens": ["a", "b"], "predicted": [1]}, "tokens"),
        ("volume", np.zeros((5, 6, 7, 8)), "text"),
        ("other", object, "text"),
    ],
)
def test_the_kind_follows_from_type_shape_and_name(name: str, value: object, kind: str) -> None:
    found = value_of(name, value)
    assert found is not None
    assert (found.name, found.kind) == (name, kind)
    assert encoded(found)["t"] == kind


def test_nothing_is_shown_of_none() -> None:
    assert value_of("label", None) is None


def test_channels_come_first_in_an_encoded_series() -> None:
    value = value_of("sensors", np.arange(600.0).reshape(200, 3))
    assert value is not None
    shown = encoded(value)
    assert (shown["m"], shown["c"], len(shown["y"])) == (200, 3, 3)
    assert shown["y"][1][:3] == [1, 4, 7]


def test_a_long_series_keeps_its_extremes_and_its_gaps() -> None:
    numbers = np.zeros((SERIES_CHANNELS + 2, 5003))
    numbers[0, 777], numbers[0, 4001], numbers[1] = 5, -3, np.nan
    value = value_of("series", numbers)
    assert value is not None
    shown = encoded(value)["y"]
    assert [len(channel) for channel in shown] == [SERIES_POINTS] * SERIES_CHANNELS
    assert (max(shown[0]), min(shown[0])) == (5, -3)
    assert set(shown[1]) == {None}


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[0.0, 1.0, 0.5]]), [0, 255, 128]),
        (np.array([[0.0, 255.0, 17.2]]), [0, 255, 17]),
        (np.array([[-1.0, 1.0, np.nan]]), [0, 255, 0]),
        (np.array([[0, 1, 255]], np.uint8), [0, 1, 255]),
        (np.array([[0, 65535]], np.uint16), [0, 255]),
        (np.array([[True, False]]), [255, 0]),
        (np.array([[np.nan, np.inf]]), [0, 255]),
    ],
)
def test_images_of_any_range_become_bytes(pixels: np.ndarray, expected: list[int]) -> None:
    assert as_bytes(pixels)[0].tolist() == expected


def test_long_texts_are_cut_and_say_so() -> None:
    value = value_of("text", "x" * (TEXT_CHARACTERS + 5) + "\ud800")
    assert value is not None
    assert encoded(value) == {"n": "text", "t": "text", "x": "x" * TEXT_CHARACTERS, "m": TEXT_CHARACTERS + 6}


def test_a_long_marked_text_is_cut_around_its_predicted_tokens() -> None:
    value = value_of("story", {"tokens": [f"t{i}" for i in range(3 * TEXT_TOKENS)], "predicted": [2 * TEXT_TOKENS]})
    assert value is not None
    shown = encoded(value)
    (place,) = shown["p"]
    assert len(shown["x"]) == TEXT_TOKENS
    assert shown["x"][place] == f"t{2 * TEXT_TOKENS}"
    assert shown["m"] == 3 * TEXT_TOKENS


def test_predicted_tokens_may_be_marked_by_truth_values() -> None:
    value = value_of("story", {"tokens": ["a", "b", "c"], "predicted": [True, False, True]})
    assert value is not None
    assert encoded(value)["p"] == [0, 2]


@pytest.mark.parametrize(
    ("sample", "kind", "shape"),
    [
        ((np.zeros(30, np.float32), 1), "series", (1, 30)),
        ([torch.zeros(2, 50), 1], "series", (2, 50)),
        (torch.zeros(3, 32, 32), "image", (32, 32, 3)),
        ((np.zeros((8, 8, 3), np.uint8), 0), "image", (8, 8, 3)),
        ((torch.zeros(28, 28), 4), "image", (28, 28)),
        ((Image.new("RGB", (6, 4)), "a cat"), "image", (4, 6, 3)),
    ],
)
def test_the_input_of_a_sample_that_nothing_describes_is_shown(sample: object, kind: str, shape: tuple[int, ...]) -> None:
    ((name, content),) = values_of_sample(sample).items()
    assert (name, content.shape) == (kind, shape)
    value = value_of(name, content)
    assert value is not None
    assert value.kind == kind


@pytest.mark.parametrize(
    ("sample", "shown"),
    [
        ("a text", {"text": "a text"}),
        (("a text", "positive"), {"text": "a text"}),
        (("a premise", "a hypothesis", 2), {"text": "a premise\na hypothesis"}),
        ((torch.tensor([1.5, -2.0, 1 / 3]), 1), {"input": "1.5, -2, 0.3333"}),
        ({"question": "why?", "input_ids": torch.arange(4)}, {"question": "why?"}),
    ],
)
def test_the_texts_of_a_sample_that_nothing_describes_are_shown(sample: object, shown: dict[str, str]) -> None:
    assert values_of_sample(sample) == shown


@pytest.mark.parametrize("sample", [(torch.arange(9), 1), {"input_ids": [1, 2]}, (), (1.5, 2), torch.zeros(2, 3, 4, 5)])
def test_tokens_and_numbers_are_not_shown(sample: object) -> None:
    assert values_of_sample(sample) == {}
