"""A :class:`trak_cli.projection.gpu.launch.Gpu` whose kernels run on the CPU: their own source, compiled by g++."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trak_cli.projection.gpu.launch import Shape

HERE = Path(__file__).parent
#: Bytes around every piece of memory, and what stands in them.
MARGIN, MARK = 64, 0xA5
C_TYPES: Mapping[type[np.generic], type[Any]] = {
    np.int32: ctypes.c_int32,
    np.int64: ctypes.c_int64,
    np.uint64: ctypes.c_uint64,
    np.float32: ctypes.c_float,
}


def compile_kernels(text: str, kernels: Iterable[str], library: Path, fast_mma: bool = True) -> ctypes.CDLL:
    """The kernels in ``text`` as a library; without ``fast_mma`` matrix products take the portable path."""
    exports = "".join(f"EMULATE({kernel})\n" for kernel in kernels)
    define = "#define TRAK_EMULATED_MMA\n" if fast_mma else ""
    unit = library.with_suffix(".cpp")
    unit.write_text(f'{define}#include "emulation.h"\n{text}\n{exports}')
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-sign-compare", "-Wno-unused-function"]
    options = ["-std=c++17", "-O2", *warnings, "-shared", "-fPIC", f"-I{HERE}"]
    subprocess.run(["g++", *options, str(unit), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


class EmulatedGpu:
    """Runs kernels; ``turn`` chooses in which order the threads of a block take turns (0 ascending, 1 descending).

    Writes of a kernel outside the memory from :meth:`empty` are detected by :meth:`check`.
    """

    def __init__(self, libraries: Mapping[str, ctypes.CDLL], *, turn: int = 0, shared_limit: int = 48 * 1024) -> None:
        self.shared_limit = shared_limit
        self.launched: list[tuple[str, Shape]] = []
        self._libraries, self._turn = libraries, turn
        self._memory: list[torch.Tensor] = []

    def empty(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Memory full of NaN bytes between two marked margins."""
        size = count * dtype.itemsize
        memory = torch.full((size + 2 * MARGIN,), MARK, dtype=torch.uint8)
        memory[MARGIN : MARGIN + size] = 0xFF
        self._memory.append(memory)
        return memory[MARGIN : MARGIN + size].view(dtype)

    def upload(self, values: np.ndarray[tuple[int], np.dtype[np.int16]]) -> torch.Tensor:
        """The values themselves."""
        return torch.from_numpy(values.copy())

    def launch(self, file: str, kernel: str, shape: Shape, *arguments: torch.Tensor | np.generic) -> None:
        """Run one kernel to its end."""
        assert shape.shared <= self.shared_limit
        self.launched.append((kernel, shape))
        values = [
            ctypes.c_void_p(value.data_ptr()) if isinstance(value, torch.Tensor) else C_TYPES[type(value)](value.item())
            for value in arguments
        ]
        addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        numbers = (ctypes.c_int * 5)(*shape.grid, shape.threads, shape.shared, self._turn)
        if getattr(self._libraries[file], f"emulate_{kernel}")(numbers, addresses) != 0:
            raise RuntimeError(f"{kernel}: threads wait for each other")

    def check(self) -> None:
        """Fail if a kernel wrote outside its memory."""
        for memory in self._memory:
            assert (memory[:MARGIN] == MARK).all(), "written before the beginning"
            assert (memory[-MARGIN:] == MARK).all(), "written past the end"
