"""Specs that name no matrix, and kernels that are not there, are refused with everything that is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from trak_cli.errors import ConfigError, MachineError
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import KERNELS, Kernel, choose, make_projector
from trak_cli.projection.spec import KERNEL_NAMES, KINDS, ProjectionSpec, spec_problems

CPU = torch.device("cpu")


def wheres(spec: ProjectionSpec) -> list[str]:
    return [problem.where for problem in spec_problems(spec)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_ordinary_spec_has_no_problem(kind: str) -> None:
    assert spec_problems(ProjectionSpec(kind, 2048, 2**64 - 1, nonzeros=4)) == []


def test_every_problem_is_reported_at_once() -> None:
    assert wheres(ProjectionSpec("fft", 0, -1)) == ["projection.kind", "projection.seed", "projection.dim"]
    assert wheres(ProjectionSpec("sjlt", 2**31, 2**64, 0)) == [
        "projection.seed",
        "projection.nonzeros",
        "projection.dim",
    ]


def test_only_the_fields_that_a_kind_reads_are_looked_at() -> None:
    assert wheres(ProjectionSpec("none", -1)) == []
    assert wheres(ProjectionSpec("rademacher", 7, nonzeros=0)) == []


@pytest.mark.parametrize(
    ("dim", "nonzeros", "nearest"),
    [(500, 1, "496 and 512"), (100, 4, "64 and 128"), (5, 1, "are 16"), (1000, 3, "960 and 1008")],
)
def test_sparse_dims_are_multiples_of_sixteen_times_the_nonzeros(dim: int, nonzeros: int, nearest: str) -> None:
    (problem,) = spec_problems(ProjectionSpec("sjlt", dim, nonzeros=nonzeros))
    assert problem.where == "projection.dim"
    assert str(16 * nonzeros) in problem.expected
    assert nearest.removeprefix("are ") in problem.remedy
    assert all(spec_problems(ProjectionSpec("sjlt", int(d), nonzeros=nonzeros)) == [] for d in nearest.split() if d.isdigit())


def test_make_projector_refuses_a_bad_spec_and_bad_threads_together() -> None:
    with pytest.raises(ConfigError) as error:
        make_projector(ProjectionJob(ProjectionSpec("sjlt", 17), "00" * 32, {"w": 3}, threads=0))
    assert [problem.where for problem in error.value.problems] == ["projection.dim", "threads"]


@pytest.mark.parametrize(
    ("kind", "asked", "kernel"),
    [
        ("rademacher", "blas", "numpy-blas"),
        ("gaussian", "blas", "numpy-blas"),
        ("sjlt", "blas", "torch-scatter"),
        ("none", "auto", "concatenate"),
    ],
)
def test_a_projector_says_what_it_is(kind: str, asked: str, kernel: str) -> None:
    projector = make_projector(ProjectionJob(ProjectionSpec(kind, 64), "00" * 32, {"w": 3}), kernel=asked)
    assert projector.kernel == kernel
    assert projector.dim == (3 if kind == "none" else 64)


def test_an_unknown_kernel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as error:
        make_projector(ProjectionJob(ProjectionSpec("rademacher", 64), "00" * 32, {"w": 3}), kernel="fpga")
    (problem,) = error.value.problems
    assert problem.where == "projection.kernel"
    assert problem.found == "fpga"
    assert "blas" in problem.expected


def test_a_device_without_a_kernel_is_refused() -> None:
    with pytest.raises(MachineError, match="mps"):
        make_projector(ProjectionJob(ProjectionSpec("rademacher", 64), "00" * 32, {"w": 3}, device=torch.device("mps")))


def kernel(name: str, missing: str | None, device: str = "cpu") -> Kernel:
    """A kernel that is chosen but never run."""
    reason: Callable[[], str | None] = lambda: missing  # noqa: E731
    return Kernel(name, ("rademacher",), (device,), reason, lambda job: pytest.fail(f"{name} was built for {job}"))


def test_auto_takes_the_first_available_kernel() -> None:
    kernels = [kernel("fast", "no compiler"), kernel("good", None), kernel("slow", None)]
    assert choose(kernels, "rademacher", "cpu", "auto").name == "good"
    assert choose(kernels, "rademacher", "cpu", "slow").name == "slow"


def test_a_requested_kernel_that_is_missing_is_refused_with_the_reason() -> None:
    kernels = [kernel("fast", "no compiler"), kernel("slow", None), kernel("other", None, "cuda")]
    with pytest.raises(ConfigError, match=r"fast \(no compiler\).*here: slow;"):
        choose(kernels, "rademacher", "cpu", "fast")
    with pytest.raises(ConfigError, match=r"found other; .*here: slow;"):
        choose(kernels, "rademacher", "cpu", "other")


def test_without_any_kernel_the_machine_is_named_as_the_cause() -> None:
    with pytest.raises(MachineError, match="cupy is not installed"):
        choose([kernel("gpu", "cupy is not installed", "cuda")], "rademacher", "cuda", "auto")
    with pytest.raises(MachineError, match="no such kernel"):
        choose([kernel("slow", None)], "rademacher", "cuda", "auto")


def test_the_names_that_the_configuration_accepts_are_those_of_the_kernels() -> None:
    assert tuple(kernel.name for kernel in KERNELS) == KERNEL_NAMES
