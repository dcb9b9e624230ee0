"""Images in a terminal: pixels where it draws them, else coloured half blocks, of which each shows two pixels."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from trak_cli.results.pictures import Image

#: Width of an image in characters; its height is half of that.
COLUMNS = 14


def shows_images(wanted: bool) -> bool:
    """Whether images are shown: on a terminal with colours that can encode the blocks, unless they are not wanted."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    coloured = "NO_COLOR" not in os.environ and os.environ.get("TERM") not in (None, "dumb")
    return wanted and coloured and encoding == "utf8" and sys.stdout.isatty()


def strip(images: Sequence[Image | None], captions: Sequence[str], width: int) -> RenderableType | None:
    """Images side by side with a caption under each, as many as fit into ``width`` characters; None without images."""
    shown = [(image, caption) for image, caption in zip(images, captions, strict=True) if image is not None]
    shown = shown[: max(1, (width + 1) // (COLUMNS + 1))]
    if not shown:
        return None
    from trak_cli.cli.terminal.graphics import drawing, drawn_strip  # imports NumPy

    if (kind := drawing()) is not None:
        return drawn_strip(kind, shown, COLUMNS)
    result = Text()
    pixels = [_resized(image, COLUMNS) for image, _ in shown]
    for line in range(0, COLUMNS, 2):
        for picture in pixels:
            for above, below in zip(picture[line], picture[line + 1], strict=True):
                result.append("▀", Style(color=_hex(above), bgcolor=_hex(below)))
            result.append(" ")
        result.append("\n")
    result.append(" ".join(caption[:COLUMNS].ljust(COLUMNS) for _, caption in shown))
    return result


def _resized(image: Image, side: int) -> list[list[tuple[int, ...]]]:
    """The image as side × side pixels: means over boxes, on black where it is not square."""
    height, width = image.shape[:2]
    scale = max(height, width) / side
    result: list[list[tuple[int, ...]]] = [[(0, 0, 0)] * side for _ in range(side)]
    top, left = round((side - height / scale) / 2), round((side - width / scale) / 2)
    for line in range(top, side - top):
        for column in range(left, side - left):
            first, start = int((line - top) * scale), int((column - left) * scale)
            box = image[
                first : max(first + 1, int((line - top + 1) * scale)), start : max(start + 1, int((column - left + 1) * scale))
            ]
            if box.size:
                result[line][column] = tuple(int(value) for value in box.reshape(-1, 3).mean(axis=0))
    return result


def _hex(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
