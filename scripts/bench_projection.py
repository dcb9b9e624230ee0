"""Measure the speed of this machine's projection kernels, as ratios from one interleaved run.

    python scripts/bench_projection.py --p 48000 --k 2048 --batches 1 8 32 64 --repeat 7

One thread is measured by CPU time, several threads by the clock. Each of ``--repeat`` rounds runs all candidates in turn, twice
each (the second run has warm caches), and the fastest run counts. "× GEMM" is the time PyTorch needs to multiply the same
gradients by the same matrix, held in memory, divided by the time of the kernel.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import KERNELS, make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block

CHECKPOINT = "00" * 32
CPU = torch.device("cpu")
#: Bytes, more than any cache holds.
STREAM = 2**28
NAMES = [kernel.name for kernel in KERNELS if "cpu" in kernel.devices and kernel.name not in ("concatenate", "c")]

Work = Callable[[], object]


def main() -> None:
    arguments = parse()
    print(machine())
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dense(arguments)
    sparse(arguments)
    columns(arguments)
    threads(arguments)
    others(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--p", type=int, default=96_000, help="coordinates for the dense kinds (needs 4 · p · k bytes)")
    parser.add_argument("--k", type=int, default=2048, help="columns; a multiple of 128")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--nonzeros", type=int, nargs="+", default=[1, 4, 8], help="s of the sjlt kind")
    parser.add_argument("--repeat", type=int, default=7, help="rounds")
    return parser.parse_args()


def machine() -> str:
    """Return the processor, its cores and load, and the versions of PyTorch and Python."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, load {load}; PyTorch {torch.__version__}, Python {platform.python_version()}\n"


