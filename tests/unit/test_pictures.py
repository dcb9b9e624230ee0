"""Images of samples: in a terminal as half blocks, and in the picture of `trak top --plot`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from trak_cli.cli.terminal.blocks import COLUMNS, shows_images, strip
from trak_cli.results.pictures import as_image, image_of
from trak_cli.results.samples import Samples


@pytest.mark.parametrize(
    ("array", "middle"),
    [
        (np.full((5, 6), 0.5), 128),
        (np.full((5, 6, 1), 200, np.uint8), 200),
        (np.full((9, 5, 3), -1.0), 0),
        (np.full((9, 5, 4), 7, np.uint8), 7),
        (np.full((4, 4), True), 255),
    ],
)
def test_arrays_that_are_images(array: np.ndarray[Any, Any], middle: int) -> None:
    image = as_image(array)
    assert image is not None
    assert image.shape == (*array.shape[:2], 3)
    assert image[2, 2].tolist() == [middle] * 3


@pytest.mark.parametrize(
    "array", [np.zeros(9), np.zeros((2, 9)), np.zeros((5, 5, 2)), np.full((5, 5), np.nan), np.zeros((1, 5, 5, 3))]
)
def test_arrays_that_are_none(array: np.ndarray[Any, Any]) -> None:
    assert as_image(array) is None


def test_the_image_of_a_sample_without_a_description_is_its_input() -> None:
    tensors = Samples("train", [(torch.rand(3, 5, 7), 1), (torch.rand(4), 0)])
    image = image_of(tensors, 0)
    assert image is not None
    assert image.shape == (5, 7, 3)
    assert image_of(tensors, 1) is None
    assert image_of(None, 0) is None


def test_a_strip_has_the_colours_of_the_image_and_fits_the_width() -> None:
    image = np.zeros((28, 28, 3), np.uint8)
    image[:14] = (255, 0, 0)
    console = Console(force_terminal=True, color_system="truecolor", width=80, legacy_windows=False)
    with console.capture() as capture:
        console.print(strip([image, None, *[image] * 9], [str(number) for number in range(11)], 80))
    text = capture.get()
    assert "38;2;255;0;0" in text
    assert text.count("▀") == 5 * COLUMNS * COLUMNS // 2
    assert not strip([None], ["0"], 80)


@pytest.mark.parametrize(
    ("terminal", "environment", "wanted", "shown"),
    [
        (True, {"TERM": "xterm-256color"}, True, True),
        (False, {"TERM": "xterm-256color"}, True, False),
        (True, {"TERM": "xterm-256color", "NO_COLOR": "1"}, True, False),
        (True, {"TERM": "dumb"}, True, False),
        (True, {"TERM": "xterm-256color"}, False, False),
    ],
)
def test_images_are_shown_on_a_terminal_with_colours_only(
    terminal: bool, environment: dict[str, str], wanted: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stdout = type("Stdout", (), {"encoding": "utf-8", "isatty": lambda self: terminal})()
    monkeypatch.setattr("sys.stdout", stdout)
    assert shows_images(wanted) == shown
