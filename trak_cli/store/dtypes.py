"""Features in fewer bytes: float32 to float16, int8 or bfloat16 and back.

float16 and int8 rows have a scale of their own, so that no row overflows or underflows as a whole, whatever the size of its
values. HDF5 has no bfloat16: its 16 bits are stored as uint16, and the dataset's attribute ``dtype`` names the format.

Largest error of a value x in a row whose largest magnitude is m (in addition to float32's own limit of 2^-149):

    float32    exact
    float16    2^-11 |x| + 2^-39 m
    int8       m / 254
    bfloat16   2^-8 |x|
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trak_cli.errors import InputError, Problem
from trak_cli.types import AnyArray, BoolArray, Float32

#: What a value is stored as, by dtype.
STORED_AS = {
    name: np.dtype(code) for name, code in {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "int8": "i1"}.items()
}
FEATURE_DTYPES = tuple(STORED_AS)

#: The dtypes whose rows have a scale.
SCALED_DTYPES = ("float16", "int8")

#: A float16 row is scaled so that its largest magnitude is in [2^14, 2^15): float16 ends at 2^16.
_FLOAT16_EXPONENT = 15

#: Smallest exponent of a float16 scale: the smallest normal float32. Below it, float16 is exact without a smaller scale.
_LEAST_EXPONENT = -126

#: Largest float16 below 2^15: a float32 row near its own maximum, rounded up to 2^15, would overflow when it is read.
_FLOAT16_LARGEST = 2.0**15 - 16

_INT8_LARGEST = 127


@dataclass(frozen=True)
class EncodedRows:
    """Rows as they are stored.

    Attributes:
        values: (rows, k) float32, float16, int8, or uint16 (the bits of bfloat16).
        scales: (rows,) float32, the factor of each row; None for a dtype without scales.
    """

    values: AnyArray
    scales: Float32 | None = None


def encode_rows(features: Float32, dtype: str, first_row: int = 0, what: str = "features") -> EncodedRows:
    """Round ``features`` to ``dtype``, to nearest, ties to even; each row by itself.

    A float16 row is divided by a power of two, an int8 row by max|x| / 127; a row of zeros has the scale 1.

    Args:
        features: (rows, k) float32.
        dtype: one of ``FEATURE_DTYPES``.
        first_row: number of the first row, for error messages.
        what: what the values are called in error messages.

    Raises:
        InputError: a value is NaN or infinite, or exceeds bfloat16's largest (3.39e38).
        ValueError: no such dtype.
    """
    check_values(features, first_row, what)
    features = np.ascontiguousarray(features, dtype=np.float32)
    if dtype == "float32":
        return EncodedRows(features)
    if dtype == "float16":
        return _to_float16(features)
    if dtype == "int8":
        return _to_int8(features)
    if dtype == "bfloat16":
        encoded = EncodedRows(_to_bfloat16(features))
        overflows = ~np.isfinite(decode_rows(encoded, dtype))
        _refuse(overflows, features, first_row, what, (", which overflows", "a value that bfloat16 can hold"))
        return encoded
    raise ValueError(f"features dtype {dtype!r} is none of {FEATURE_DTYPES}")


def decode_rows(encoded: EncodedRows, dtype: str) -> Float32:
    """The float32 values (rows, k) of encoded rows, multiplied by their scales; float32 values are not copied."""
    if dtype == "bfloat16":
        bits = encoded.values.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    values = encoded.values.astype(np.float32, copy=False)
    if encoded.scales is not None:
        values *= encoded.scales[:, None]
    return values


def row_bytes(dtype: str, k: int) -> int:
    """Bytes of one stored row of k features, its scale included."""
    return k * STORED_AS[dtype].itemsize + (4 if dtype in SCALED_DTYPES else 0)


def check_values(values: Float32, first_row: int, what: str) -> None:
    """Refuse values (rows,) or (rows, k) that are not finite.

    Raises:
        InputError: names the first sample and its value.
    """
    _refuse(~np.isfinite(values), values, first_row, what, ("", "a finite value"))


def _to_float16(features: Float32) -> EncodedRows:
    largest = _largest(features)
    _, exponents = np.frexp(largest)  # largest = m 2^exponent with m in [1/2, 1)
    exponents = np.where(largest > 0, np.maximum(exponents - _FLOAT16_EXPONENT, _LEAST_EXPONENT), 0)
    scaled = np.ldexp(features, -exponents[:, None])
    with np.errstate(under="ignore"):
        values = np.clip(scaled, -_FLOAT16_LARGEST, _FLOAT16_LARGEST).astype(np.float16)
    return EncodedRows(values, np.ldexp(np.float32(1), exponents))


def _to_int8(features: Float32) -> EncodedRows:
    largest = _largest(features)
    scales = (largest / _INT8_LARGEST).astype(np.float32)
    with np.errstate(over="ignore"):
        # At the ends of float32 the rounded scale may give an infinite product, or be too small for int8.
        scales = np.where(np.isinf(scales * np.float32(_INT8_LARGEST)), np.nextafter(scales, np.float32(0)), scales)
        above = np.nextafter(scales, np.float32(np.inf))
        scales = np.where(scales.astype(np.float64) * (_INT8_LARGEST + 0.5) <= largest, above, scales)
    scales = np.where(largest > 0, scales, np.float32(1))
    return EncodedRows(np.rint(features / scales[:, None]).astype(np.int8), scales)


def _to_bfloat16(features: Float32) -> AnyArray:
    bits = features.view(np.uint32)
    # Adding just under half of the last kept bit, and one more when that bit is set, rounds to nearest, ties to
    # even; a carry into the exponent is what rounding up across a power of two (or to infinity) means.
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def _largest(features: Float32) -> Float32:
    """The largest magnitude of each row: (rows,)."""
    largest: Float32 = np.maximum(features.max(axis=1, initial=0.0), -features.min(axis=1, initial=0.0))
    return largest


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
            remedy="inspect this sample, or set features.dtype=float16" if fault[0] else "inspect this sample",
        )
    )
