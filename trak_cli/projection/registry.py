"""Which code multiplies: every kernel there is, and the choice among those that run on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from trak_cli.errors import ConfigError, MachineError, Problem
from trak_cli.projection.concatenate import Concatenator
from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.cpu import ctypes_binding as library
from trak_cli.projection.cpu.compiled import CompiledProjector
from trak_cli.projection.cpu.torch_dense import DenseProjector
from trak_cli.projection.cpu.torch_sparse import SparseProjector
from trak_cli.projection.factored import FactoredProjector, last_step
from trak_cli.projection.gpu import cuda
from trak_cli.projection.spec import ProjectionSpec, spec_problems


@dataclass(frozen=True)
class Kernel:
    """One way to multiply by the matrix.

    Attributes:
        name: what ``projection.kernel`` calls it.
        kinds: the projection kinds that it can do.
        devices: the device types whose gradients it takes.
        missing: tells why it cannot run on this machine, or None when it can.
        build: makes the projector.
    """

    name: str
    kinds: tuple[str, ...]
    devices: tuple[str, ...]
    missing: Callable[[], str | None]
    build: Callable[[ProjectionJob], Projector]


def _nothing() -> None:
    """Nothing is missing: the kernel needs only PyTorch and NumPy."""


def _cpu_projector(job: ProjectionJob) -> Projector:
    return SparseProjector(job) if job.spec.kind == "sjlt" else DenseProjector(job)


def _compiled(job: ProjectionJob) -> Projector:
    """The compiled kernel for the best instruction set of this processor."""
    return CompiledProjector(job, next(iter(library.library().variants)))


_RANDOM = ("rademacher", "gaussian", "sjlt")

#: In the order in which ``auto`` prefers them.
KERNELS: tuple[Kernel, ...] = (
    Kernel("concatenate", ("none",), ("cpu", "cuda"), _nothing, Concatenator),
    Kernel("cuda", _RANDOM, ("cuda",), cuda.missing, cuda.CudaProjector),
    Kernel("c", _RANDOM, ("cpu",), library.missing, _compiled),
    Kernel("blas", _RANDOM, ("cpu",), _nothing, _cpu_projector),
    *(
        Kernel(name, _RANDOM, ("cpu",), partial(library.missing, name), partial(CompiledProjector, variant=name))
        for name in ("c-avx512", "c-avx2", "c-portable")
    ),
)


def choose(kernels: Sequence[Kernel], kind: str, device: str, name: str) -> Kernel:
    """The kernel called ``name``, or for ``auto`` the first that can do ``kind`` on a device of type ``device``.

    Raises:
        MachineError: no kernel can.
        ConfigError: the one that was named cannot.
    """
    fitting = [kernel for kernel in kernels if kind in kernel.kinds and device in kernel.devices]
    reasons = {kernel.name: kernel.missing() for kernel in fitting}
    usable = [kernel for kernel in fitting if reasons[kernel.name] is None]
    if not usable:
        why = "; ".join(f"kernel {kernel}: {reason}" for kernel, reason in reasons.items()) or "there is no such kernel"
        expected = f"a kernel that multiplies by a {kind} matrix there"
        raise MachineError(Problem("device", f"{device} ({why})", expected, "device=cpu can do every kind"))
    for kernel in usable:
        if name in ("auto", kernel.name):
            return kernel
    found = f"{name} ({reasons[name]})" if name in reasons else name
    names = ", ".join(kernel.name for kernel in usable)
    expected = f"auto or a kernel that does kind {kind} on {device} here: {names}"
    raise ConfigError(Problem("projection.kernel", found, expected, "auto takes the first of these"))


def make_projector(
    spec: ProjectionSpec,
    checkpoint: str,
    sizes: Mapping[str, int],
    *,
    device: torch.device,
    kernel: str = "auto",
    threads: int | None = None,
    matrices: Mapping[str, tuple[int, int]] | None = None,
) -> Projector:
    """The projector for the gradients of one checkpoint.

    Args:
        spec: which random matrix.
        checkpoint: SHA-256 of the checkpoint file, 64 hexadecimal digits: another checkpoint, another matrix.
        sizes: canonical parameter name -> number of elements, in the order of ``named_parameters``.
        device: where the gradients are.
        kernel: which code multiplies; ``auto`` takes the best one that runs here. ``projector.kernel`` tells which.
        threads: for CPU kernels; None takes as many as PyTorch uses. No result depends on it.
        matrices: for kind ``factored``: name -> (m, n) of the parameters whose gradients are multiplied from both sides; the
            others go straight through the sparse matrix.

    Raises:
        ConfigError: ``spec`` names no matrix, ``threads`` is below 1, or ``kernel`` does not run here.
        MachineError: no kernel runs on this kind of device.
        ValueError: kind ``factored``, and no matrices.
    """
    problems = spec_problems(spec)
    if threads is not None and threads < 1:
        problems.append(Problem("threads", str(threads), "at least 1, or null", "null takes what PyTorch uses"))
    if problems:
        raise ConfigError(problems)
    job = ProjectionJob(spec, checkpoint, dict(sizes), device, threads or torch.get_num_threads(), dict(matrices or {}))
    if spec.kind == "factored":
        if not matrices:
            raise ValueError("kind factored without the matrices that it multiplies from both sides")
        last = last_step(job)
        return FactoredProjector(job, choose(KERNELS, last.spec.kind, device.type, kernel).build(last))
    return choose(KERNELS, spec.kind, device.type, kernel).build(job)
