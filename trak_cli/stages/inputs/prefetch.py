"""Reads microbatches ahead of the computation, if the split has readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trak_cli.batches import map_leaves
from trak_cli.plugins.samples import sample_id
from trak_cli.stages.inputs.microbatches import Microbatch
from trak_cli.stages.inputs.reading_ahead import ahead
from trak_cli.stages.inputs.split import Split, in_threads

#: Threads that compute digests of samples next to a reader, which large samples would slow down.
DIGEST_THREADS = 4


@dataclass(frozen=True)
class ReadBatch:
    """A collated microbatch in CPU memory.

    Attributes:
        rows: row numbers of its samples.
        size: number of samples in the batch: those of ``rows``, and possibly padding.
        host: the batch.
        sample_ids: (rows,) uint64, the digests of the samples.
    """

    rows: list[int]
    size: int
    host: Any
    sample_ids: np.ndarray[tuple[int], np.dtype[np.uint64]]


def read_batch(split: Split, microbatch: Microbatch) -> ReadBatch:
    """Collate one microbatch and compute the digests of its samples."""
    samples = microbatch.samples
    host = split.collated(samples, microbatch.rows)
    if split.device.type == "cuda":
        host = map_leaves(_pinned, host)
    ids = in_threads(sample_id, samples[: len(microbatch.rows)], DIGEST_THREADS if split.readers else 1)
    return ReadBatch(microbatch.rows, len(samples), host, np.array(ids, dtype=np.uint64))


def read_batches(split: Split, microbatches: Iterable[Microbatch]) -> Iterator[ReadBatch]:
    """The microbatches in order, collated. With readers, the next one is read while the caller works on the current one."""
    batches = (read_batch(split, microbatch) for microbatch in microbatches)
    return ahead(batches) if split.readers else batches


def _pinned(leaf: Any) -> Any:
    """The tensor in page-locked memory, from which a GPU copies asynchronously."""
    return leaf.pin_memory() if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu" else leaf
