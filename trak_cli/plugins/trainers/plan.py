"""Which samples are in the batch of each step, and the random states of each step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
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


@contextmanager
def random_states_kept(device: torch.device) -> Iterator[None]:
    """Inside, the global random states may change; afterwards those of PyTorch, NumPy and Python are as before."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def set_random_states(seed: int, step: int, device: torch.device) -> None:
    """Set the global random states of PyTorch, NumPy and Python to a pure function of seed and step."""
    value = int.from_bytes(blake2b(f"{seed} {step}".encode(), digest_size=8).digest(), "little")
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 (data sets use the global state)
    random.seed(value)
