"""The values of a sample that a page can show: images, series, texts, numbers and marked tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trak_cli.types import AnyArray

Kind = Literal["image", "series", "text", "number", "tokens"]

#: Names of two-dimensional arrays that are series, (time, channels) or (channels, time), whatever their shape.
SERIES = ("series", "signal", "signals", "waveform", "audio", "time_series")

#: A two-dimensional array of another name is a series of channels if it has at most this many, and is this many times longer.
_CHANNELS, _LONGER = 12, 5

#: An array of at most this many floats is shown as numbers where nothing describes it.
_FEW = 8

#: Numbers of channels of an image.
_COLOURS = (1, 3, 4)


@dataclass(frozen=True)
class Tokens:
    """A text in tokens, of which some are predicted.

    Attributes:
        tokens: the text of each.
        predicted: positions of the predicted ones, ascending.
    """

    tokens: Sequence[str]
    predicted: Sequence[int]


@dataclass(frozen=True)
class Value:
    """One named value of a sample.

    Attributes:
        content: of an image, (H, W) or (H, W, channels) of 1, 3 or 4 channels; of a series, (channels, time) float; of marked
            tokens, :class:`Tokens`; else a text or a number.
    """

    name: str
    kind: Kind
    content: Any


def value_of(name: str, value: Any) -> Value | None:
    """What a description holds under a name, with its kind; None for None.

    Arrays may be NumPy arrays, tensors, PIL images or lists of numbers. A mapping with ``tokens`` (texts) and ``predicted``
    (positions, or one truth value for each token) is a text with marked tokens. Anything else is shown as text.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return Value(name, "text", value)
    if isinstance(value, bool | np.bool_):
        return Value(name, "text", "true" if value else "false")
    if isinstance(value, Mapping) and "tokens" in value:
        return _tokens(name, value)
    if isinstance(value, Sequence) and value and all(isinstance(item, str) for item in value):
        return Value(name, "text", "\n".join(value))
    array = _array(value)
    return Value(name, "text", str(value)) if array is None else _of_array(name, array)


def values_of_sample(sample: Any) -> dict[str, Any]:
    """What can be shown of a sample that nothing describes, by name: its texts, its images and its series of floats; a few
    floats as text under the name "input".

    Args:
        sample: an input, a mapping, or a sequence of inputs whose last item may be the label.
    """
    if isinstance(sample, Mapping):
        named = {str(name): _plain(value) for name, value in sample.items()}
        return {name: value.content for name, value in named.items() if value is not None}
    inputs = [sample] if not isinstance(sample, tuple | list) else list(sample[:-1] if len(sample) > 1 else sample)
    found = [value for value in map(_plain, inputs) if value is not None]
    texts = [value.content for value in found if value.name == "text"]
    others = {value.name: value.content for value in reversed(found) if value.name != "text"}
    return {**others, **({"text": "\n".join(texts)} if texts else {})}


def _plain(value: Any) -> Value | None:
    """A text, an image or a series of floats; None for anything else, such as token ids."""
    if isinstance(value, str):
        return Value("text", "text", value)
    image = type(value).__module__.startswith("PIL.")
    array = _array(value) if image or hasattr(value, "__array__") else None
    if array is None or not (image or array.dtype.kind == "f" or (array.ndim == 3 and array.dtype == np.uint8)):
        return None
    if array.ndim == 1 and 0 < array.size <= _FEW:
        return Value("input", "text", ", ".join(f"{number:.4g}" for number in array.tolist()))
    found = _of_array("input", array)
    return Value(found.kind, found.kind, found.content) if found.kind in ("image", "series") else None


def _of_array(name: str, array: AnyArray) -> Value:
    if array.size == 1 and array.ndim < 2:
        number = array.item()
        return Value(name, "number", number if not isinstance(number, bool) else int(number))
    if array.size and array.ndim == 1:
        return Value(name, "series", array[None].astype(np.float64))
    if array.size and array.ndim == 2:
        short, long = sorted(array.shape)
        narrow = short <= _CHANNELS and long >= _LONGER * short
        if name in SERIES or (narrow and not name.startswith("image")):
            return Value(name, "series", (array.T if array.shape[0] > array.shape[1] else array).astype(np.float64))
        return Value(name, "image", array)
    if array.size and array.ndim == 3 and array.shape[2] in _COLOURS:
        return Value(name, "image", array)
    if array.size and array.ndim == 3 and array.shape[0] in _COLOURS:
        return Value(name, "image", array.transpose(1, 2, 0))
    return Value(name, "text", f"an array of shape {array.shape}")


def _array(value: Any) -> AnyArray | None:
    """A number, an array, a tensor, a PIL image or a list of numbers as an array of numbers; None for anything else."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy has no bfloat16
    if type(value).__module__.startswith("PIL.") and value.mode in ("1", "P", "CMYK", "LA"):
        value = value.convert("RGBA" if value.mode == "LA" else "RGB")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # nested lists of different lengths, ...
        return None
    return array if array.dtype.kind in "iufb" else None


def _tokens(name: str, value: Mapping[str, Any]) -> Value:
    tokens = [str(token) for token in value["tokens"]]
    predicted = list(value.get("predicted", ()))
    if len(predicted) == len(tokens) and all(isinstance(one, bool | np.bool_) for one in predicted):
        predicted = [place for place, one in enumerate(predicted) if one]
    return Value(name, "tokens", Tokens(tokens, sorted(int(place) for place in predicted if 0 <= int(place) < len(tokens))))
