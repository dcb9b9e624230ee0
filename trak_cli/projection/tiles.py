"""Computes small tiles of a dense random matrix, transposed: complete blocks of coordinates × a strip of columns.

The words are hashed in place and then looked up byte by byte: a byte of a word encodes 8 Rademacher entries or one Gaussian
entry. The values are those of :mod:`trak_cli.projection.definition`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from trak_cli.projection.definition import BLOCK, GOLDEN32, UInt32, UInt64
from trak_cli.projection.gaussian_table import GAUSSIAN_TABLE
from trak_cli.types import Float32, Float64

#: (256, 8): −1 if bit j of the byte is set, otherwise +1.
SIGNS: Final[Float64] = (1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)).astype(np.float64)

#: The entries that a byte of a word encodes.
_ENTRIES: Final[dict[str, Float32]] = {
    "rademacher": SIGNS.astype(np.float32),
    "gaussian": GAUSSIAN_TABLE.astype(np.float32)[:, None],
}


class TileFiller:
    """Reused buffers for tiles of at most ``coordinates`` rows (whole blocks) and ``columns`` columns of P."""

    def __init__(self, kind: str, coordinates: int, columns: int) -> None:
        self._block = BLOCK[kind]
        self._entries = _ENTRIES[kind]
        count = coordinates // self._block * columns
        self._word = np.empty(count, dtype=np.uint32)
        self._spare = np.empty(count, dtype=np.uint32)
        # Memory from PyTorch is aligned, unlike NumPy's; the rounding of a BLAS may depend on alignment.
        self._tile: Float32 = torch.empty(coordinates * columns).numpy()

    def fill(self, keys: UInt64, columns: range) -> Float32:
        """Pᵀ for the blocks with these keys, (n,), and for ``columns``: (len(columns), coordinates) float32.

        The next call overwrites the result.
        """
        shape = (len(columns), len(keys))
        count = shape[0] * shape[1]
        word = self._word[:count].reshape(shape)
        step = np.arange(columns.start, columns.stop, dtype=np.uint32) * np.uint32(GOLDEN32)
        np.add(step[:, None], keys.astype(np.uint32), out=word)
        _fmix_in_place(self._word[:count], self._spare[:count])
        np.add(word, (keys >> np.uint64(32)).astype(np.uint32), out=word)
        _fmix_in_place(self._word[:count], self._spare[:count])
        tile = self._tile[: count * self._block]
        # Bytes are in little-endian order. No byte is outside the table; mode "clip" avoids a buffer.
        byte = self._word[:count].astype("<u4", copy=False).view(np.uint8)
        np.take(self._entries, byte, axis=0, out=tile.reshape(byte.size, -1), mode="clip")
        return tile.reshape(shape[0], -1)


def _fmix_in_place(x: UInt32, spare: UInt32) -> None:
    """:func:`trak_cli.projection.definition.fmix` without new arrays."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        np.right_shift(x, np.uint32(shift), out=spare)
        np.bitwise_xor(x, spare, out=x)
        np.multiply(x, np.uint32(factor), out=x)
    np.right_shift(x, np.uint32(16), out=spare)
    np.bitwise_xor(x, spare, out=x)
