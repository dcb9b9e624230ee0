"""Microbatches on their way to the device: read, collated and told apart, ahead of the computation where there is a reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from trak_cli.batches import map_leaves
from trak_cli.plugins.samples import sample_id
from trak_cli.stages.inputs.split import Microbatch, Split, in_threads

Item = TypeVar("Item")

#: Threads that compute what samples are known by, beside a reader: large samples would hold it up.
HASHERS = 4


@dataclass(frozen=True)
class ReadBatch:
    """A microbatch, ready for the device.

    Attributes:
        rows: row numbers of its samples.
        size: samples that are computed: those, and perhaps copies of the last one.
        host: the batch in the CPU's memory.
        sample_ids: (rows,) uint64, what the samples are known by.
    """

    rows: list[int]
    size: int
    host: Any
    sample_ids: np.ndarray[tuple[int], np.dtype[np.uint64]]


def read(split: Split, microbatch: Microbatch) -> ReadBatch:
    """One microbatch, collated."""
    samples = microbatch.samples
    host = split.collated(samples, microbatch.rows)
    if split.device.type == "cuda":
        host = map_leaves(_pinned, host)
    own = samples[: len(microbatch.rows)]
    ids = in_threads(sample_id, own, HASHERS if split.readers else 1)
    return ReadBatch(microbatch.rows, len(samples), host, np.array(ids, dtype=np.uint64))


def reading(split: Split, microbatches: Iterable[Microbatch]) -> Iterator[ReadBatch]:
    """The microbatches in their order; with a reader the next one is read while the caller works on this one."""
    batches = (read(split, one) for one in microbatches)
    return ahead(batches) if split.readers else batches


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items (none of them None), each made by another thread while the caller works on the one before.

    What making an item raises is raised in its place. Nothing is made once the caller has stopped.
    """
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, items, None)
        while (found := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield found


def _pinned(leaf: Any) -> Any:
    """In memory that a GPU copies from by itself."""
    return leaf.pin_memory() if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu" else leaf
