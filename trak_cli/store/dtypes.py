"""Features in fewer bytes: float32 to float16 or bfloat16 and back, refusing what would be lost.

HDF5 has no bfloat16: its 16 bits are stored as uint16, and the dataset's attribute ``dtype`` says what they are.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from trak_cli.errors import InputError, Problem
from trak_cli.types import BoolArray, Float32

FeatureDtype = Literal["float32", "float16", "bfloat16"]
FEATURE_DTYPES: tuple[str, ...] = get_args(FeatureDtype)

#: Largest fraction of the non-zero values that may become zero.
MAX_UNDERFLOW = 1e-4

AnyArray = npt.NDArray[Any]


def encode_features(features: Float32, dtype: str, first_row: int = 0, what: str = "features") -> AnyArray:
    """Round ``features`` to ``dtype``, to nearest, ties to even.

    Args:
        features: (rows, k) or (rows,) float32.
        dtype: one of ``FEATURE_DTYPES``.
        first_row: number of the first row, for error messages.
        what: what the values are called in error messages.

    Returns:
        An array of the same shape: float32, float16, or uint16 (the bits of bfloat16).

    Raises:
        InputError: a value is NaN or infinite, or would become infinite, or more than ``MAX_UNDERFLOW`` of the non-zero
            values would become zero.
        ValueError: no such dtype.
    """
    _refuse(~np.isfinite(features), features, first_row, what, ("", "a finite value"))
    if dtype == "float32":
        return np.ascontiguousarray(features, dtype=np.float32)
    encoded = _narrow(features, dtype)
    overflows = (", which overflows", f"a value that {dtype} can hold")
    _refuse(~np.isfinite(widen(encoded, dtype)), features, first_row, what, overflows)
    _refuse_underflow(features, encoded, dtype)
    return encoded


def underflows(features: Float32, dtype: str) -> int:
    """How many non-zero values of ``features`` become zero in ``dtype``."""
    encoded = _narrow(features, dtype)
    return int(np.count_nonzero((features != 0) & (widen(encoded, dtype) == 0)))


def widen(stored: AnyArray, dtype: str) -> Float32:
    """The float32 values of an encoded array; exact."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def _narrow(features: Float32, dtype: str) -> AnyArray:
    if dtype == "float32":
        return features
    if dtype == "float16":
        with np.errstate(over="ignore", under="ignore"):
            return np.ascontiguousarray(features).astype(np.float16)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(features, dtype=np.float32).view(np.uint32)
        # Adding just under half of the last kept bit, and one more when that bit is set, rounds to nearest, ties to
        # even; a carry into the exponent is what rounding up across a power of two (or to infinity) means.
        return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    raise ValueError(f"features dtype {dtype!r} is none of {FEATURE_DTYPES}")


def _refuse(bad: BoolArray, features: Float32, first_row: int, what: str, fault: tuple[str, str]) -> None:
    if not bad.any():
        return
    place = tuple(np.argwhere(bad)[0].tolist())
    others = int(np.count_nonzero(bad)) - 1
    raise InputError(
        Problem(
            where=f"{what} of sample {first_row + place[0]}" + (f", column {place[1]}" if len(place) > 1 else ""),
            found=f"{features[place]}{fault[0]}" + (f" (and {others} more such values)" if others else ""),
            expected=fault[1],
            remedy="look at this sample, or store with features.dtype=float32" if fault[0] else "look at this sample",
        )
    )


def _refuse_underflow(features: Float32, encoded: AnyArray, dtype: str) -> None:
    nonzero = int(np.count_nonzero(features))
    lost = int(np.count_nonzero((features != 0) & (widen(encoded, dtype) == 0)))
    if lost > MAX_UNDERFLOW * nonzero:
        raise InputError(
            Problem(
                where="features.dtype",
                found=f"{dtype}, in which {lost} of {nonzero} non-zero values become zero",
                expected=f"at most a fraction of {MAX_UNDERFLOW}",
                remedy="set features.dtype=bfloat16 or float32",
            )
        )
