"""A projection: a random matrix of your own, here one that keeps k random coordinates of the gradient.

Put this file beside your YAML, and write into the YAML:

    extensions: [projection]
    projection: {kind: subsample, dim: 64}

Its entries depend on the seed, the checkpoint and the coordinate only, never on the batch, as those of every projection must.
"""

from collections.abc import Iterable

import numpy as np
import torch

from trak_cli.projection.blocks import dense
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import register_projection
from trak_cli.types import AnyBlock


@register_projection("subsample", version=1)
class Subsample:
    """Each column is √p at one random coordinate and zero elsewhere, so that E[P Pᵀ] = k · I."""

    kernel = "subsample"

    def __init__(self, job: ProjectionJob) -> None:
        self.dim, self.job, self.p = job.spec.dim, job, sum(job.sizes.values())
        self.chosen = np.random.default_rng([job.spec.seed, int(job.checkpoint, 16)]).integers(self.p, size=self.dim)
        self.first = dict(zip(job.sizes, np.cumsum([0, *job.sizes.values()]).tolist(), strict=False))

    def project(self, blocks: Iterable[AnyBlock]) -> torch.Tensor:
        features = torch.zeros(())
        for block in dense(blocks, self.job):
            place = self.chosen - self.first[block.name] - block.offset
            here = (place >= 0) & (place < block.gradient.shape[1])
            features = features + block.gradient.new_zeros(block.batch, self.dim)
            features[:, here] += block.gradient[:, place[here]]
        return self.p**0.5 * features.float()
