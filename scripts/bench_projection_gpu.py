"""Measure the speed of the projection kernels of a CUDA device, as ratios from one interleaved run.

    python scripts/bench_projection_gpu.py

Two limits of the device are measured first: a 16-bit matrix product (8192³, random numbers), and a copy (bytes read plus
bytes written). Dense kinds are reported as 2·B·p·k operations per second and as a fraction of the product's rate, sparse kinds
as bytes of gradients per second and as a fraction of the copy's rate. "GEMM" multiplies the same gradients, in float16, by a
float16 matrix in memory (for a slice of the p coordinates; the time is scaled). The packages fast_jl and sjlt are compared if
they are installed. Times are medians between CUDA events.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench_projection import table

from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import projection_oracle as oracle

CHECKPOINT = "00" * 32
#: Rows of the matrix of GEMM; gradients are longer.
SLICE = 2**20

Work = Callable[[], object]


def main() -> None:
    arguments = parse()
    print(machine())
    torch.manual_seed(0)
    G = torch.randn(max(arguments.batches), arguments.p, device="cuda")
    rate, bandwidth = ceilings(G, arguments.repeat)
    print(f"16-bit product {rate / 1e12:.0f} TFLOP/s, copy {bandwidth / 1e9:.0f} GB/s\n")
    dense(arguments, G, rate)
    sparse(arguments, G, bandwidth)
    errors(arguments.k)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--p", type=int, default=11_200_000, help="coordinates")
    parser.add_argument("--k", type=int, default=4096, help="columns; a multiple of 512")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 64])
    parser.add_argument("--nonzeros", type=int, nargs="+", default=[1, 4, 8], help="s of the sjlt kind")
    parser.add_argument("--repeat", type=int, default=7, help="rounds")
    return parser.parse_args()


def machine() -> str:
    """Return the name of the device and the versions of PyTorch, CUDA and Python."""
    device = torch.cuda.get_device_properties(0)
    return f"{device.name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"


def milliseconds(works: Mapping[str, Work], repeat: int) -> dict[str, float]:
    """Return the median time of each work over rounds that run them in turn, after a round that compiles."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(repeat + 1):
        for name, work in works.items():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            stop.record()
            stop.synchronize()
            if round_number:
                taken[name].append(start.elapsed_time(stop))
    return {name: median(times) for name, times in taken.items()}


def ceilings(G: torch.Tensor, repeat: int) -> tuple[float, float]:
    """Return the operations per second of a 16-bit product, and the bytes per second of a copy of G."""
    half, other = (torch.randn(8192, 8192, device="cuda", dtype=torch.float16) for _ in range(2))
    target = torch.empty_like(G)
    taken = milliseconds({"product": lambda: half @ other, "copy": lambda: target.copy_(G)}, repeat)
    return 2e3 * 8192**3 / taken["product"], 2e3 * G.nbytes / taken["copy"]


def projection(spec: ProjectionSpec, G: torch.Tensor) -> Work:
    projector = make_projector(ProjectionJob(spec, CHECKPOINT, {"w": G.shape[1]}, device=G.device))
    return lambda: projector.project([Block("w", G)])


def package(name: str) -> Any:
    """Return another library, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name}: not installed, not measured")
        return None


def dense(arguments: argparse.Namespace, every: torch.Tensor, rate: float) -> None:
    p, k = arguments.p, arguments.k
    fast_jl = package("fast_jl")
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    P = torch.randn(min(p, SLICE), k, device="cuda", dtype=torch.float16)
    rows = []
    for kind, theirs in (("rademacher", "rademacher"), ("gaussian", "normal")):
        for batch in arguments.batches:
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                G = every[:batch].to(dtype)
                works: dict[str, Work] = {"ours": projection(ProjectionSpec(kind, k), G)}
                if dtype == torch.float16:
                    works["GEMM"] = lambda G=G: G[:, : len(P)] @ P  # type: ignore[misc]
                if fast_jl and dtype != torch.bfloat16:
                    at_once = min(batch, 32)  # as the original library calls it
                    project = getattr(fast_jl, f"project_{theirs}_{at_once}")
                    works["fast_jl"] = lambda G=G, project=project: project(G, k, 0, processors)  # type: ignore[misc]
                taken = milliseconds(works, arguments.repeat)
                if "GEMM" in taken:
                    taken["GEMM"] *= p / len(P)
                flops = 2e3 * batch * p * k / taken["ours"]
                ratio = {name: f"{taken[name] / taken['ours']:.2f}" if name in taken else "" for name in ("fast_jl", "GEMM")}
                name = str(dtype).removeprefix("torch.")
                cells = [f"{taken['ours']:.1f}", f"{flops / 1e12:.0f}", f"{flops / rate:.0%}", ratio["fast_jl"], ratio["GEMM"]]
                rows.append([kind, str(batch), name, *cells])
    print(f"dense, p = {p:,}, k = {k}")
    table(["kind", "batch", "input", "ms", "TFLOP/s", "of product", "fast_jl takes ×", "GEMM takes ×"], rows)


def sparse(arguments: argparse.Namespace, every: torch.Tensor, bandwidth: float) -> None:
    p, k = arguments.p, arguments.k
    sjlt = package("sjlt")
    rows = []
    for s in arguments.nonzeros:
        for batch in arguments.batches:
            G = every[:batch]
            works: dict[str, Work] = {"ours": projection(ProjectionSpec("sjlt", k, nonzeros=s), G)}
            if sjlt:
                theirs = sjlt.SJLTProjection(original_dim=p, proj_dim=k, c=s)
                works["theirs"] = lambda G=G, theirs=theirs: theirs(G)  # type: ignore[misc]
            taken = milliseconds(works, arguments.repeat)
            speed = 1e3 * G.nbytes / taken["ours"]
            ratio = f"{taken['theirs'] / taken['ours']:.1f}" if "theirs" in taken else ""
            rows.append([f"s={s}", str(batch), f"{taken['ours']:.2f}", f"{speed / 1e9:.0f}", f"{speed / bandwidth:.0%}", ratio])
    print(f"sjlt, float32, p = {p:,}, k = {k}")
    table(["", "batch", "ms", "GB/s read", "of copy", "sjlt takes ×"], rows)


def errors(k: int) -> None:
    """Print errors against the float64 oracle, with fewer coordinates because the oracle draws every entry on the CPU."""
    rows = []
    for kind in ("rademacher", "gaussian", "sjlt"):
        spec = ProjectionSpec(kind, min(k, 512))
        G = torch.randn(8, 100_000, device="cuda") * torch.logspace(-6, 6, 8, device="cuda")[:, None]
        block = Block("w", G)
        projected = make_projector(ProjectionJob(spec, CHECKPOINT, {"w": G.shape[1]}, device=G.device)).project([block])
        exact = torch.from_numpy(oracle.project(spec, CHECKPOINT, [block]))
        relative = (projected.double().cpu() - exact).norm(dim=1) / exact.norm(dim=1)
        rows.append([kind, f"{float(relative.max()):.1e}"])
    print("relative error of float32 gradients against the oracle in float64, rows of size 1e-6 to 1e6, p = 100,000")
    table(["kind", "largest"], rows)


if __name__ == "__main__":
    main()
