"""Every kernel of this machine gives the oracle's values, whatever the batch, the blocks, the threads and the dtype."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from projection_oracle import project

from trak_cli.errors import ConfigError, MachineError
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import KERNELS, make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block

CHECKPOINT = "0f" * 32
CPU = torch.device("cpu")
HERE = [
    (kernel.name, kind)
    for kernel in KERNELS
    if "cpu" in kernel.devices and kernel.missing() is None
    for kind in kernel.kinds
    if kind != "none"
]
every_kernel = pytest.mark.parametrize(("kernel", "kind"), HERE)


def gradient(batch: int, size: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def spec_of(kind: str, dim: int, nonzeros: int = 1) -> ProjectionSpec:
    return ProjectionSpec(kind, dim if kind != "sjlt" else 16 * nonzeros * max(1, dim // 16), 5, nonzeros)


def run(kernel: str, spec: ProjectionSpec, blocks: list[Block], sizes: dict[str, int], threads: int = 1) -> np.ndarray:
    return make_projector(ProjectionJob(spec, CHECKPOINT, sizes, threads=threads), kernel=kernel).project(blocks).numpy()


@every_kernel
@settings(deadline=None, max_examples=15)
@given(batch=st.integers(1, 35), sizes=st.lists(st.integers(1, 700), min_size=1, max_size=3), dim=st.integers(1, 130))
def test_a_kernel_agrees_with_the_oracle(kernel: str, kind: str, batch: int, sizes: list[int], dim: int) -> None:
    spec = spec_of(kind, dim, nonzeros=2)
    blocks = [Block(f"t{i}", gradient(batch, size, i)) for i, size in enumerate(sizes)]
    found = run(kernel, spec, blocks, {block.name: size for block, size in zip(blocks, sizes, strict=True)})
    expected = project(spec, CHECKPOINT, blocks)
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1.0, float(np.abs(expected).max())))


@every_kernel
@settings(deadline=None, max_examples=10)
@given(cuts=st.lists(st.integers(1, 999), max_size=4, unique=True), seed=st.integers(0, 9))
def test_cutting_a_tensor_into_blocks_in_any_order_changes_nothing(kernel: str, kind: str, cuts: list[int], seed: int) -> None:
    whole, spec, sizes = gradient(3, 1000, seed), spec_of(kind, 64), {"w": 1000}
    edges = [0, *sorted(cuts), 1000]
    parts = [Block("w", whole[:, a:b], a) for a, b in pairwise(edges)]
    np.random.default_rng(seed).shuffle(parts)  # type: ignore[arg-type]
    expected = run(kernel, spec, [Block("w", whole)], sizes)
    np.testing.assert_allclose(run(kernel, spec, parts, sizes), expected, atol=1e-4 * np.abs(expected).max())


@every_kernel
def test_threads_change_no_bit_and_the_batch_only_rounding(kernel: str, kind: str) -> None:
    whole, spec, sizes = gradient(19, 5000), spec_of(kind, 96), {"w": 5000}
    one = run(kernel, spec, [Block("w", whole)], sizes)
    np.testing.assert_array_equal(run(kernel, spec, [Block("w", whole)], sizes, threads=2), one)
    single = np.concatenate([run(kernel, spec, [Block("w", row)], sizes) for row in whole.split(1)])
    np.testing.assert_allclose(single, one, atol=1e-5 * np.abs(one).max())


@every_kernel
def test_the_estimate_is_linear(kernel: str, kind: str) -> None:
    a, b, spec, sizes = gradient(4, 900, 1), gradient(4, 900, 2), spec_of(kind, 48), {"w": 900}
    together = run(kernel, spec, [Block("w", 2 * a - 3 * b)], sizes)
    apart = 2 * run(kernel, spec, [Block("w", a)], sizes) - 3 * run(kernel, spec, [Block("w", b)], sizes)
    np.testing.assert_allclose(together, apart, atol=1e-5 * np.abs(apart).max())


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_floating_dtype_is_taken(kernel: str, kind: str, dtype: torch.dtype) -> None:
    blocks, spec = [Block("w", gradient(3, 333, dtype=dtype))], spec_of(kind, 32)
    expected = project(spec, CHECKPOINT, blocks)
    np.testing.assert_allclose(run(kernel, spec, blocks, {"w": 333}), expected, atol=1e-5 * np.abs(expected).max())


@every_kernel
def test_coordinates_beyond_two_to_the_32_are_right(kernel: str, kind: str) -> None:
    blocks, spec = [Block("w", gradient(2, 100), 2**33 + 7)], spec_of(kind, 32)
    found = run(kernel, spec, blocks, {"w": 2**34})
    np.testing.assert_allclose(found, project(spec, CHECKPOINT, blocks), atol=1e-3)


@every_kernel
def test_a_nan_stays_in_its_row(kernel: str, kind: str) -> None:
    broken = gradient(5, 400)
    broken[2, 17] = float("nan")
    found = run(kernel, spec_of(kind, 32), [Block("w", broken)], {"w": 400})
    assert np.isnan(found[2]).any()
    assert np.isfinite(np.delete(found, 2, axis=0)).all()


def test_projection_none_keeps_the_gradient_in_the_order_of_the_parameters() -> None:
    a, b = gradient(3, 4, 1), gradient(3, 5, 2)
    found = run("auto", ProjectionSpec("none", 9), [Block("b", b), Block("a", a)], {"a": 4, "b": 5})
    np.testing.assert_array_equal(found, torch.cat([a, b], dim=1).numpy())


def test_a_missing_kernel_is_named_with_the_available_ones() -> None:
    with pytest.raises(ConfigError, match=r"projection\.kernel.*magic.*blas"):
        make_projector(ProjectionJob(spec_of("rademacher", 8), CHECKPOINT, {"w": 1}), kernel="magic")


def test_an_sjlt_dimension_that_does_not_fit_names_its_neighbours() -> None:
    with pytest.raises(ConfigError, match="96 and 128"):
        make_projector(ProjectionJob(ProjectionSpec("sjlt", 100, 0, 2), CHECKPOINT, {"w": 1}))


def test_a_device_without_a_kernel_is_refused() -> None:
    with pytest.raises(MachineError, match="device"):
        make_projector(ProjectionJob(spec_of("rademacher", 8), CHECKPOINT, {"w": 1}, device=torch.device("meta")))
