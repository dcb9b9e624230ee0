"""Features in fewer bytes: the error of every dtype has a bound per row, and no finite row is refused or lost."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trak_cli.errors import InputError
from trak_cli.store.dtypes import FEATURE_DTYPES, SCALED_DTYPES, decode_rows, encode_rows, row_bytes

LARGEST = np.finfo(np.float32).max
SMALLEST = np.float32(2.0**-149)

_BITS = st.integers(0, 2**32 - 1).map(lambda bits: np.array([bits], np.uint32).view(np.float32)[0])
#: Any finite float32, every exponent as likely as any other.
FINITE = _BITS.filter(np.isfinite)
ROWS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FINITE)
ALIKE = hnp.arrays(np.float32, (3, 8), elements=st.floats(-4, 4, width=32))

several = settings(deadline=None, max_examples=200)
scaled = pytest.mark.parametrize("dtype", SCALED_DTYPES)


def stored(features: np.ndarray, dtype: str) -> np.ndarray:
    return decode_rows(encode_rows(features, dtype), dtype)


def bound(features: np.ndarray, dtype: str) -> np.ndarray:
    """The largest error that the module's docstring allows each value, in float64."""
    wide = np.abs(features.astype(np.float64))
    largest = wide.max(axis=1, keepdims=True)
    relative, of_largest = {"float16": (2.0**-11, 2.0**-39), "int8": (0.0, 1 / 254)}[dtype]
    return relative * wide + of_largest * largest * (1 + 1e-6) + 1.5 * float(SMALLEST)


@scaled
@several
@given(features=ROWS)
@example(features=np.full((1, 2), LARGEST, np.float32))
@example(features=np.array([[LARGEST, -1.0, SMALLEST]], np.float32))
@example(features=np.array([[SMALLEST, 0.0, 189 * SMALLEST]], np.float32))
@example(features=np.array([[1e30, 1e-30, 0.0]], np.float32))
@example(features=np.array([[255 * SMALLEST]], np.float32))
def test_the_error_of_every_value_is_bounded_by_its_row(dtype: str, features: np.ndarray) -> None:
    found = stored(features, dtype)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (np.abs(found.astype(np.float64) - features) <= bound(features, dtype)).all()


@scaled
@several
@given(features=ROWS)
def test_no_row_overflows_or_underflows_as_a_whole(dtype: str, features: np.ndarray) -> None:
    np.testing.assert_array_equal(stored(features, dtype).any(axis=1), features.any(axis=1))


@scaled
@several
@given(features=ALIKE, exponent=st.integers(-60, 60))
def test_rows_times_a_power_of_two_are_stored_as_the_same_values(dtype: str, features: np.ndarray, exponent: int) -> None:
    features = np.where(np.abs(features) < 1e-6, 0, features).astype(np.float32)
    larger = np.ldexp(features, exponent)
    np.testing.assert_array_equal(encode_rows(larger, dtype).values, encode_rows(features, dtype).values)
    np.testing.assert_array_equal(stored(larger, dtype), np.ldexp(stored(features, dtype), exponent))


@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
@several
@given(features=ALIKE, cut=st.integers(0, 3))
def test_a_row_is_stored_independently_of_its_neighbours(dtype: str, features: np.ndarray, cut: int) -> None:
    parts = [stored(part, dtype) for part in (features[:cut], features[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), stored(features, dtype))


@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
@several
@given(features=ALIKE)
@example(features=np.full((1, 3), 189 * SMALLEST, np.float32))
def test_storing_twice_changes_nothing_more(dtype: str, features: np.ndarray) -> None:
    once = stored(features, dtype)
    # Below 1.5e-36 the scale of an int8 row is subnormal: it is rounded by up to half of the smallest float32, and each value
    # is up to 127 scales.
    rtol, atol = (1e-6, 127 * float(SMALLEST)) if dtype == "int8" else (0, 0)
    np.testing.assert_allclose(stored(once, dtype), once, rtol=rtol, atol=atol)


@scaled
def test_a_row_of_zeros_has_the_scale_one(dtype: str) -> None:
    features = np.zeros((2, 4), np.float32)
    features[1, 2] = 3
    encoded = encode_rows(features, dtype)
    assert encoded.scales is not None
    assert (encoded.scales.dtype, encoded.scales.shape, encoded.scales[0]) == (np.float32, (2,), 1)
    np.testing.assert_array_equal(encoded.values[0], 0)


def test_scales_of_float16_are_powers_of_two_and_int8_fills_its_range() -> None:
    features = np.random.default_rng(0).standard_normal((50, 30)).astype(np.float32) * np.logspace(-30, 30, 50)[:, None]
    scales = encode_rows(features.astype(np.float32), "float16").scales
    assert scales is not None
    np.testing.assert_array_equal(np.frexp(scales)[0], 0.5)
    np.testing.assert_array_equal(np.abs(encode_rows(features.astype(np.float32), "int8").values.astype(int)).max(axis=1), 127)


@several
@given(hnp.arrays(np.float32, (2, 8), elements=st.one_of(FINITE, st.floats(-2, 2, width=32))))
def test_bfloat16_is_rounded_as_torch_rounds_it(features: np.ndarray) -> None:
    expected = torch.from_numpy(features.copy()).to(torch.bfloat16)
    if torch.isinf(expected).any():
        with pytest.raises(InputError, match="overflows"):
            encode_rows(features, "bfloat16")
        return
    encoded = encode_rows(features, "bfloat16")
    np.testing.assert_array_equal(encoded.values, expected.view(torch.uint16).numpy())
    np.testing.assert_array_equal(decode_rows(encoded, "bfloat16"), expected.to(torch.float32).numpy())


def test_bfloat16_ties_go_to_even() -> None:
    bits = np.array([[0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xBF818000, 0x00000000, 0x80000000]], np.uint32)
    expected = np.array([[0x3F80, 0x3F82, 0x3F81, 0x3F80, 0xBF82, 0x0000, 0x8000]], np.uint16)
    np.testing.assert_array_equal(encode_rows(bits.view(np.float32), "bfloat16").values, expected)


def test_a_value_that_overflows_bfloat16_is_refused_with_its_sample() -> None:
    features = np.ones((4, 5), np.float32)
    features[2, 3] = -3.3895e38
    assert np.isfinite(stored(features, "bfloat16")).all()
    features[2, 3] = -3.4e38
    features[3, 4] = 3.4e38
    with pytest.raises(InputError, match=r"sample 1002, column 3: found -.*overflows \(and 1 more such values\)"):
        encode_rows(features, "bfloat16", first_row=1000)


@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(dtype: str, value: float) -> None:
    features = np.ones((4, 5), np.float32)
    features[1, 0] = value
    with pytest.raises(InputError, match=rf"features of sample 11, column 0: found {value}"):
        encode_rows(features, dtype, first_row=10)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="float8"):
        encode_rows(np.ones((1, 1), np.float32), "float8")


@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
def test_the_bytes_of_a_row(dtype: str) -> None:
    encoded = encode_rows(np.ones((3, 7), np.float32), dtype)
    scales = 0 if encoded.scales is None else encoded.scales.nbytes
    assert encoded.values.nbytes + scales == 3 * row_bytes(dtype, 7)
