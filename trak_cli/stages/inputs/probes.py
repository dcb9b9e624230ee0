"""Probes: a few samples on which a model is checked, from the whole split and as different as possible.

The number of samples that are read does not depend on the length of the split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from trak_cli.gradients.checks.independence import Trial
from trak_cli.stages.inputs.split import Split
from trak_cli.user_errors import report_user_errors

#: Samples that are read to choose probes: the first ones, rows that the data set suggests, and rows spread over the split.
FIRST, SUGGESTED, SPREAD = 4, 8, 60

#: Reading stops early after so many seconds, or if so many numbers are held in memory, but not before ENOUGH samples are read.
SECONDS, HELD, ENOUGH = 4.0, 2**27, 16

#: Probes of a split; a prime, so that a collate that keeps whole groups only is found.
PROBES = 7

#: 2^64 divided by the golden ratio: multiples of it, modulo 2^64, are spread evenly, whatever their number.
_GOLDEN, _WORD = 0x9E3779B97F4A7C15, 2**64


@dataclass(frozen=True)
class Probes:
    """A few samples of a split, single and together.

    Attributes:
        rows: their row numbers, in an order that follows neither size nor row number.
        samples: as the data set returns them.
        sizes: how many numbers the tensors of each sample hold, or how many characters its texts have; equal if all samples
            of the split have one size.
        read: row -> sample of all samples from which the probes were chosen.
        spread: the rows of ``read`` that are spread over the split, like a random sample of it.
    """

    split: Split
    rows: list[int]
    samples: list[Any]
    sizes: list[int]
    read: Mapping[int, Any]
    spread: Sequence[int]

    @cached_property
    def together(self) -> Any:
        """All probes as one batch, on the device."""
        return self.split.batch(self.samples, self.rows)

    @cached_property
    def reversed(self) -> Any:
        """All probes as one batch in reverse order, on the device."""
        return self.split.batch(self.samples[::-1], self.rows[::-1])

    @cached_property
    def singles(self) -> list[Any]:
        """Each probe as a batch of one, on the device."""
        return [self.split.batch([sample], [row]) for row, sample in zip(self.rows, self.samples, strict=True)]

    def batches(self, microbatch: int | None) -> list[Any]:
        """The probes in one batch; if microbatches have one sample anyway, each alone."""
        return self.singles if microbatch == 1 else [self.together]

    @property
    def names(self) -> list[str]:
        """The names of the probes in messages."""
        return [f"sample {row} of {self.split.name}" for row in self.rows]

    @property
    def trial(self) -> Trial:
        """The batches that show whether an output depends on the rest of its batch."""
        return Trial(self.together, self.reversed, self.singles, self.names, self.sizes)

    def first(self, count: int) -> Probes:
        """The first ``count`` probes only, two at least."""
        count = max(2, count)
        return replace(self, rows=self.rows[:count], samples=self.samples[:count], sizes=self.sizes[:count])


def spread_rows(rows: int, count: int) -> list[int]:
    """At most ``count`` distinct row numbers out of ``rows``: the last, the first, then rows that any prefix spreads evenly.

    The rows do not follow a fixed step, so that no period in the data set can hide from them. A share s of the samples is
    missed with probability (1 − s)^count: with 128 rows, 2.4 % of the samples are found with probability 0.95, and 3.6 % with
    0.99.
    """
    if rows <= count:
        return list(range(rows))
    return list(_distinct(rows, count))


def choose_probes(split: Split) -> Probes:
    """Samples that differ in size and in their labels: the largest and the smallest, their neighbours, and the first ones.

    A data set may have a method ``rows_to_check(count)``, which returns the rows that are most likely to be refused, such as
    the longest texts; they are read too. A split of one row gives this row twice, because a batch has two samples at least.
    """
    spread = spread_rows(split.rows, SPREAD)
    samples = _read(split, list(dict.fromkeys([*range(min(FIRST, split.rows)), *_suggested(split), *spread])))
    rows, sizes = list(samples), _sizes(split, samples)
    chosen = list(dict.fromkeys(_in_order_of_use(rows, sizes, samples)))[:PROBES]
    chosen = chosen if len(chosen) > 1 else chosen * 2
    return Probes(
        split,
        chosen,
        [samples[row] for row in chosen],
        [sizes[row] for row in chosen],
        samples,
        [row for row in spread if row in samples],
    )


def _suggested(split: Split) -> list[int]:
    """Rows that the data set suggests."""
    suggest = getattr(split.dataset, "rows_to_check", None)
    if not callable(suggest):
        return []
    with report_user_errors(f"rows_to_check of {split.name}", any_code=True):
        return [int(row) for row in suggest(SUGGESTED) if 0 <= row < split.rows][:SUGGESTED]


def _read(split: Split, rows: Sequence[int]) -> dict[int, Any]:
    """Row -> sample, in order; fewer if they are slow to read or large."""
    samples: dict[int, Any] = {}
    start, numbers = time.perf_counter(), 0
    for place in range(0, len(rows), FIRST):
        chosen = rows[place : place + FIRST]
        samples |= zip(chosen, split.samples(chosen), strict=True)
        numbers += sum(_values(samples[row]) for row in chosen)
        if len(samples) >= ENOUGH and (numbers > HELD or time.perf_counter() - start > SECONDS):
            break
    return samples


def _distinct(rows: int, count: int) -> Iterator[int]:
    seen = {rows - 1: None, 0: None}
    yield from seen
    step = 0
    while len(seen) < count:
        step += 1
        row = (step * _GOLDEN % _WORD) * rows // _WORD
        if row not in seen:
            seen[row] = None
            yield row


def _in_order_of_use(rows: Sequence[int], sizes: Mapping[int, int], samples: Mapping[int, Any]) -> Iterator[int]:
    """Row numbers, the most useful probes first."""
    by_size = sorted(rows, key=lambda row: (sizes[row], row))
    places = {size: row for row in reversed(by_size) for size in [sizes[row]]}  # the first row of each size
    of_each_size = [places[size] for size in sorted(places)]
    yield rows[0]
    yield of_each_size[-1]
    yield of_each_size[0]
    yield from _other_labels(rows, samples)
    yield of_each_size[len(of_each_size) // 2]
    yield of_each_size[max(0, len(of_each_size) - 2)]
    yield of_each_size[min(1, len(of_each_size) - 1)]
    yield from rows[1:2]
    yield from rows[:3:-1]
    yield from rows


def _other_labels(rows: Sequence[int], samples: Mapping[int, Any]) -> Iterator[int]:
    """Two rows whose single numbers, such as a label, differ from those of the first row and from each other."""
    seen = {_numbers(samples[rows[0]])}
    for row in rows[:3:-1]:
        numbers = _numbers(samples[row])
        if numbers not in seen and len(seen) < 3:
            seen.add(numbers)
            yield row


def _sizes(split: Split, samples: Mapping[int, Any]) -> dict[int, int]:
    """Row -> size: of the sample as a batch of one or, if these have one size, as the data set returns it."""
    measures: tuple[Callable[[Any], int], ...] = (split.size, _values)
    sizes: dict[int, int] = {}
    for measure in measures:
        sizes = {row: measure(sample) for row, sample in samples.items()}
        if len(set(sizes.values())) > 1:
            break
    return sizes


def _values(sample: Any) -> int:
    """How many numbers and characters a sample of tensors, arrays, texts and nested containers has."""
    if isinstance(sample, torch.Tensor):
        return sample.numel()
    if isinstance(sample, np.ndarray):
        return int(sample.size)
    if isinstance(sample, Mapping):
        return sum(_values(value) for value in sample.values())
    if isinstance(sample, list | tuple):
        return sum(_values(value) for value in sample)
    return len(sample) if isinstance(sample, str | bytes) else 1


def _numbers(sample: Any) -> tuple[float, ...]:
    """The single numbers of a sample, in order."""
    if isinstance(sample, Mapping):
        return _numbers(tuple(sample.values()))
    if isinstance(sample, list | tuple):
        return tuple(number for value in sample for number in _numbers(value))
    if isinstance(sample, torch.Tensor):
        return (float(sample.item()),) if sample.numel() == 1 and not sample.is_complex() else ()
    value = np.asarray(sample) if isinstance(sample, np.ndarray | np.generic | bool | int | float) else np.empty(0)
    return (float(value.item()),) if value.size == 1 and value.dtype.kind in "biuf" else ()
