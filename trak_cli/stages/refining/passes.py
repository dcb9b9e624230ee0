"""Passes over samples in the batches in which `trak refine` computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trak_cli.batches import to_device
from trak_cli.stages.inputs.microbatches import Microbatch, by_size, microbatches
from trak_cli.stages.inputs.reading_ahead import ahead
from trak_cli.stages.inputs.split import Split
from trak_cli.types import Rows


@dataclass(frozen=True)
class SampleBatch:
    """Attributes:
    rows: row numbers of its samples.
    batch: these samples, and possibly padding after them, on the device.
    """

    rows: list[int]
    batch: Any


class SamplePasses:
    """Some rows of a split, divided into batches once, and read again for every pass.

    Args:
        rows: ascending; None for all rows of the split.
        size: samples in a batch, at most.
    """

    def __init__(self, split: Split, rows: Sequence[int] | None, size: int) -> None:
        self._split = split
        whole = microbatches(split, Rows(0, split.rows), size) if rows is None else by_size(split, rows, size)
        self._plan = [(batch.rows, len(batch.samples)) for batch in whole]

    def __iter__(self) -> Iterator[SampleBatch]:
        batches = map(self._read, self._plan)
        for rows, host in ahead(batches) if self._split.readers else batches:
            yield SampleBatch(rows, to_device(host, self._split.device))

    def _read(self, planned: tuple[list[int], int]) -> tuple[list[int], Any]:
        rows, size = planned
        samples = self._split.samples(rows)
        padded = Microbatch(rows, samples + samples[-1:] * (size - len(rows)))
        return rows, self._split.collated(padded.samples, rows)
