"""The random matrix is frozen. If a test of this file fails because a value was changed on purpose, MATRIX_VERSION must be
raised in the same change, for every feature ever stored was made with the old values."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from projection_oracle import matrix, sjlt

from trak_cli.projection.definition import MATRIX_VERSION, block_key, stream_key, tensor_key, words
from trak_cli.projection.gaussian_table import GAUSSIAN_TABLE
from trak_cli.projection.spec import ProjectionSpec

CHECKPOINT = "".join(f"{byte:02x}" for byte in range(32))
NAME = "layer.weight"
SEED = 7
T = 0xE4DD25B8879AA3E7
BLOCKS = [0, 1, 2**35 + 3]
ROWS = [0, 1, 31, 32, 33, 2**40 + 5]


def test_these_values_are_version_one() -> None:
    assert MATRIX_VERSION == 1


def test_tensor_key() -> None:
    assert tensor_key(SEED, CHECKPOINT, NAME) == T


@pytest.mark.parametrize(
    ("kind", "stream", "keys"),
    [
        ("rademacher", 0xDDDDA5C7CC8F190F, [0x49E224136ADBD21, 0xEBEC78CCB4D746F8, 0xC548273913534D8]),
        ("gaussian", 0x674837DB9E646F2C, [0xD69F3DBDAF270C00, 0x4E509ACEDD381BD, 0x3E496F142D593393]),
        ("sjlt", 0xC7A10AC8E388C51B, [0x4586EB268794B8F, 0xA6B2A61173727106, 0xEBD47F9E59CC571D]),
    ],
)
def test_stream_and_block_keys(kind: str, stream: int, keys: list[int]) -> None:
    assert stream_key(T, kind) == stream
    assert block_key(T, kind, BLOCKS).tolist() == keys


def test_words() -> None:
    assert words(block_key(T, "rademacher", BLOCKS), [0, 1, 2047]).tolist() == [
        [0x67550071, 0x3F0EAB19, 0x38737CF7],
        [0x44FB5758, 0x21B9441C, 0xD6BF881E],
        [0x2A9B892B, 0xA70CB3DD, 0xF7F77587],
    ]


def test_rademacher_entries() -> None:
    assert matrix(ProjectionSpec("rademacher", 8, SEED), CHECKPOINT, NAME, ROWS).tolist() == [
        [-1, -1, 1, -1, -1, 1, -1, -1],
        [1, 1, 1, 1, -1, -1, 1, -1],
        [1, 1, -1, -1, -1, -1, 1, -1],
        [1, 1, 1, -1, -1, 1, 1, 1],
        [1, 1, 1, 1, 1, -1, 1, -1],
        [-1, 1, 1, -1, 1, 1, -1, 1],
    ]


def test_gaussian_entries() -> None:
    entries = matrix(ProjectionSpec("gaussian", 4, SEED), CHECKPOINT, NAME, ROWS)
    assert (entries * 4096).tolist() == [
        [2080, -4928, -3552, -1328],
        [3616, 2304, -8640, -788],
        [-5088, 3920, -20, 1328],
        [1984, -4544, -4256, -788],
        [2592, 10368, 4672, -342],
        [3328, 544, 4192, 2544],
    ]


def test_sjlt_entries() -> None:
    column, value = sjlt(T, np.array(ROWS), dim=256, nonzeros=4)
    assert column.tolist() == [
        [5, 95, 137, 220],
        [4, 94, 136, 221],
        [60, 115, 137, 252],
        [46, 110, 145, 199],
        [47, 111, 144, 198],
        [39, 95, 153, 240],
    ]
    assert value.tolist() == [
        [8, -8, -8, 8],
        [-8, -8, 8, -8],
        [8, 8, -8, 8],
        [-8, -8, -8, 8],
        [8, 8, 8, -8],
        [-8, -8, 8, -8],
    ]


@pytest.mark.parametrize(
    ("kind", "unit", "digest"),
    [
        ("rademacher", 4096, "61b7222bb2653653e1bfd606a59d107ef1645d8db3515f5ed3646c9b9119576f"),
        ("gaussian", 4096, "cef551ff95872a7d829b0ea731e2c9ddcc0a7ef339e9e0cca97fb833e036a3bf"),
        ("sjlt", 48**-0.5, "9d192e4f29d4fc8f7f24d5ce767472528652643c31c42e492d3ac899a52817a4"),
    ],
)
def test_a_thousand_rows(kind: str, unit: float, digest: str) -> None:
    P = matrix(ProjectionSpec(kind, 96, SEED, nonzeros=2), CHECKPOINT, NAME, range(100, 1100))
    whole = np.rint(P * unit).astype("<i8")
    assert hashlib.sha256(whole.tobytes()).hexdigest() == digest


def test_gaussian_table() -> None:
    whole = (GAUSSIAN_TABLE * 4096).astype("<i8")
    digest = "3e7ecda5c58bb856a54d7859e367b9a3eb00370640200e197caf546e82a36c35"
    assert hashlib.sha256(whole.tobytes()).hexdigest() == digest
