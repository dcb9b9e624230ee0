"""The registry of projection kernels, and the choice among those that run on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from trak_cli.errors import ConfigError, MachineError, Problem
from trak_cli.projection.concatenate import Concatenator
from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.cpu import ctypes_binding as library
from trak_cli.projection.cpu.compiled import TERMS, CompiledProjector
from trak_cli.projection.cpu.torch_dense import DenseProjector
from trak_cli.projection.cpu.torch_sparse import SparseProjector
from trak_cli.projection.factored import FactoredProjector, last_step
from trak_cli.projection.gpu import cuda
from trak_cli.projection.spec import KINDS, Kind, ProjectionSpec, spec_problems


@dataclass(frozen=True)
class Kernel:
    """One implementation of one or several kinds of matrix.

    Attributes:
        name: its name in ``projection.kernel``.
        kinds: the kinds of matrix that it supports.
        devices: the device types whose gradients it accepts.
        missing: returns why it cannot run on this machine, or None if it can.
        build: makes the projector.
        terms: returns the most outer products per sample of which it reads a gradient faster as factors than as dense blocks
            (kind ``sjlt`` only).
    """

    name: str
    kinds: tuple[str, ...]
    devices: tuple[str, ...]
    missing: Callable[[], str | None]
    build: Callable[[ProjectionJob], Projector]
    terms: Callable[[], int] = int


def _nothing() -> None:
    """Nothing is missing: the kernel needs PyTorch and NumPy only."""


def _cpu_projector(job: ProjectionJob) -> Projector:
    return SparseProjector(job) if job.spec.kind == "sjlt" else DenseProjector(job)


def _compiled(job: ProjectionJob) -> Projector:
    """The compiled kernel for the best instruction set of this processor."""
    return CompiledProjector(job, _best())


def _best() -> str:
    return next(iter(library.library().variants))


_RANDOM = ("rademacher", "gaussian", "sjlt")

#: In the order of preference of ``auto``.
KERNELS: list[Kernel] = [
    Kernel("concatenate", ("none",), ("cpu", "cuda"), _nothing, Concatenator),
    Kernel("cuda", _RANDOM, ("cuda",), cuda.missing, cuda.CudaProjector),
    Kernel("c", _RANDOM, ("cpu",), library.missing, _compiled, lambda: TERMS[_best()]),
    Kernel("blas", _RANDOM, ("cpu",), _nothing, _cpu_projector),
    *(
        Kernel(
            name,
            _RANDOM,
            ("cpu",),
            partial(library.missing, name),
            partial(CompiledProjector, variant=name),
            partial(TERMS.__getitem__, name),
        )
        for name in TERMS
    ),
]

_SHIPPED = frozenset(KINDS)

Build = TypeVar("Build", bound=Callable[[ProjectionJob], Projector])


def register_projection(kind: str, *, devices: Sequence[str] = ("cpu",), version: int = 1) -> Callable[[Build], Build]:
    """Register the decorated class (or function) as the projector of a new kind of matrix, for ``projection.kind=KIND``.

    It is called with a :class:`~trak_cli.projection.contract.ProjectionJob` and makes a
    :class:`~trak_cli.projection.contract.Projector`. An entry of the matrix must depend on the seed, the checkpoint, the
    parameter name, the coordinate and the column only; otherwise features of different batches and machines do not fit
    together. ``spec.dim`` is the number of columns; scores assume E[P Pᵀ] = k·I.

    Args:
        kind: the name of the kind; registering it again replaces the projector.
        devices: the device types whose gradients the projector accepts.
        version: raise it whenever an entry of the matrix changes: it is part of the fingerprint of a store.

    Raises:
        ValueError: the kind is one of the package's own.
    """
    if kind in _SHIPPED:
        raise ValueError(f"projection kind {kind!r} belongs to trak; choose another name")

    def register(build: Build) -> Build:
        KINDS[kind] = Kind(version=version)
        KERNELS[:] = [kernel for kernel in KERNELS if kernel.kinds != (kind,)]
        KERNELS.append(Kernel(kind, (kind,), tuple(devices), _nothing, build))
        return build

    return register


def choose(kernels: Sequence[Kernel], kind: str, device: str, name: str) -> Kernel:
    """The kernel called ``name``, or for ``auto`` the first that supports ``kind`` on a device of type ``device``.

    Raises:
        MachineError: no kernel supports it.
        ConfigError: the named one does not.
    """
    fitting = [kernel for kernel in kernels if kind in kernel.kinds and device in kernel.devices]
    reasons = {kernel.name: kernel.missing() for kernel in fitting}
    usable = [kernel for kernel in fitting if reasons[kernel.name] is None]
    if not usable:
        why = "; ".join(f"kernel {kernel}: {reason}" for kernel, reason in reasons.items()) or "there is no such kernel"
        expected = f"a kernel that multiplies by a {kind} matrix there"
        raise MachineError(Problem("device", f"{device} ({why})", expected, "device=cpu supports every kind"))
    for kernel in usable:
        if name in ("auto", kernel.name):
            return kernel
    found = f"{name} ({reasons[name]})" if name in reasons else name
    names = ", ".join(kernel.name for kernel in usable)
    expected = f"auto or a kernel for kind {kind} on {device} here: {names}"
    raise ConfigError(Problem("projection.kernel", found, expected, "auto takes the first of these"))


def most_terms(spec: ProjectionSpec, device: str, kernel: str) -> int:
    """The most outer products per sample of which this projection reads a gradient faster as factors than as dense blocks.

    Raises:
        ConfigError, MachineError: as :func:`choose`.
    """
    return choose(KERNELS, spec.kind, device, kernel).terms() if spec.kind == "sjlt" else 0


def make_projector(job: ProjectionJob, kernel: str = "auto") -> Projector:
    """The projector for the gradients of one checkpoint.

    Args:
        kernel: name of the implementation; ``auto`` takes the best one that runs here. ``projector.kernel`` tells which.

    Raises:
        ConfigError: the spec is invalid, ``threads`` is below 1, or ``kernel`` does not run here.
        MachineError: no kernel runs on this kind of device.
        ValueError: kind ``factored`` without matrices.
    """
    problems = spec_problems(job.spec)
    if job.threads is not None and job.threads < 1:
        problems.append(Problem("threads", str(job.threads), "at least 1, or null", "null takes what PyTorch uses"))
    ConfigError.raise_for(problems)
    if job.spec.kind == "factored":
        if not job.matrices:
            raise ValueError("kind factored needs the matrices that it multiplies from both sides")
        last = last_step(job)
        return FactoredProjector(job, choose(KERNELS, last.spec.kind, job.device.type, kernel).build(last))
    return choose(KERNELS, job.spec.kind, job.device.type, kernel).build(job)
