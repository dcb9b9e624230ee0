"""A split: a data set with what turns its samples into batches on a device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch

from trak_cli.batches import batch_size, count_numbers, to_device
from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted
from trak_cli.user_errors import error_summary, report_user_errors

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Samples whose sizes decide whether samples differ in size, and how many fit into memory.
SIZE_SAMPLES = 64


@dataclass(frozen=True)
class Split:
    """A named data set and the way its samples are read.

    Attributes:
        rows: number of samples.
        collate: a list of samples -> a batch.
        readers: threads that read samples ahead of the computation; 0: samples are read between computations.
    """

    name: str
    dataset: Any
    rows: int
    collate: Callable[[list[Any]], Any]
    device: torch.device
    readers: int = 0

    def take(self, rows: Iterable[int]) -> Any:
        """The samples of some rows as one batch, on the device."""
        numbers = list(rows)
        return self.batch(self.samples(numbers), numbers)

    def sample(self, row: int) -> Any:
        """One sample; an exception of the data set becomes an InputError that names the sample."""
        with report_user_errors(f"sample {row} of {self.name}", any_code=True):
            return self.dataset[row]

    def samples(self, rows: Iterable[int]) -> list[Any]:
        """The samples of some rows, read by ``readers`` threads."""
        return in_threads(self.sample, rows, self.readers)

    def stream(self, rows: Iterable[int], count: int) -> Iterator[Any]:
        """The samples of some rows, in order; with several readers, up to ``count`` of them are read ahead."""
        if self.readers < 2:
            yield from map(self.sample, rows)
            return
        coming: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(self.readers)
        try:
            for row in rows:
                coming.append(pool.submit(self.sample, row))
                if len(coming) > count:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def collated(self, samples: list[Any], rows: Iterable[int] = ()) -> Any:
        """The batch of these samples in CPU memory; an error message names ``rows``.

        Raises:
            InputError: collate raises an exception, or returns another number of samples.
        """
        numbers = ", ".join(map(str, rows))
        where = f"collating samples {numbers} of {self.name}" if numbers else f"collating {self.name}"
        with report_user_errors(where, any_code=True):
            try:
                batch = self.collate(samples)
            except RuntimeError as error:
                if "stack expects each tensor to be equal size" not in str(error):
                    raise
                raise InputError(_unequal(where, error)) from error
            except TypeError as error:
                if not str(error).startswith("default_collate: "):
                    raise
                raise InputError(_not_tensors(where, error)) from error
        _check_count(batch, len(samples), where)
        return batch

    def batch(self, samples: list[Any], rows: Iterable[int] = ()) -> Any:
        """The batch of these samples on the device; an error message names ``rows``."""
        return to_device(self.collated(samples, rows), self.device)

    def size(self, sample: Any) -> int:
        """How many numbers the tensors of a sample hold when it is collated alone."""
        return count_numbers(self.collated([sample]))

    @cached_property
    def sizes(self) -> dict[int, int]:
        """Row -> size, of every n-th sample: at most SIZE_SAMPLES of them. The run plan depends on this choice of rows."""
        return {row: self.size(self.sample(row)) for row in range(0, self.rows, -(-self.rows // SIZE_SAMPLES))}

    @property
    def varies(self) -> bool:
        """Whether samples differ in size, judged by ``sizes``."""
        return len(set(self.sizes.values())) > 1


def _unequal(where: str, error: RuntimeError) -> Problem:
    """The problem of samples of different sizes that are collated without padding."""
    remedy = "give dataset.collate a function that pads samples and masks the padding, or set gradients.microbatch=1"
    return Problem(where, error_summary(error), "samples of one size, or a collate function that pads them", remedy)


def _not_tensors(where: str, error: TypeError) -> Problem:
    """The problem of samples that PyTorch's default collate function cannot make a batch of."""
    found = error_summary(error).rpartition("found ")[2]
    remedy = "convert it in the data set (torchvision.transforms.ToTensor() for an image), or give dataset.collate a function"
    return Problem(where, found, "tensors, arrays or numbers in a sample, or a collate function that makes them", remedy)


def _check_count(batch: Any, count: int, where: str) -> None:
    """Refuse a batch of fewer or more samples than collate got. A batch without a common leading dimension is not checked."""
    try:
        size = batch_size(batch)
    except InputError:
        return
    if size != count:
        remedy = "let collate return every sample that it gets; leave bad samples out in the data set"
        raise InputError(
            Problem(where, f"a batch of {size} from {counted(count, 'sample')}", "each sample once, in its place", remedy)
        )


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """``function`` of every item, in order, computed by ``threads`` threads, or by the calling one if ``threads`` < 2."""
    if threads < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
