"""Which samples of a split are computed together.

If all samples have one size (images, tables), a microbatch is M consecutive rows that start at a multiple of M. Shard
boundaries do not move it, and every computation has the same shape. If sizes differ (texts), the rows of a shard are ordered
by size, and M neighbours in that order form a microbatch, so that little is computed for padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from trak_cli.stages.inputs.split import Split
from trak_cli.types import Rows, evenly_spaced
from trak_cli.user_errors import report_user_errors

#: Numbers, over all samples, that are held in memory while samples are ordered by size: 128 MiB of token numbers.
HELD_NUMBERS = 2**24

#: Samples from which a member's statistics of batch normalisation are computed, and how many are in a batch.
STATISTICS_SAMPLES, STATISTICS_BATCH = 512, 64


@dataclass(frozen=True)
class Microbatch:
    """Samples that are computed together.

    Attributes:
        rows: their row numbers, in any order.
        samples: in the order of ``rows``. If there are more samples than rows, the last ones repeat the last row's sample
            as padding.
    """

    rows: list[int]
    samples: list[Any]


@dataclass(frozen=True)
class _SizedSample:
    row: int
    sample: Any
    size: int


def microbatches(split: Split, rows: Rows, size: int) -> Iterator[Microbatch]:
    """Microbatches of at most ``size`` samples that contain each of ``rows`` once, and possibly rows around them."""
    yield from by_size(split, rows, size) if split.varies else _grid(split, rows, size)


def by_size(split: Split, rows: Iterable[int], size: int) -> Iterator[Microbatch]:
    """Microbatches of at most ``size`` samples of similar size that contain each of ``rows`` once and no other row.

    The largest samples come first, so that a lack of memory shows early.
    """
    for held in _held_samples(split, rows, size):
        held.sort(key=lambda item: -item.size)  # stable: the same order whenever the shard is computed
        for start in range(0, len(held), size):
            chosen = held[start : start + size]
            yield Microbatch([item.row for item in chosen], [item.sample for item in chosen])


def largest(split: Split, size: int) -> Microbatch:
    """A microbatch that needs as much memory as any: copies of the largest sample in ``split.sizes``."""
    return _copies(split, max(split.sizes, key=split.sizes.__getitem__), size)


def typical(split: Split, size: int) -> Microbatch:
    """A microbatch that takes a typical time: the first one or, if sizes differ, copies of a sample of mean size."""
    if not split.varies:
        return next(_grid(split, Rows(0, 1), size))
    mean = sum(split.sizes.values()) / len(split.sizes)
    return _copies(split, min(split.sizes, key=lambda row: abs(split.sizes[row] - mean)), size)


def _copies(split: Split, row: int, size: int) -> Microbatch:
    return Microbatch([row] * size, split.samples([row] * size))


def _grid(split: Split, rows: Rows, size: int) -> Iterator[Microbatch]:
    """Runs of ``size`` rows that start at multiples of ``size``; the last run of the split is padded."""
    first, last = rows.start // size * size, min(-(-rows.stop // size) * size, split.rows)
    stream = split.stream(range(first, last), size)
    for start in range(first, last, size):
        numbers = list(range(start, min(start + size, last)))
        samples = list(islice(stream, len(numbers)))
        yield Microbatch(numbers, samples + samples[-1:] * (size - len(numbers)))


def _held_samples(split: Split, rows: Iterable[int], size: int) -> Iterator[list[_SizedSample]]:
    """The samples in row order, in lists of whole microbatches that hold about HELD_NUMBERS numbers each."""
    held: list[_SizedSample] = []
    count = 0
    numbers = list(rows)
    stream = split.stream(numbers, size)
    for start in range(0, len(numbers), size):
        chosen = numbers[start : start + size]
        read = islice(stream, len(chosen))
        added = [_SizedSample(row, item, split.size(item)) for row, item in zip(chosen, read, strict=True)]
        held += added
        count += sum(item.size for item in added)
        if count >= HELD_NUMBERS:
            yield held
            held, count = [], 0
    if held:
        yield held


#: Why samples are read for a member, as an error says it.
FOR_MEMBERS = "for the statistics of batch normalisation under other weights (ensemble.members=0 needs none)"


@dataclass(frozen=True)
class TrainingBatches:
    """Batches of the training set, on the device: ``of`` collates the given rows, out of ``rows``."""

    of: Callable[[Sequence[int]], Any]
    rows: int

    def first(self) -> Any:
        """Two samples, or the only one."""
        with report_user_errors("collating samples of train", any_code=True):
            return self.of(range(min(2, self.rows)))

    def spread(self) -> Iterator[Any]:
        """Evenly spaced samples in batches of about one size, each from the whole set; none of a training set of one sample."""
        chosen = evenly_spaced(self.rows, STATISTICS_SAMPLES).tolist()
        count = math.ceil(len(chosen) / STATISTICS_BATCH) if len(chosen) > 1 else 0
        for number in range(count):
            with report_user_errors(f"collating several samples of train, {FOR_MEMBERS}", any_code=True):
                batch = self.of(chosen[number::count])
            yield batch
