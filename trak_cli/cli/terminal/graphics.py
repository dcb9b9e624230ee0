"""Images in terminals that draw pixels: those with the graphics protocol of kitty, or with sixel (extra ``terminal``)."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

if TYPE_CHECKING:
    from trak_cli.results.pictures import Image

#: Pixels of an image for each character of its width.
_PIXELS = 12


@functools.cache
def drawing() -> Any:
    """The class of textual-image that draws in this terminal; None if the package is not installed, or the terminal draws none.

    The package queries the terminal, whose input and output it needs, and waits at most a tenth of a second for each protocol.
    """
    if importlib.util.find_spec("textual_image") is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    if 0 in os.get_terminal_size(sys.stdout.fileno()):  # the package divides by it
        return None
    try:
        from textual_image.renderable import Image, SixelImage, TGPImage  # queries when it is imported
    except Exception:  # the answer of the terminal is not one that the package knows
        return None
    return Image if Image in (SixelImage, TGPImage) else None


def drawn_strip(kind: Any, captioned: Sequence[tuple[Image, str]], columns: int) -> RenderableType:
    """Images side by side with a caption under each; every one is ``columns`` characters wide, and a space lies between two.

    Args:
        kind: the class of :func:`drawing`.
        captioned: at least one image, with its caption.
    """
    from PIL import Image as Pillow

    side = _PIXELS * columns
    whole = np.zeros((side, len(captioned) * (side + _PIXELS) - _PIXELS, 3), np.uint8)
    for number, (image, _) in enumerate(captioned):
        scale = side / max(image.shape[:2])
        height, width = (max(1, round(scale * size)) for size in image.shape[:2])
        pixels = np.asarray(Pillow.fromarray(image).resize((width, height), Pillow.Resampling.NEAREST if scale > 2 else None))
        top, left = (side - height) // 2, number * (side + _PIXELS) + (side - width) // 2
        whole[top : top + height, left : left + width] = pixels
    picture = kind(Pillow.fromarray(whole), width=len(captioned) * (columns + 1) - 1, height="auto")
    return Group(picture, Text(" ".join(caption[:columns].ljust(columns) for _, caption in captioned)))
