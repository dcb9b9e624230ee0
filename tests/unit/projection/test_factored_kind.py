"""Kind factored equals the explicitly formed Kronecker product, however a gradient comes: as factors, dense, by rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import projection_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.definition import rademacher, tensor_key
from trak_cli.projection.factored import describe_factors, factor_sizes
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec, spec_problems
from trak_cli.types import AnyBlock, Block, FactorBlock, Float64, RowBlock

CHECKPOINT = "0f" * 32

#: Signs of rows 0, 1, 31, 32 and 5000, columns 0 to 7.
GOLDEN = {
    "left": ["--+-+-+-", "-+---++-", "+-+----+", "-+---+--", "+-++---+"],
    "right": ["++-+-++-", "+++-+---", "+-+--+-+", "-+----++", "-----+-+"],
}

SPEC = ProjectionSpec("factored", 64, 3, nonzeros=2, factors=(4, 3))


def projector(spec: ProjectionSpec, m: int, n: int, threads: int = 1, kernel: str = "blas") -> Projector:
    """For a weight w of m×n and a bias b of 37."""
    return make_projector(
        ProjectionJob(spec, CHECKPOINT, {"w": m * n, "b": 37}, threads=threads, matrices={"w": (m, n)}), kernel=kernel
    )


def factors(batch: int, positions: int, m: int, n: int, seed: int = 0) -> FactorBlock:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, positions)
    return FactorBlock(
        "w",
        torch.randn(*shape, m, generator=generator, dtype=torch.float64),
        torch.randn(*shape, n, generator=generator, dtype=torch.float64),
    )


def expected(spec: ProjectionSpec, block: FactorBlock) -> Float64:
    m, n = block.left.shape[2], block.right.shape[2]
    G: Float64 = block.dense().gradient.numpy()
    return G @ oracle.factored_matrix(spec, CHECKPOINT, "w", (m, n))


def close(found: torch.Tensor, exact: Float64, relative: float = 1e-6) -> bool:
    return bool(np.abs(found.double().numpy() - exact).max() <= relative * max(float(np.abs(exact).max()), 1e-30))


@settings(deadline=None, max_examples=60)
@given(
    m=st.integers(1, 40),
    n=st.integers(1, 40),
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    batch=st.integers(1, 4),
    positions=st.integers(1, 6),
    nonzeros=st.integers(1, 3),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_factors_equal_the_kronecker_product(
    m: int, n: int, sides: tuple[int, int], batch: int, positions: int, nonzeros: int, dtype: torch.dtype
) -> None:
    """Also where a side is shorter than it has columns, and is left as it is."""
    spec = ProjectionSpec("factored", 96 * nonzeros, 5, nonzeros, sides)
    block = factors(batch, positions, m, n)
    block = FactorBlock("w", block.left.to(dtype), block.right.to(dtype))
    exact = expected(spec, FactorBlock("w", block.left.double(), block.right.double()))
    found = projector(spec, m, n).project([block])
    assert found.shape == (batch, spec.dim)
    assert found.dtype == torch.float32
    # Where few products cancel each other, rounding is as large as it is for their sizes.
    sizes = FactorBlock("w", block.left.double().abs(), block.right.double().abs()).dense().gradient.numpy()
    largest = (sizes @ np.abs(oracle.factored_matrix(spec, CHECKPOINT, "w", (m, n)))).max()
    assert np.abs(found.double().numpy() - exact).max() <= 1e-6 * largest


@settings(deadline=None, max_examples=60)
@given(
    marks=st.lists(st.integers(1, 11 * 7 - 1), max_size=5),
    sides=st.sampled_from([(4, 3), (11, 3), (4, 7), (20, 20)]),
    order=st.randoms(),
)
def test_a_dense_gradient_gives_the_same_however_it_is_cut(marks: list[int], sides: tuple[int, int], order: object) -> None:
    """Also inside a row of the weight, and with a part that is empty."""
    spec, block = replace(SPEC, factors=sides), factors(3, 5, 11, 7)
    G = block.dense().gradient
    edges = sorted({0, *marks, 77})
    parts = [Block("w", G[:, a:b], a) for a, b in zip(edges, [*edges[1:], 77], strict=True)]
    order.shuffle(parts)  # type: ignore[attr-defined]
    assert close(projector(spec, 11, 7).project(parts), expected(spec, block))


@pytest.mark.parametrize("sides", [(4, 3), (20, 3), (20, 20)])
def test_rows_give_the_same_as_the_dense_gradient_and_add_up_with_factors(sides: tuple[int, int]) -> None:
    """A matrix that an embedding shares with a linear layer comes both ways."""
    spec, block = replace(SPEC, factors=sides), factors(3, 5, 11, 7)
    sample, row = torch.tensor([0, 0, 0, 2]), torch.tensor([0, 4, 10, 4])
    rows = RowBlock("w", 3, sample, row, torch.randn(4, 7, dtype=torch.float64))
    G = torch.zeros(3, 11, 7, dtype=torch.float64)
    G[sample, row] = rows.values
    matrix = oracle.factored_matrix(spec, CHECKPOINT, "w", (11, 7))
    exact = expected(spec, block) + G.flatten(1).numpy() @ matrix
    assert close(projector(spec, 11, 7).project([rows, block]), exact)
    nothing = RowBlock("w", 3, sample[:0], row[:0], rows.values[:0])
    assert close(projector(spec, 11, 7).project([nothing, block]), expected(spec, block))


def test_parameters_that_are_not_matrices_use_the_plain_sparse_projection() -> None:
    bias = Block("b", torch.randn(3, 37))
    sparse = replace(SPEC, kind="sjlt", factors=None)
    found = projector(SPEC, 11, 7).project([bias])
    assert torch.equal(found, projector(sparse, 11, 7).project([bias]))
    assert close(found, oracle.project(sparse, CHECKPOINT, [bias]), 1e-5)


def test_every_other_kind_multiplies_factors_out() -> None:
    block = factors(3, 5, 11, 7)
    for kind in ("rademacher", "gaussian", "sjlt"):
        spec = ProjectionSpec(kind, 64, 3)
        for kernel in ("blas", "auto"):
            found = projector(spec, 11, 7, kernel=kernel).project([block])
            assert close(found, oracle.project(spec, CHECKPOINT, [block]), 1e-5)


def test_inner_products_survive_on_average() -> None:
    """E[P Pᵀ] = k I, as for every kind: over 400 seeds the mean of ⟨x, y⟩ is the true one within five standard errors."""
    one, other = factors(1, 3, 30, 20, 1), factors(1, 3, 30, 20, 2)
    G, H = one.dense().gradient[0], 0.5 * one.dense().gradient[0] + other.dense().gradient[0]
    found = []
    for seed in range(400):
        spec = ProjectionSpec("factored", 256, seed, 1, (8, 8))
        x, y = projector(spec, 30, 20).project([Block("w", torch.stack([G, H]))]).double()
        found.append(float(x @ y) / spec.dim)
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found) - float(G @ H)) < 5 * error
    assert error < 0.05 * float(G.norm() * H.norm())


def test_left_and_right_factors_are_pure_functions_with_separate_streams() -> None:
    """The same entries for any range of rows; left, right and the Rademacher kind have nothing in common."""
    T = tensor_key(7, CHECKPOINT, "w")
    kinds = ("left", "right", "rademacher")
    whole = {kind: rademacher(T, np.arange(4000), np.arange(8), kind) for kind in kinds}
    np.testing.assert_array_equal(whole["left"][777:901, :3], rademacher(T, np.arange(777, 901), np.arange(3), "left"))
    for first, second in (("left", "right"), ("left", "rademacher"), ("right", "rademacher")):
        assert abs((whole[first] * whole[second]).mean()) < 5 / 32000**0.5


def test_these_values_are_version_one() -> None:
    T = tensor_key(7, "".join(f"{byte:02x}" for byte in range(32)), "layer.weight")
    left, right = (rademacher(T, np.array([0, 1, 31, 32, 5000]), np.arange(8), side) for side in ("left", "right"))
    assert ["".join("-+"[int(one > 0)] for one in row) for row in left] == GOLDEN["left"]
    assert ["".join("-+"[int(one > 0)] for one in row) for row in right] == GOLDEN["right"]


def test_threads_and_batch_do_not_change_results() -> None:
    block = factors(9, 5, 30, 20)
    together = projector(SPEC, 30, 20).project([block])
    assert torch.equal(projector(SPEC, 30, 20, threads=3).project([block]), together)
    for part in (slice(0, 1), slice(4, 9)):
        alone = projector(SPEC, 30, 20).project([FactorBlock("w", block.left[part], block.right[part])])
        assert close(alone, together[part].double().numpy())


def test_open_sizes_follow_the_dimension_and_the_number_of_weights() -> None:
    spec = ProjectionSpec("factored", 4096, nonzeros=4)
    assert factor_sizes(spec, 1) == (128, 128)
    assert factor_sizes(spec, 3) == (74, 74)
    assert factor_sizes(spec, 100) == (16, 16)
    assert factor_sizes(replace(spec, factors=(5, 9)), 100) == (5, 9)


def test_problems_of_the_spec() -> None:
    assert [one.where for one in spec_problems(ProjectionSpec("factored", 17, nonzeros=0, factors=(16,)))] == [
        "projection.nonzeros",
        "projection.factors",
    ]
    assert [one.where for one in spec_problems(replace(SPEC, dim=100, factors=(0, 4)))] == [
        "projection.factors",
        "projection.dim",
    ]


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (FactorBlock("w", torch.ones(2, 3, 11), torch.ones(2, 4, 7)), "factors"),
        (FactorBlock("w", torch.ones(2, 3, 7), torch.ones(2, 3, 11)), "11×7"),
        (Block("w", torch.ones(2, 10), 70), "coordinate 70"),
        (RowBlock("w", 2, torch.tensor([0]), torch.tensor([0]), torch.ones(1, 6)), r"\(1, 6\)"),
        (Block("v", torch.ones(2, 10)), "no parameter"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(block: AnyBlock, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        projector(SPEC, 11, 7).project([block])


def test_a_model_without_matrices_has_no_factors() -> None:
    with pytest.raises(ValueError, match="needs the matrices"):
        make_projector(ProjectionJob(SPEC, CHECKPOINT, {"w": 77}))


def test_strategies_are_summarised_in_a_sentence() -> None:
    sizes = {"w": 77, "b": 37, "c": 1000, "d": 3, "e": 2}
    assert describe_factors(SPEC, sizes, {"w": (11, 7)}) == (
        "1 of 5 parameter tensors from both sides, to at most 4 × 3; b, c, d and 1 more (1,042 coordinates) by the sparse"
        " matrix alone"
    )
    assert describe_factors(SPEC, {"w": 77}, {"w": (11, 7)}) == "1 of 1 parameter tensor from both sides, to at most 4 × 3"
