"""Which samples are in the batch of each step, and the seed of each step."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch


class BatchPlan(Sequence[Sequence[int]]):
    """Shuffled epochs, each cut into batches: element i holds the positions of the samples of step i.

    An epoch is kept at a time. A last batch of a single sample is merged into the one before, because BatchNorm cannot
    train on one sample.

    Args:
        rows: number of samples.
        seed: of the generator of the permutations; epoch e uses its e-th permutation.
    """

    def __init__(self, rows: int, epochs: int, batch_size: int, seed: int) -> None:
        starts = list(range(0, rows, batch_size))
        if len(starts) > 1 and rows - starts[-1] == 1 and batch_size > 1:
            starts.pop()
        self._bounds = list(zip(starts, [*starts[1:], rows], strict=True))
        self._rows, self._epochs, self._seed = rows, epochs, seed
        self._generator = torch.Generator()
        self._drawn = 0
        self._order: list[int] = []

    def __len__(self) -> int:
        return self._epochs * len(self._bounds)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        epoch, number = divmod(index, len(self._bounds))
        start, stop = self._bounds[number]
        return self._shuffled(epoch)[start:stop]

    def _shuffled(self, epoch: int) -> list[int]:
        """The permutation of an epoch."""
        if epoch + 1 < self._drawn or not self._drawn:
            self._generator.manual_seed(self._seed)
            self._drawn = 0
        while self._drawn <= epoch:
            self._order = torch.randperm(self._rows, generator=self._generator).tolist()
            self._drawn += 1
        return self._order


def step_seed(seed: int, step: int) -> int:
    """The seed of the random states of a step, from that of the training."""
    return int.from_bytes(blake2b(f"{seed} {step}".encode(), digest_size=8).digest(), "little")
