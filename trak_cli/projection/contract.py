"""What a projector promises, and what it is built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock


class Projector(Protocol):
    """Multiplies per-sample gradients by the random matrix of one checkpoint (TRAK, section 3, step 2).

    Attributes:
        kernel: which code multiplies, as the log and the shard tell it.
        dim: columns of the answer.
    """

    kernel: str
    dim: int

    def project(self, blocks: Iterable[AnyBlock]) -> torch.Tensor:
        """Σ_blocks G_block · P_block, with no factor 1/√p.

        Args:
            blocks: at least one; each parameter tensor whole or in parts, in any order, all with the same batch B. They
                are taken one at a time, and none is kept. A coordinate that no block brings counts as zero; what several
                bring is added up.

        Returns:
            (B, dim) float32; for kind ``none`` float64 when a gradient is float64.

        Raises:
            ValueError: no block came, or one that does not fit the parameters or the batch.
        """


@dataclass(frozen=True)
class ProjectionJob:
    """All that determines a projector.

    Attributes:
        spec: which random matrix.
        checkpoint: SHA-256 of the checkpoint file, 64 hexadecimal digits.
        sizes: canonical parameter name -> number of elements, in the order of ``named_parameters``.
        device: where the gradients are.
        threads: how many threads a CPU kernel may use.
        matrices: for ``factored``: name -> (m, n) of the parameters that are multiplied from both sides.
    """

    spec: ProjectionSpec
    checkpoint: str
    sizes: Mapping[str, int]
    device: torch.device
    threads: int
    matrices: Mapping[str, tuple[int, int]] = field(default_factory=dict)
