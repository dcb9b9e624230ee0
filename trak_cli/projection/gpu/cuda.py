"""Projection on a CUDA device (or an AMD one, under CuPy's ROCm build) by kernels that CuPy compiles at run time.

CuPy caches compiled kernels on disk. Tensors are passed by address, without a copy. Everything runs on PyTorch's current
stream, so it is ordered after the backward pass that computes a gradient and before any use of the features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from trak_cli.projection.blocks import dense
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.definition import stream_key, tensor_key
from trak_cli.projection.gpu.launch import Shape, add_product
from trak_cli.projection.gpu.nvrtc_source import source
from trak_cli.types import AnyBlock

#: Shared memory of a thread block that needs no request, on every CUDA device.
_FREE_SHARED = 48 * 1024


@cache
def missing() -> str | None:
    """Why CUDA kernels cannot run here, with a remedy; None if they can."""
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    try:
        import cupy  # noqa: F401
    except ImportError as error:
        extra = "13" if (torch.version.cuda or "").startswith("13.") else "12"
        return f"CuPy does not import ({error}): pip install 'trak-cli[cuda{extra}]'"
    return None


class CudaProjector:
    """Kinds ``rademacher``, ``gaussian`` and ``sjlt`` (see :class:`trak_cli.projection.contract.Projector`).

    Dense kinds multiply on the tensor cores: float32 gradients are rounded to float16 after their rows are scaled by powers of
    two (features within 1e-3 of exact ones, relative to their size), and sums are float32. A float16 gradient is used without
    conversion. ``sjlt`` sums in float32.
    """

    kernel = "cuda"

    def __init__(self, job: ProjectionJob) -> None:
        self.dim = job.spec.dim
        self._job = job
        self._device = torch.empty(0, device=job.device).device  # has a number, which job.device may lack
        self._gpu = CupyGpu(self._device)

    def project(self, blocks: Iterable[AnyBlock]) -> torch.Tensor:
        """Σ_blocks G_block · P_block: (B, dim) float32, on the device."""
        spec = self._job.spec
        features: torch.Tensor | None = None
        for block in dense(blocks, self._job):
            if block.gradient.device != self._device:
                raise ValueError(f"{block.name}: gradient on {block.gradient.device}, projector on {self._device}")
            if features is None:
                features = torch.zeros(len(block.gradient), self.dim, device=self._device)
            if block.gradient.numel() > 0:
                stream = stream_key(tensor_key(spec.seed, self._job.checkpoint, block.name), spec.kind)
                add_product(self._gpu, spec, stream, block, features)
        assert features is not None, "dense() refuses to yield nothing"
        return features


class CupyGpu:
    """One device, driven by CuPy (see :class:`trak_cli.projection.gpu.launch.Gpu`). Memory comes from PyTorch's allocator."""

    def __init__(self, device: torch.device) -> None:
        import cupy

        self._device = device
        self._uploaded: dict[bytes, torch.Tensor] = {}
        attributes = cupy.cuda.Device(device.index).attributes
        self.shared_limit = max(attributes.get("MaxSharedMemoryPerBlockOptin", 0), _FREE_SHARED)

    def empty(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """(count,) uninitialised memory on the device."""
        return torch.empty(count, dtype=dtype, device=self._device)

    def upload(self, values: np.ndarray[tuple[int], np.dtype[np.int16]]) -> torch.Tensor:
        """The values on the device; equal values are copied once."""
        key = values.tobytes()
        if key not in self._uploaded:
            self._uploaded[key] = torch.from_numpy(values.copy()).to(self._device)
        return self._uploaded[key]

    def launch(self, file: str, kernel: str, shape: Shape, *arguments: torch.Tensor | np.generic) -> None:
        """Queue one kernel on PyTorch's current stream of the device."""
        import cupy

        # Addresses instead of arrays by DLPack, whose construction takes longer than a small kernel.
        values = tuple(np.uintp(value.data_ptr()) if isinstance(value, torch.Tensor) else value for value in arguments)
        stream = _stream(torch.cuda.current_stream(self._device).cuda_stream, self._device.index)
        with cupy.cuda.Device(self._device.index), stream:
            function = _kernel(file, kernel)
            if shape.shared > _FREE_SHARED:
                function.max_dynamic_shared_size_bytes = shape.shared
            function(shape.grid, (shape.threads,), values, shared_mem=shape.shared)


@dataclass(frozen=True)
class _Stream:
    """A CUDA stream by its address, with the protocol ``__cuda_stream__``."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, self.address)


@cache
def _stream(address: int, device: int) -> Any:
    """A PyTorch stream as a CuPy stream."""
    import cupy

    if hasattr(cupy.cuda.Stream, "from_external"):  # since CuPy 14, which deprecates ExternalStream
        return cupy.cuda.Stream.from_external(_Stream(address))
    return cupy.cuda.ExternalStream(address, device)


@cache
def _kernel(file: str, kernel: str) -> Any:
    return _module(file).get_function(kernel)


@cache
def _module(file: str) -> Any:
    import cupy

    return cupy.RawModule(code=source(file), options=("-std=c++17",), backend="nvrtc")
