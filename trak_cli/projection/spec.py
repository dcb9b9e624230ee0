"""Which random matrix is meant, and whether it can exist."""

from __future__ import annotations

from dataclasses import dataclass

from trak_cli.errors import Problem

#: ``none`` keeps the whole gradient: the identity in place of a random matrix.
KINDS = ("rademacher", "gaussian", "sjlt", "factored", "none")

#: The kinds whose last (or only) step is the sparse matrix.
SPARSE = ("sjlt", "factored")

#: Values of ``projection.kernel`` besides ``auto``, as :mod:`trak_cli.projection.registry` implements them. The names are here
#: because that module imports PyTorch and this one does not, which keeps checking a configuration fast.
KERNEL_NAMES = ("concatenate", "cuda", "c", "blas", "c-avx512", "c-avx2", "c-portable")

#: Columns are numbered with 31 bits.
MAX_DIM = 2**31 - 1


@dataclass(frozen=True)
class ProjectionSpec:
    """The choice of one random matrix for all checkpoints of a run.

    Attributes:
        kind: one of ``KINDS``.
        dim: k, the number of columns (``none`` has one for each coordinate instead and does not look at it).
        seed: another seed, another matrix.
        nonzeros: s, how many entries of each row are not zero (``sjlt`` and ``factored`` only).
        factors: columns of the matrices that multiply a weight from the left and from the right (``factored`` only); None:
            by the number of weights, see :func:`~trak_cli.projection.factored.factor_sizes`.
    """

    kind: str
    dim: int
    seed: int = 0
    nonzeros: int = 1
    factors: tuple[int, ...] | None = None


def spec_problems(spec: ProjectionSpec) -> list[Problem]:
    """Everything that keeps ``spec`` from naming a matrix; an empty list when nothing does."""
    problems = []
    if spec.kind not in KINDS:
        problems.append(_problem("kind", spec.kind, f"one of {', '.join(KINDS)}", "name one of these"))
    if not 0 <= spec.seed < 2**64:
        problems.append(_problem("seed", spec.seed, "a whole number from 0 to 2^64 - 1", "choose a small one"))
    if spec.kind in SPARSE and spec.nonzeros < 1:
        problems.append(_problem("nonzeros", spec.nonzeros, "at least 1 entry per row", "1, 4 and 8 are usual"))
    if spec.kind == "factored" and spec.factors is not None and (len(spec.factors) != 2 or min(spec.factors) < 1):
        expected = "two whole numbers of at least 1: columns on the left and on the right of a weight"
        problems.append(_problem("factors", list(spec.factors), expected, "[16, 16] is usual; null chooses by projection.dim"))
    if spec.kind != "none":
        problems.extend(_dim_problems(spec))
    return problems


def _dim_problems(spec: ProjectionSpec) -> list[Problem]:
    """What is wrong with the number of columns."""
    if not 1 <= spec.dim <= MAX_DIM:
        return [_problem("dim", spec.dim, f"a whole number from 1 to {MAX_DIM}", "4096 is a good start")]
    unit = 16 * spec.nonzeros
    if spec.kind not in SPARSE or spec.nonzeros < 1 or spec.dim % unit == 0:
        return []
    below = spec.dim // unit * unit
    nearest = [str(dim) for dim in (below, below + unit) if 1 <= dim <= MAX_DIM]
    expected = f"a multiple of {unit} (16 times projection.nonzeros)"
    return [_problem("dim", spec.dim, expected, f"the nearest are {' and '.join(nearest)}")]


def _problem(field: str, found: object, expected: str, remedy: str) -> Problem:
    return Problem(f"projection.{field}", str(found), expected, remedy)
