"""The choice of a random matrix, and its validation."""

from __future__ import annotations

from dataclasses import dataclass

from trak_cli.errors import Problem


@dataclass(frozen=True)
class Kind:
    """What a kind of matrix reads from a spec.

    Attributes:
        sparse: whether its last or only step is the sparse matrix, which has ``nonzeros`` entries per row.
        sized: whether ``dim`` is its number of columns.
        version: version of a user's definition, part of the fingerprint of a store; None for the kinds of the package.
    """

    sparse: bool = False
    sized: bool = True
    version: int | None = None


#: Every kind by name. ``none`` keeps the complete gradient (the identity instead of a random matrix).
KINDS: dict[str, Kind] = {
    "rademacher": Kind(),
    "gaussian": Kind(),
    "sjlt": Kind(sparse=True),
    "factored": Kind(sparse=True),
    "none": Kind(sized=False),
}

#: Values of ``projection.kernel`` besides ``auto``, as :mod:`trak_cli.projection.registry` implements them. The names are here
#: because that module imports PyTorch and this one does not, which keeps checking a configuration fast.
KERNEL_NAMES = ("concatenate", "cuda", "c", "blas", "c-avx512", "c-avx2", "c-portable")

#: Columns are numbered with 31 bits.
MAX_DIM = 2**31 - 1


@dataclass(frozen=True)
class ProjectionSpec:
    """The choice of one random matrix for all checkpoints of a run.

    Attributes:
        kind: a key of :data:`KINDS`.
        dim: k, the number of columns (``none`` ignores it and has one column per coordinate).
        seed: each seed gives another matrix.
        nonzeros: s, the number of non-zero entries of each row (``sjlt`` and ``factored`` only).
        factors: columns of the matrices that multiply a weight from the left and from the right (``factored`` only); None
            chooses them by the number of weights, see :func:`~trak_cli.projection.factored.factor_sizes`.
    """

    kind: str
    dim: int
    seed: int = 0
    nonzeros: int = 1
    factors: tuple[int, ...] | None = None


def spec_problems(spec: ProjectionSpec) -> list[Problem]:
    """Everything that is wrong with ``spec``; an empty list if nothing is."""
    problems = []
    kind = KINDS.get(spec.kind, Kind())
    if spec.kind not in KINDS:
        problems.append(_problem("kind", spec.kind, f"one of {', '.join(KINDS)}", "use one of these"))
    if not 0 <= spec.seed < 2**64:
        problems.append(_problem("seed", spec.seed, "a whole number from 0 to 2^64 - 1", "choose a small one"))
    if kind.sparse and spec.nonzeros < 1:
        problems.append(_problem("nonzeros", spec.nonzeros, "at least 1 entry per row", "1, 4 and 8 are usual"))
    if spec.kind == "factored" and spec.factors is not None and (len(spec.factors) != 2 or min(spec.factors) < 1):
        expected = "two whole numbers of at least 1: columns on the left and on the right of a weight"
        problems.append(_problem("factors", list(spec.factors), expected, "[16, 16] is usual; null chooses by projection.dim"))
    if kind.sized:
        problems.extend(_dim_problems(spec, kind))
    return problems


def _dim_problems(spec: ProjectionSpec, kind: Kind) -> list[Problem]:
    """What is wrong with the number of columns."""
    if not 1 <= spec.dim <= MAX_DIM:
        return [_problem("dim", spec.dim, f"a whole number from 1 to {MAX_DIM}", "4096 is a good start")]
    unit = 16 * spec.nonzeros
    if not kind.sparse or spec.nonzeros < 1 or spec.dim % unit == 0:
        return []
    below = spec.dim // unit * unit
    nearest = [str(dim) for dim in (below, below + unit) if 1 <= dim <= MAX_DIM]
    expected = f"a multiple of {unit} (16 times projection.nonzeros)"
    return [_problem("dim", spec.dim, expected, f"the nearest are {' and '.join(nearest)}")]


def _problem(field: str, found: object, expected: str, remedy: str) -> Problem:
    return Problem(f"projection.{field}", str(found), expected, remedy)
