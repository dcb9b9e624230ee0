"""Values as JSON: images as data URLs, series and texts shortened to what a page can show."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from trak_cli.plugins.optional import needed
from trak_cli.report.values import Tokens, Value
from trak_cli.types import AnyArray, Float64

#: Longer side of an image, in pixels; larger ones are scaled down.
IMAGE_SIDE = 160

#: Points of a series, and its channels; of longer ones, the smallest and largest value of each stretch are kept.
SERIES_POINTS, SERIES_CHANNELS = 240, 6

#: Characters of a text, and tokens of a marked one.
TEXT_CHARACTERS, TEXT_TOKENS = 4000, 800

#: Images up to this side are stored without loss.
_SMALL = 64


def encoded(value: Value) -> dict[str, Any]:
    """The value as a JSON object with ``n`` (name), ``t`` (kind) and its content."""
    return {"n": value.name, "t": value.kind, **_CONTENT[value.kind](value.content)}


def _image(pixels: AnyArray) -> dict[str, Any]:
    """``u``: a data URL; ``w``, ``h``: its size in pixels."""
    image_module = needed("PIL.Image", "report", "trak report")
    shown = as_bytes(pixels)
    image = image_module.fromarray(shown[..., 0] if shown.ndim == 3 and shown.shape[2] == 1 else shown)
    if image.mode == "RGBA":
        image = image_module.alpha_composite(image_module.new("RGBA", image.size, "white"), image).convert("RGB")
    image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    lossless = max(image.size) <= _SMALL
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "PNG", "optimize": True} if lossless else {"format": "JPEG", "quality": 82}))
    url = f"data:image/{'png' if lossless else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"u": url, "w": image.width, "h": image.height}


def as_bytes(pixels: AnyArray) -> npt.NDArray[np.uint8]:
    """An image of any dtype with values 0 to 255.

    uint8 stays as it is. Values in [0, 1] are multiplied by 255, and values in [0, 255] are rounded. Any other range is
    stretched from its least to its greatest finite value.
    """
    if pixels.dtype == np.uint8:
        return pixels
    values = pixels.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if pixels.dtype.kind in "fb" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    scaled = (values - low) / ((high - low) or 1.0) * 255
    return np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).round().astype(np.uint8)


def _series(channels: Float64) -> dict[str, Any]:
    """``y``: the values of each channel, null where they are not finite; ``m``: length of the series, ``c``: its channels."""
    shown = [[_short(number) for number in _thinned(channel)] for channel in channels[:SERIES_CHANNELS]]
    return {"y": shown, "m": channels.shape[1], "c": channels.shape[0]}


def _thinned(channel: Float64) -> list[float]:
    if len(channel) <= SERIES_POINTS:
        return [float(number) for number in channel]
    kept: list[float] = []
    for stretch in np.array_split(channel, SERIES_POINTS // 2):
        finite = stretch[np.isfinite(stretch)]
        if not finite.size:
            kept += [math.nan, math.nan]
            continue
        ends = [float(finite.min()), float(finite.max())]
        kept += ends if int(finite.argmin()) <= int(finite.argmax()) else ends[::-1]
    return kept


def _text(text: str) -> dict[str, Any]:
    """``x``: the text; ``m``: its length, if it was cut."""
    clean = _valid(text)
    return {"x": clean} if len(clean) <= TEXT_CHARACTERS else {"x": clean[:TEXT_CHARACTERS], "m": len(clean)}


def _tokens(marked: Tokens) -> dict[str, Any]:
    """``x``: the tokens; ``p``: positions of the predicted ones; ``m``: how many tokens there are, if some were cut.

    A long text is cut around its predicted tokens, from the first of them on if they are far apart.
    """
    count = len(marked.tokens)
    first = 0
    if count > TEXT_TOKENS and marked.predicted and marked.predicted[-1] >= TEXT_TOKENS:
        first = min(max(0, marked.predicted[0] - TEXT_TOKENS // 4), count - TEXT_TOKENS)
    shown = [_valid(token) for token in marked.tokens[first : first + TEXT_TOKENS]]
    places = [place - first for place in marked.predicted if first <= place < first + TEXT_TOKENS]
    return {"x": shown, "p": places, **({"m": count, "o": first} if count > TEXT_TOKENS else {})}


def _number(number: float) -> dict[str, Any]:
    """``x``: the number; null if it is not finite."""
    return {"x": _short(number)}


def _valid(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot encode, and without NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _short(number: float) -> float | int | None:
    """An integer as it is, a float with five significant digits; None if it is not finite."""
    if isinstance(number, int):
        return number
    return float(f"{number:.5g}") if math.isfinite(number) else None


_CONTENT: dict[str, Callable[[Any], dict[str, Any]]] = {
    "image": _image,
    "series": _series,
    "text": _text,
    "number": _number,
    "tokens": _tokens,
}
