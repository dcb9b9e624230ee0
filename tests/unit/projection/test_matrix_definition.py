"""The definition read a second time, in plain Python integers, and the laws that it promises."""

from __future__ import annotations

import hashlib
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from projection_oracle import matrix

from trak_cli.projection.definition import tensor_key
from trak_cli.projection.gaussian_table import GAUSSIAN_TABLE
from trak_cli.projection.spec import ProjectionSpec

CHECKPOINT = "5a" * 32
CODES = {"rademacher": 1, "gaussian": 2, "sjlt": 3}
ROW = st.one_of(st.integers(0, 200), st.integers(2**31, 2**45))


def fmix(x: int) -> int:
    x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
    x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)


def mix64(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def word(seed: int, name: str, kind: str, block: int, column: int) -> int:
    text = seed.to_bytes(8, "little") + bytes.fromhex(CHECKPOINT) + name.encode()
    T = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
    S = mix64((T + CODES[kind] * 0x9E3779B97F4A7C15) % 2**64)
    K = mix64((S + (block + 1) * 0x9E3779B97F4A7C15) % 2**64)
    return fmix((fmix((0x9E3779B1 * column + K % 2**32) % 2**32) + K // 2**32) % 2**32)


@settings(deadline=None, max_examples=50)
@given(row=ROW, seed=st.integers(0, 2**64 - 1), dim=st.integers(1, 40))
def test_rademacher_is_its_formula_at_any_coordinate(row: int, seed: int, dim: int) -> None:
    expected = [1 - 2 * (word(seed, "w", "rademacher", row // 32, c) >> row % 32 & 1) for c in range(dim)]
    assert matrix(ProjectionSpec("rademacher", dim, seed), CHECKPOINT, "w", [row]).tolist() == [expected]


@settings(deadline=None, max_examples=50)
@given(row=ROW, seed=st.integers(0, 2**64 - 1), dim=st.integers(1, 40))
def test_gaussian_is_its_formula_at_any_coordinate(row: int, seed: int, dim: int) -> None:
    bytes_ = [word(seed, "w", "gaussian", row // 4, c) >> 8 * (row % 4) & 255 for c in range(dim)]
    assert matrix(ProjectionSpec("gaussian", dim, seed), CHECKPOINT, "w", [row]).tolist() == [GAUSSIAN_TABLE[bytes_].tolist()]


@settings(deadline=None, max_examples=50)
@given(row=ROW, seed=st.integers(0, 2**64 - 1), n=st.integers(1, 9), s=st.integers(1, 5))
def test_sjlt_is_its_formula_at_any_coordinate(row: int, seed: int, n: int, s: int) -> None:
    k = 16 * n * s
    expected = np.zeros(k)
    for r in range(s):
        w1 = word(seed, "w", "sjlt", row // 16, 2 * r)
        w2 = word(seed, "w", "sjlt", row // 16, 2 * r + 1)
        column = 16 * (r * n + w2 * n // 2**32) + (row % 16 ^ w1 % 16)
        expected[column] = math.sqrt(k / s) * (1 - 2 * (w1 >> 16 + row % 16 & 1))
    P = matrix(ProjectionSpec("sjlt", k, seed, s), CHECKPOINT, "w", [row])
    np.testing.assert_array_equal(P[0], expected)
    assert np.count_nonzero(P) == s


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_fewer_dense_columns_are_a_prefix_of_more(kind: str) -> None:
    few = matrix(ProjectionSpec(kind, 37), CHECKPOINT, "w", range(100))
    many = matrix(ProjectionSpec(kind, 300), CHECKPOINT, "w", range(100))
    np.testing.assert_array_equal(few, many[:, :37])


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "sjlt"])
def test_coordinates_that_differ_by_two_to_the_32_have_different_rows(kind: str) -> None:
    spec = ProjectionSpec(kind, 64)
    near = matrix(spec, CHECKPOINT, "w", range(640))
    for power in (32, 36, 37, 40):
        far = matrix(spec, CHECKPOINT, "w", range(2**power, 2**power + 640))
        assert np.mean(near == far) < 0.99
        assert abs(np.mean(near * far)) < 5 / math.sqrt(near.size)


def test_tensor_key_tells_every_field_apart() -> None:
    other = CHECKPOINT[:-1] + "b"
    triples = [(0, CHECKPOINT, "w"), (1, CHECKPOINT, "w"), (2**63, CHECKPOINT, "w"), (0, other, "w"), (0, CHECKPOINT, "w.")]
    assert len({tensor_key(*triple) for triple in triples}) == len(triples)


def test_a_checkpoint_is_named_by_a_whole_digest() -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        tensor_key(0, "abcd", "w")


def test_gaussian_table_is_exact_in_sixteen_bits() -> None:
    table = torch.from_numpy(GAUSSIAN_TABLE.copy())
    assert torch.equal(table.bfloat16().double(), table)
    assert torch.equal(table.half().double(), table)


def test_gaussian_table_has_mean_zero_and_variance_one_exactly() -> None:
    assert np.array_equal(GAUSSIAN_TABLE, -GAUSSIAN_TABLE[::-1])
    units = [int(entry * 4096) for entry in GAUSSIAN_TABLE]
    assert sum(units) == 0
    assert sum(unit**2 for unit in units) == 256 * 4096**2


def test_gaussian_table_follows_the_normal_quantiles() -> None:
    quantile = np.array([NormalDist().inv_cdf((j + 0.5) / 256) for j in range(256)])
    quantile /= quantile.std()
    assert np.all(np.diff(GAUSSIAN_TABLE) > 0)
    np.testing.assert_allclose(GAUSSIAN_TABLE, quantile, rtol=0.007)
