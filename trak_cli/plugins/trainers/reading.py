"""Reading training samples, from memory where that is possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from trak_cli.errors import InputError
from trak_cli.plugins.samples import Indexed, sample_id
from trak_cli.types import evenly_spaced

#: Samples that are read twice, to find out whether a data set augments its samples at random.
_READ_TWICE = 8


def reader(dataset: Indexed, indices: Sequence[int], cache_mb: int) -> Callable[[int], Any]:
    """Position in ``indices`` -> sample, from memory if all samples fit into ``cache_mb`` MiB and none is random."""
    if _bytes(dataset[indices[0]]) * len(indices) <= cache_mb * 2**20 and _repeatable(dataset, indices):
        return [dataset[index] for index in indices].__getitem__
    return lambda position: dataset[indices[position]]


def _repeatable(dataset: Indexed, indices: Sequence[int]) -> bool:
    """Whether some samples are the same when they are read again; False if their values cannot be compared."""
    chosen = [indices[position] for position in evenly_spaced(len(indices), _READ_TWICE)]
    try:
        return [sample_id(dataset[index]) for index in chosen] == [sample_id(dataset[index]) for index in chosen]
    except InputError:
        return False


def _bytes(sample: Any) -> int:
    """The approximate size of a sample in bytes."""
    if isinstance(sample, Tensor):
        return sample.nbytes
    if isinstance(sample, dict):
        return sum(map(_bytes, sample.values()))
    if isinstance(sample, list | tuple):
        return sum(map(_bytes, sample))
    return int(getattr(sample, "nbytes", 64))
