"""The contract of a projector, and the data that one is built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock

CPU = torch.device("cpu")


class Projector(Protocol):
    """Multiplies per-sample gradients by the random matrix of one checkpoint (TRAK, section 3, step 2).

    Attributes:
        kernel: name of the implementation, for the log and the provenance of a shard.
        dim: number of columns of the result.
    """

    kernel: str
    dim: int

    def project(self, blocks: Iterable[AnyBlock]) -> torch.Tensor:
        """Σ_blocks G_block · P_block, with no factor 1/√p.

        Args:
            blocks: at least one, all with the same batch size B, in any order; a parameter tensor may come in several. They
                are consumed one at a time. Coordinates without a block count as zero, and overlapping blocks are added up.

        Returns:
            (B, dim) float32; for kind ``none`` float64 if a gradient is float64.

        Raises:
            ValueError: there is no block, or one does not fit the parameters or the batch.
        """


@dataclass(frozen=True)
class ProjectionJob:
    """Everything that determines a projector.

    Attributes:
        spec: which random matrix.
        checkpoint: SHA-256 of the checkpoint file, 64 hexadecimal digits: each checkpoint has its own matrix.
        sizes: canonical parameter name -> number of elements, in the order of ``named_parameters``.
        device: where the gradients are.
        threads: how many threads a CPU kernel may use; None: as many as PyTorch uses. Results do not depend on it.
        matrices: for ``factored``: name -> (m, n) of the parameters that are multiplied from both sides; the others are
            multiplied by the sparse matrix alone.
    """

    spec: ProjectionSpec
    checkpoint: str
    sizes: Mapping[str, int]
    device: torch.device = CPU
    threads: int | None = None
    matrices: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def thread_count(self) -> int:
        """The number of threads, resolved."""
        return torch.get_num_threads() if self.threads is None else self.threads