def fastest(works: dict[str, Work], repeat: int, clock: Callable[[], float] = time.process_time) -> dict[str, float]:
    """Return the fastest time of each work, in seconds, over ``repeat`` rounds that run them in turn, twice each."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeat):
        for name, work in works.items():
            for _ in range(2):
                start = clock()
                work()
                best[name] = min(best[name], clock() - start)
    return best


def projection(spec: ProjectionSpec, kernel: str, G: torch.Tensor, thread_count: int = 1) -> Work | None:
    """Return a function that projects G once, or None if this machine does not have the kernel."""
    if any(entry.name == kernel and entry.missing() is not None for entry in KERNELS):
        return None
    projector = make_projector(ProjectionJob(spec, CHECKPOINT, {"w": G.shape[1]}, threads=thread_count), kernel=kernel)
    return lambda: projector.project([Block("w", G)])


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()


def dense(arguments: argparse.Namespace) -> None:
    p, k = arguments.p, arguments.k
    print(f"dense, p = {p}, k = {k}, one thread: × GEMM with P in memory (in brackets 10^9 × 2Bpk / s)")
    P = torch.randn(p, k)
    rows = []
    for kind in ("rademacher", "gaussian"):
        for batch in arguments.batches:
            G = torch.randn(batch, p)
            works: dict[str, Work] = {"GEMM": lambda G=G: G @ P}  # type: ignore[misc]
            kernels = {name: projection(ProjectionSpec(kind, k), name, G) for name in NAMES}
            works.update({name: work for name, work in kernels.items() if work})
            seconds = fastest(works, arguments.repeat)
            rate = {name: 2e-9 * batch * p * k / taken for name, taken in seconds.items()}
            cells = [f"{rate[n] / rate['GEMM']:.2f} ({rate[n]:.0f})" if n in rate else "not measured" for n in NAMES]
            rows.append([kind, str(batch), f"({rate['GEMM']:.0f})", *cells])
    table(["kind", "batch", "GEMM", *NAMES], rows)


def sparse(arguments: argparse.Namespace) -> None:
    stream = torch.ones(STREAM // 4)  # not zeros, which the system may map to a single page
    print("sjlt, one thread: fraction of read bandwidth, measured as the sum of 256 MiB (GB/s in brackets)")
    rows = []
    for s in arguments.nonzeros:
        for batch in arguments.batches:
            G = torch.randn(batch, max(STREAM // 8 // batch, 1))
            kernels = {name: projection(ProjectionSpec("sjlt", arguments.k, nonzeros=s), name, G) for name in NAMES}
            works: dict[str, Work] = {"read": stream.sum, **{name: work for name, work in kernels.items() if work}}
            seconds = fastest(works, max(arguments.repeat // 2, 2))
            bandwidth = STREAM / seconds["read"]
            share = {name: 4 * G.numel() / taken / bandwidth for name, taken in seconds.items()}
            cells = [f"{share[name]:.2f}" if name in share else "not measured" for name in NAMES]
            rows.append([f"sjlt s={s}", str(batch), f"({bandwidth / 1e9:.0f})", *cells])
    table(["kind", "batch", "read", *NAMES], rows)


def columns(arguments: argparse.Namespace) -> None:
    """Print the cost of more columns for the sparse kind: none, until the sums of a batch no longer fit into a cache."""
    counts, batch = (512, 1024, 2048, 4096, 8192, 16384), 32
    print(f"sjlt s=4 by the number of columns, batch {batch}, one thread, kernel auto: time over that of k = 1024")
    G = torch.randn(batch, STREAM // 8 // batch)
    kernels = {str(k): projection(ProjectionSpec("sjlt", k, nonzeros=4), "auto", G) for k in counts}
    seconds = fastest({k: work for k, work in kernels.items() if work}, arguments.repeat)
    table(["k", *seconds], [["time", *(f"{taken / seconds['1024']:.2f}" for taken in seconds.values())]])


def threads(arguments: argparse.Namespace) -> None:
    print("speed-up of two threads by the clock, which other programs disturb; in brackets by CPU time (2 means no overhead)")
    rows = []
    for kind, s, batch in (("rademacher", 1, 32), ("rademacher", 1, 8), ("gaussian", 1, 32), ("sjlt", 1, 32), ("sjlt", 4, 32)):
        p = arguments.p if kind != "sjlt" else STREAM // 8 // batch
        G = torch.randn(batch, p)
        spec = ProjectionSpec(kind, arguments.k, nonzeros=s)
        cells = []
        for name in NAMES:
            one, two = projection(spec, name, G), projection(spec, name, G, 2)
            if one is None or two is None or (os.cpu_count() or 1) < 2:
                cells.append("not measured")
                continue
            clock = fastest({"one": one, "two": two}, arguments.repeat, time.perf_counter)
            cpu = fastest({"one": one, "two": two}, arguments.repeat, time.process_time)
            cells.append(f"{clock['one'] / clock['two']:.2f} ({2 * cpu['one'] / cpu['two']:.2f})")
        rows.append([kind if kind != "sjlt" else f"sjlt s={s}", str(batch), *cells])
    stream = torch.ones(STREAM // 4)  # not zeros, which the system may map to a single page
    taken = fastest({"one": lambda: with_threads(1, stream), "two": lambda: with_threads(2, stream)}, 5, time.perf_counter)
    rows.append(["read of memory", "", *[f"{taken['one'] / taken['two']:.2f}"] * len(NAMES)])
    table(["kind", "batch", *NAMES], rows)


def with_threads(count: int, stream: torch.Tensor) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    stream.sum()
    torch.set_num_threads(before)


def others(arguments: argparse.Namespace) -> None:
    """Compare with other libraries, if they are installed."""
    print(f"other libraries: time over that of kernel auto, rademacher, k = {arguments.k}")
    table(["library", "time ratio"], [["traker, CPU projector", traker(arguments)]])


def traker(arguments: argparse.Namespace) -> str:
    if importlib.util.find_spec("trak") is None:
        return "not measured: pip install traker"
    from trak.projectors import BasicProjector, ProjectionType  # type: ignore[import-not-found]

    G = torch.randn(32, 4096)
    theirs = BasicProjector(G.shape[1], arguments.k, 0, ProjectionType.rademacher, "cpu", block_size=100, dtype=torch.float32)
    ours = projection(ProjectionSpec("rademacher", arguments.k), "auto", G)
    assert ours is not None
    seconds = fastest({"theirs": lambda: theirs.project(G, model_id=0), "ours": ours}, arguments.repeat)
    return f"{seconds['theirs'] / seconds['ours']:.0f}"


if __name__ == "__main__":
    main()
