"""NumPy arrays and numbers in a pickle, rebuilt from checked parts: NumPy's own functions crash on states that were changed."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

#: Dtypes of numbers, booleans and texts of fixed length.
_CODE = re.compile(r"[<>=|]?([?]|[biufc]\d{1,2}|[SU]\d{1,6})")


class Dtype:
    """Stands for ``numpy.dtype`` in a pickle.

    Attributes:
        value: the dtype.
    """

    def __init__(self, code: object = None, *_: object) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise ValueError(f"an array of dtype {code!r:.40}, which holds neither numbers nor texts")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("a dtype without an order of bytes")
        self.value = self.value.newbyteorder(state[1])


class Array(np.ndarray):
    """Stands for ``numpy.ndarray``. A pickle makes an empty one, and gives it its values by :meth:`__setstate__`."""

    def __new__(cls, *_: object) -> Array:
        return np.empty(0, np.uint8).view(cls)

    def __setstate__(self, state: Any) -> None:
        match state:
            case (int(version), tuple(shape), Dtype(value=dtype), bool(fortran), bytes(raw)):
                pass
            case _:
                raise ValueError("an array without numbers")
        fits = all(type(size) is int and size >= 0 for size in shape) and len(shape) <= 32
        if not fits or math.prod(shape) * dtype.itemsize != len(raw):
            raise ValueError(f"an array of shape {shape!r:.60} in {len(raw):,} bytes")
        super().__setstate__((version, shape, dtype, fortran, raw))  # type: ignore[arg-type]  # NumPy refuses its own bool


def empty_array(*_: object) -> Array:
    """Stands for ``numpy._core.multiarray._reconstruct``."""
    return Array()


def number(dtype: object, raw: object = b"") -> Any:
    """Stands for ``numpy._core.multiarray.scalar``.

    Raises:
        ValueError: it is not one number of a dtype.
    """
    if not isinstance(dtype, Dtype) or not isinstance(raw, bytes) or len(raw) != dtype.value.itemsize or not raw:
        raise ValueError("a NumPy number without a value")
    return np.frombuffer(raw, dtype.value, 1)[0]
