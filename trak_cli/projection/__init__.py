"""The random projection of TRAK (section 3, step 2): which matrix, and what multiplies per-sample gradients by it.

:mod:`~trak_cli.projection.definition` says what every entry is, :mod:`~trak_cli.projection.oracle` writes the matrix
out, and the kernels, listed in :mod:`~trak_cli.projection.registry`, multiply by it without ever holding it.
"""

from __future__ import annotations

from trak_cli.projection.contract import Projector
from trak_cli.projection.definition import MATRIX_VERSION
from trak_cli.projection.factored import describe_factors, factor_sizes
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import KINDS, SPARSE, ProjectionSpec, spec_problems

__all__ = [
    "KINDS",
    "MATRIX_VERSION",
    "SPARSE",
    "ProjectionSpec",
    "Projector",
    "describe_factors",
    "factor_sizes",
    "make_projector",
    "spec_problems",
]
