"""A split of the data, and which of its samples are computed together.

Where all samples have one size (images, tables), a microbatch is M consecutive rows from a multiple of M on: no shard boundary
moves it, and every computation has the same shape. Where sizes differ (texts), the rows of a shard are ordered by size, and M
neighbours in that order are a microbatch: hardly anything is computed for padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import nn

from trak_cli.batches import leaves, to_device
from trak_cli.tasks import SampleError, Task
from trak_cli.types import Rows
from trak_cli.user_errors import report_user_errors

Given = TypeVar("Given")


Made = TypeVar("Made")


#: Samples whose sizes are looked at, to see whether they differ and how many fit into memory.
SIZE_SAMPLES = 64


#: Numbers, in all samples together, that are held in memory while they are ordered by size: 128 MiB of token numbers.
HELD_NUMBERS = 2**24


def spread(rows: int, count: int) -> list[int]:
    """At most ``count`` row numbers of ``rows``, evenly spread from the first to the last."""
    count = min(rows, count)
    return [round(i * (rows - 1) / max(count - 1, 1)) for i in range(count)]


def in_threads(function: Callable[[Given], Made], items: Iterable[Given], threads: int) -> list[Made]:
    """``function`` of every item, in order, by so many threads at once; by the caller's own where they are fewer than two."""
    if threads < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


@dataclass(frozen=True)
class Microbatch:
    """Attributes:
    rows: row numbers of its samples, in any order.
    samples: in the order of ``rows``; where there are more of them, the last one is repeated to fill the computation up.
    """

    rows: list[int]
    samples: list[Any]


@dataclass(frozen=True)
class Split:
    """A dataset with what turns its samples into batches.

    Attributes:
        readers: threads that read samples ahead of their computation; 0: the one that computes reads in between.
    """

    name: str
    dataset: Any
    rows: int
    collate: Callable[[list[Any]], Any]
    device: torch.device
    readers: int = 0

    def sample(self, row: int) -> Any:
        with report_user_errors(f"sample {row} of {self.name}", any_code=True):
            return self.dataset[row]

    def samples(self, rows: Iterable[int]) -> list[Any]:
        return in_threads(self.sample, rows, self.readers)

    def collated(self, samples: list[Any], rows: Iterable[int] = ()) -> Any:
        """The batch of these samples, in the CPU's memory; ``rows`` are named where that fails."""
        named = ", ".join(map(str, rows))
        with report_user_errors(
            f"collating samples {named} of {self.name}" if named else f"collating {self.name}", any_code=True
        ):
            return self.collate(samples)

    def batch(self, samples: list[Any]) -> Any:
        return to_device(self.collated(samples), self.device)

    def size(self, sample: Any) -> int:
        """Numbers in the tensors of a sample that is collated alone."""
        return sum(leaf.numel() for _, leaf in leaves(self.collated([sample])) if isinstance(leaf, torch.Tensor))

    @cached_property
    def sizes(self) -> dict[int, int]:
        """Row -> size, of a few evenly spread samples."""
        return {row: self.size(self.sample(row)) for row in range(0, self.rows, -(-self.rows // SIZE_SAMPLES))}

    @property
    def varies(self) -> bool:
        """Whether samples differ in size, as far as a few of them tell."""
        return len(set(self.sizes.values())) > 1

    def largest(self, size: int) -> Microbatch:
        """A microbatch that tells how much memory all of them take, at most: copies of the largest of a few samples."""
        return self._copies(max(self.sizes, key=self.sizes.__getitem__), size)

    def typical(self, size: int) -> Microbatch:
        """A microbatch that tells how long all of them take: the first; where sizes differ, copies of a sample of mean size."""
        if not self.varies:
            return next(self._grid(Rows(0, 1), size))
        mean = sum(self.sizes.values()) / len(self.sizes)
        return self._copies(min(self.sizes, key=lambda row: abs(self.sizes[row] - mean)), size)

    def microbatches(self, rows: Rows, size: int) -> Iterator[Microbatch]:
        """Microbatches of at most ``size`` samples, in which each of ``rows`` is once (and perhaps rows around them)."""
        return self.by_size(rows, size) if self.varies else self._grid(rows, size)

    def _copies(self, row: int, size: int) -> Microbatch:
        return Microbatch([row] * size, self.samples([row] * size))

    def _grid(self, rows: Rows, size: int) -> Iterator[Microbatch]:
        """From one multiple of ``size`` to the next; the last of the split is filled up."""
        for start in range(rows.start // size * size, rows.stop, size):
            real = list(range(start, min(start + size, self.rows)))
            samples = self.samples(real)
            yield Microbatch(real, samples + samples[-1:] * (size - len(real)))

    def by_size(self, rows: Iterable[int], size: int) -> Iterator[Microbatch]:
        """Microbatches of at most ``size`` samples of ``rows`` and no other: neighbours in size.

        The largest come first, so that what does not fit into memory shows early.
        """
        for held in self._held(rows, size):
            held.sort(key=lambda one: -one.size)  # stable: the same order whenever the shard is computed
            for start in range(0, len(held), size):
                some = held[start : start + size]
                yield Microbatch([one.row for one in some], [one.sample for one in some])

    def _held(self, rows: Iterable[int], size: int) -> Iterator[list[_Sized]]:
        """The samples in row order, as many whole microbatches at a time as are held in memory."""
        held: list[_Sized] = []
        numbers = 0
        every = list(rows)
        for start in range(0, len(every), size):
            some = every[start : start + size]
            held += [_Sized(row, sample, self.size(sample)) for row, sample in zip(some, self.samples(some), strict=True)]
            numbers += sum(one.size for one in held[-len(some) :])
            if numbers >= HELD_NUMBERS:
                yield held
                held, numbers = [], 0
        if held:
            yield held


@dataclass(frozen=True)
class _Sized:
    row: int
    sample: Any
    size: int


def validate(task: Task, model: nn.Module, batch: Any, split: str, rows: Iterable[int]) -> None:
    """Let the task look at a batch of the samples ``rows`` (the last one may be repeated to fill it up).

    Raises:
        InputError: names the first sample that is refused.
    """
    try:
        task.validate(model, batch)
    except SampleError as bad:
        numbers = list(rows)
        raise bad.renamed(f"sample {numbers[min(bad.position, len(numbers) - 1)]} of {split}") from None


#: Rows of a dataset that are read twice, to see whether it gives the same sample twice.
PROBES = 8


def probes(rows: int) -> list[int]:
    """A few rows, both ends among them, that are read twice before any work."""
    return sorted({0, rows - 1, *(rows * part // PROBES for part in range(PROBES))})
