"""Digests of samples, and checks of data sets."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from trak_cli.errors import InputError, Problem
from trak_cli.user_errors import report_user_errors

#: Least number of samples that are read twice.
_AT_LEAST = 9


class Indexed(Protocol):
    """A map-style data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def collate(samples: list[Any]) -> Any:
    """The batch of several samples: PyTorch's default collate."""
    return default_collate(samples)


def sample_id(sample: Any) -> int:
    """64 bits (unsigned) of BLAKE2b over the values of a sample, with their types and shapes.

    A tensor, a NumPy array and a NumPy number of equal dtype, shape and bytes have the same digest; the order of a mapping's
    keys does not matter. The digest is the same on every machine.

    Raises:
        InputError: the sample holds something other than tensors, arrays, numbers, text, bytes, None, PIL images, and
            tuples, lists, mappings and dataclasses of them.
    """
    digest = blake2b(digest_size=8)
    for piece in _pieces(sample):
        digest.update(len(piece).to_bytes(8, "little"))
        digest.update(piece)
    return int.from_bytes(digest.digest(), "little")


def check_repeatable(dataset: Indexed, indices: Sequence[int], name: str = "the data set", seconds: float = math.inf) -> None:
    """Read ``indices`` twice and refuse a data set that returns different values for the same index.

    Args:
        name: what messages call the data set.
        seconds: after half of them, no further index is read for the first time, if there were nine at least.

    Raises:
        InputError: names the first index whose values changed, with their number, or the first one that cannot be read.
    """
    first: dict[int, int] = {}
    start = time.perf_counter()
    for index in indices:
        first[index] = _read_id(dataset, index, name)
        if time.perf_counter() - start > seconds / 2 and len(first) >= _AT_LEAST:
            break
    changed = [index for index, before in first.items() if _read_id(dataset, index, name) != before]
    if changed:
        others = f", as in {len(changed) - 1} more of the {len(first)} samples that were read" if len(changed) > 1 else ""
        found, remedy = f"different values when it was read again{others}", "remove random augmentation from this data set"
        raise InputError(Problem(f"sample {changed[0]} of {name}", found, "the same values every time", remedy))


def _read_id(dataset: Indexed, index: int, name: str) -> int:
    with report_user_errors(f"sample {index} of {name}", any_code=True):
        return sample_id(dataset[index])


def extreme_rows(values: Tensor) -> list[int]:
    """The rows of the smallest and the largest of some labels (N,), the most likely ones to be out of range."""
    return [int(values.argmin()), int(values.argmax())] if values.dim() == 1 and len(values) and not values.is_complex() else []


def check_length(dataset: object, name: str) -> int:
    """The number of samples of the split ``name``.

    Raises:
        InputError: an empty dataset, or one without ``__len__`` and ``__getitem__``.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        expected = "a map-style dataset, with __len__ and __getitem__"
        raise InputError(Problem(f"dataset {name}", type(dataset).__name__, expected, "read it into a list first"))
    length = len(dataset)
    if length == 0:
        remedy = "check the arguments of the dataset"
        raise InputError(Problem(f"dataset {name}", "no sample", "at least one sample", remedy))
    return length


def _pieces(value: Any) -> Iterator[bytes]:
    """The value as a sequence of byte strings, unique to the value."""
    if isinstance(value, Tensor):
        yield from _tensor_pieces(value)
    elif isinstance(value, np.ndarray | np.generic):
        yield from _array_pieces(np.asarray(value))
    elif value is None or isinstance(value, bool | int | float | complex | str):
        yield f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes | bytearray):
        yield b"bytes"
        yield bytes(value)
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for key in sorted(value, key=lambda key: (type(key).__name__, key)):
            yield from _pieces(key)
            yield from _pieces(value[key])
    elif isinstance(value, list | tuple):
        yield f"sequence {len(value)}".encode()
        for item in value:
            yield from _pieces(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _pieces({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif _is_image(value):
        yield f"image {value.mode} {value.size}".encode()
        yield value.tobytes()
        yield bytes(value.getpalette() or b"")
    else:
        raise _unreadable(type(value).__name__)


def _tensor_pieces(value: Tensor) -> Iterator[bytes]:
    if value.layout != torch.strided or value.is_quantized:
        raise _unreadable(f"a tensor of layout {value.layout}")
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    yield f"array {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}".encode()
    yield plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def _array_pieces(value: np.ndarray[Any, Any]) -> Iterator[bytes]:
    if value.dtype.hasobject:
        raise _unreadable("an array of Python objects")
    little = value.astype(value.dtype.newbyteorder("<"), order="C", copy=False)
    yield f"array {value.dtype.name} {value.shape}".encode()
    yield little.tobytes()


def _is_image(value: Any) -> bool:
    """Whether the value is a PIL image; checked by class name, so that Pillow need not be installed."""
    return any(f"{kind.__module__}.{kind.__name__}" == "PIL.Image.Image" for kind in type(value).__mro__)


def _unreadable(found: str) -> InputError:
    expected = "tensors, arrays, numbers, text, bytes, images, and tuples, lists or mappings of them"
    return InputError(Problem("dataset sample", found, expected, "let the dataset return such values"))
