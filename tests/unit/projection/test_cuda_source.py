"""The CUDA sources compile for every GPU generation with neither a driver nor the toolkit's headers."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch

from trak_cli.errors import MachineError
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.gpu import cuda
from trak_cli.projection.gpu.nvrtc_source import ENTRY_POINTS, source
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec

ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
PACKAGES = ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc")


@cache
def nvrtc() -> ctypes.CDLL | None:
    """NVIDIA's run-time compiler from its wheel, or None where that is not installed."""
    for package in PACKAGES:
        try:
            files = distribution(package).files or []
        except PackageNotFoundError:
            continue
        for file in files:
            if re.fullmatch(r"libnvrtc\.so\.\d+", file.name):
                return ctypes.CDLL(str(Path(str(file.locate()))))
    return None


needs_nvrtc = pytest.mark.skipif(
    nvrtc() is None, reason="the wheel nvidia-cuda-nvrtc-cu12 is not installed: CUDA sources cannot be compiled"
)


@dataclass(frozen=True)
class Compiled:
    """What the compiler gave: assembly text, and its notes about registers and memory."""

    ptx: str
    log: str


@cache
def compiled(file: str, architecture: str) -> Compiled:
    lib = nvrtc()
    assert lib is not None
    program = ctypes.c_void_p()
    text = source(file).encode()
    assert lib.nvrtcCreateProgram(ctypes.byref(program), text, file.encode(), 0, None, None) == 0
    options = (f"--gpu-architecture={architecture}".encode(), b"-std=c++17", b"--ptxas-options=-v")
    status = lib.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    log = _text(lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog, program)
    assert status == 0, log
    return Compiled(_text(lib.nvrtcGetPTXSize, lib.nvrtcGetPTX, program), log)


def _text(size_of: ctypes._CFuncPtr, get: ctypes._CFuncPtr, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert get(program, text) == 0
    return text.value.decode()


def entry(ptx: str, kernel: str) -> str:
    """The body of one kernel."""
    match = re.search(rf"\.entry {kernel}\(.*?^}}", ptx, re.DOTALL | re.MULTILINE)
    assert match, f"{kernel} is not there"
    return match[0]


@pytest.mark.parametrize("file", ENTRY_POINTS)
def test_a_source_is_whole_and_includes_nothing(file: str) -> None:
    text = source(file)
    assert "#include" not in text
    assert text.count("u64 mix64(") == 1


@needs_nvrtc
@pytest.mark.parametrize("file", ENTRY_POINTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_and_stays_in_its_registers(file: str, architecture: str) -> None:
    found = compiled(file, architecture)
    assert set(re.findall(r"\.entry (\w+)\(", found.ptx)) == set(ENTRY_POINTS[file])
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", found.log)
    assert len(spills) == len(ENTRY_POINTS[file])
    assert set(spills) == {("0", "0", "0")}
    assert "warning" not in found.log


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tiles", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_dense_products_run_on_the_tensor_cores(architecture: str, kind: str, tiles: int) -> None:
    body = entry(compiled("dense.cu", architecture).ptx, f"project_{kind}_{tiles}")
    depth = 8 if architecture == "sm_75" else 16
    steps = 128 // depth
    products = body.count(f"mma.sync.aligned.m16n8k{depth}.row.col.f32.f16.f16.f32")
    assert products == steps * tiles * 2, "one for each step, tile of samples and tile of columns"
    assert ("cp.async" in body) == (architecture != "sm_75")


@needs_nvrtc
def test_no_kernel_adds_floats_atomically() -> None:
    for file in ENTRY_POINTS:
        assert not re.search(r"\b(atom|red)\.", compiled(file, "sm_90").ptx)


def test_a_cuda_device_without_cupy_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    cuda.missing.cache_clear()
    try:
        with pytest.raises(MachineError, match=r"kernel cuda: CuPy .*pip install 'trak-cli\[cuda1[23]\]'") as error:
            make_projector(ProjectionJob(ProjectionSpec("rademacher", 64), "00" * 32, {"w": 3}, device=torch.device("cuda")))
    finally:
        cuda.missing.cache_clear()
    assert [problem.where for problem in error.value.problems] == ["device"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_machine_without_a_cuda_device_says_so() -> None:
    with pytest.raises(MachineError, match="PyTorch sees no CUDA device"):
        make_projector(ProjectionJob(ProjectionSpec("sjlt", 64), "00" * 32, {"w": 3}, device=torch.device("cuda")))
