"""The definition of every entry of the random matrix P ∈ R^{p×k}, which all kernels reproduce bit by bit.

An entry depends on (seed, checkpoint, parameter name, coordinate i inside that parameter, column c) only, not on the device,
the batch, the threads or the division of a gradient into blocks. It is computed in four steps:

1. **T**, one 64-bit key for a parameter tensor: :func:`tensor_key`.
2. **S** = mix64(T + code(kind)·0x9E3779B97F4A7C15), the start of the tensor's stream of keys: :func:`stream_key`. A kernel
   needs only S.
3. **K** = mix64(S + (b+1)·0x9E3779B97F4A7C15), the key of block b of consecutive coordinates, b a 64-bit number:
   :func:`block_key`. It is output b of the splitmix64 generator started at S.
4. **W(b, c)** = fmix(fmix(0x9E3779B1·c + lo K) + hi K), 32 random bits for a block and a column: :func:`words`.

All arithmetic is modulo 2^64 or 2^32; mix64 is splitmix64's finaliser and fmix is MurmurHash3's 32-bit one. lo and hi
are the lower and the upper 32 bits.

==========  =====  =================================================================================================
kind        block  entries of row i, which lies in block b = i // block
==========  =====  =================================================================================================
rademacher  32     column c: −1 if bit i % 32 of W(b, c) is set, otherwise +1
gaussian    4      column c: GAUSSIAN_TABLE[byte i % 4 of W(b, c)], byte 0 being the lowest
sjlt        16     for each r < s, with n = k / (16 s), w1 = W(b, 2r), w2 = W(b, 2r+1): one entry, in column
                   16·(r·n + ⌊w2·n / 2^32⌋) + ((i % 16) xor (w1 & 15)), of magnitude sqrt(k/s), negative if bit
                   16 + i % 16 of w1 is set; zero elsewhere
==========  =====  =================================================================================================

Kind ``factored`` treats a weight as an m×n matrix G of coordinates i·n + j and multiplies it from both sides before ``sjlt``
(Choe et al. 2024, arXiv 2405.13954, section 3.2, with random matrices on both sides). With L of m rows and a columns, and R of
n rows and b columns,

    Pᵀ vec(G) = Sᵀ vec(Lᵀ G R),   S the sjlt matrix of a·b rows of this tensor, its row a'·b + b' for the entry (a', b').

√a·L and √b·R are Rademacher matrices whose streams have the codes ``left`` and ``right`` instead of that of ``rademacher``. A
side that is not longer than its number of columns is not multiplied (the identity).

For every kind E[P Pᵀ] = k·I; a dense matrix with fewer columns is a prefix of one with more. A change of any entry must raise
MATRIX_VERSION, which is part of every shard's fingerprint.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from trak_cli.types import Float64, IntArray

MATRIX_VERSION = 1

#: Coordinates that share one block key.
BLOCK = {"rademacher": 32, "gaussian": 4, "sjlt": 16, "left": 32, "right": 32}

#: Distinguishes the streams of different kinds for one tensor.
KIND_CODE = {"rademacher": 1, "gaussian": 2, "sjlt": 3, "left": 4, "right": 5}

GOLDEN64 = 0x9E3779B97F4A7C15
GOLDEN32 = 0x9E3779B1

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]

_MASK64 = 2**64 - 1


def mix64(x: UInt64) -> UInt64:
    """splitmix64's finaliser, elementwise: a bijection of 64-bit words."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def fmix(x: UInt32) -> UInt32:
    """MurmurHash3's 32-bit finaliser, elementwise: a bijection of 32-bit words."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def tensor_key(seed: int, checkpoint: str, name: str) -> int:
    """T: the 64-bit key of one parameter tensor under one checkpoint.

    The first eight bytes, as a little-endian number, of the SHA-256 of: the seed in eight little-endian bytes, the 32
    bytes of the checkpoint's digest, the name in UTF-8. The fields before the name have fixed widths, so different triples
    have different encodings.

    Args:
        seed: 0 ≤ seed < 2^64.
        checkpoint: SHA-256 of the checkpoint file, 64 hexadecimal digits.
        name: canonical parameter name.

    Raises:
        ValueError: ``checkpoint`` is not such a digest.
        OverflowError: ``seed`` does not fit into 64 unsigned bits.
    """
    digest = bytes.fromhex(checkpoint)
    if len(digest) != 32:
        raise ValueError(f"a checkpoint is named by its SHA-256 (64 hexadecimal digits), not by {checkpoint!r}")
    text = seed.to_bytes(8, "little") + digest + name.encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def stream_key(T: int, kind: str) -> int:
    """S: the start of the stream of block keys of a tensor, 64 bits."""
    start = np.array([(T + KIND_CODE[kind] * GOLDEN64) & _MASK64], dtype=np.uint64)
    return int(mix64(start)[0])


def block_key(T: int, kind: str, b: npt.ArrayLike) -> UInt64:
    """K: the keys of the blocks numbered ``b`` (any shape, at least 1-d in the answer), uint64."""
    number = np.atleast_1d(np.asarray(b)).astype(np.uint64)
    return mix64(np.uint64(stream_key(T, kind)) + (number + np.uint64(1)) * np.uint64(GOLDEN64))


def words(K: UInt64, columns: npt.ArrayLike) -> UInt32:
    """W: 32 random bits for every block key in ``K`` (n,) and every column in ``columns`` (m,): (n, m) uint32."""
    low = K.astype(np.uint32)[:, None]
    high = (K >> np.uint64(32)).astype(np.uint32)[:, None]
    c = np.atleast_1d(np.asarray(columns)).astype(np.uint32)[None, :]
    return fmix(fmix(np.uint32(GOLDEN32) * c + low) + high)


def rademacher(T: int, rows: IntArray, columns: IntArray, kind: str = "rademacher") -> Float64:
    """Entries ±1 of the Rademacher matrix, or of √a·L or √b·R for ``kind`` left or right: (len(rows), len(columns)) float64."""
    word = words(block_key(T, kind, rows // 32), columns)
    set_bit = (word >> (rows[:, None] % 32).astype(np.uint32)) & np.uint32(1)
    return np.where(set_bit == 1, -1.0, 1.0)
