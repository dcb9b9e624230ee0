"""What a whole run will cost, from a measurement on one microbatch."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trak_cli.config.schema import TrakConfig
from trak_cli.stages.featurizing.adam_scales import SAMPLES as MOMENT_SAMPLES
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.inputs.split import Split
from trak_cli.store.dtypes import row_bytes

#: A part of the work is timed until it took this many seconds in all, at least twice and at most this many times.
_SECONDS, _TIMES = 1.0, 10

#: Copies of a shard's features that exist while it is put together and written.
_SHARD_COPIES = 3

#: Bytes of a row beside its features: output and out-to-loss gradient (float32), digest of the sample.
_ROW_BYTES = 16

#: Bytes of a row beside the features of its terms: their number (float32).
_TERMS_BYTES = 4


@dataclass(frozen=True)
class Costs:
    """Estimates for all checkpoints and splits, one worker on this machine.

    Attributes:
        rows: training samples and targets of all splits.
        samples_per_second: measured: data, gradients, projection and copies together, of training samples.
        seconds: of ``trak featurize``.
        data, gradients, projection: shares of that time, each measured by itself, in [0, 1].
        peak_memory: bytes; of the process, or of the GPU where the model is on one.
        features, finalized, scores: bytes on disk that `featurize`, `finalize` and `score` write.
        free_disk: bytes free where the store is going to be.
    """

    rows: int
    checkpoints: int
    microbatch: int
    samples_per_second: float
    seconds: float
    data: float
    gradients: float
    projection: float
    peak_memory: int
    features: int
    finalized: int
    scores: int
    free_disk: int

    @property
    def disk(self) -> int:
        """Bytes on disk in all."""
        return self.features + self.finalized + self.scores


def estimate(
    config: TrakConfig,
    featurizer: Featurizer,
    splits: list[Split],
    checkpoints: int,
    dim: int,
    moments: Callable[[Sequence[int]], object] | None,
) -> Costs:
    """Time one microbatch of the training set and multiply; sizes on disk by the formats.

    ``moments`` is the pass over some rows that comes before, where gradients are scaled by their second moments.
    """
    first, train, rows = splits[0], splits[0].rows, sum(split.rows for split in splits)
    size = featurizer.microbatch
    on_gpu = first.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(first.device)
    if first.varies:  # time is that of typical samples, memory that of the largest
        featurizer.columns(first, first.largest(size))
    timed = first.typical(size)
    batch = first.batch(timed.samples)
    whole = target = _seconds(lambda: featurizer.columns(first, first.typical(size)))
    terms = featurizer.signed is not None
    if terms:  # targets have one pass, not two
        once = replace(featurizer, signed=None)
        target = _seconds(lambda: once.columns(first, first.typical(size)))
    data = _seconds(lambda: first.batch(first.typical(size).samples))
    serial = whole
    if first.readers:  # samples are read beside the computation
        whole, target = (max(data, one - data) for one in (whole, target))
    numbers = torch.arange(size, device=first.device)
    gradients = _seconds(lambda: _consumed(featurizer, batch, numbers, on_gpu))
    passes = sum(_microbatches(split, size) * (target if i else whole) for i, split in enumerate(splits))
    before = _seconds(lambda: moments(timed.rows)) * min(train, MOMENT_SAMPLES) / len(timed.rows) if moments else 0.0
    features_bytes = row_bytes(config.features.dtype, dim)
    peak = torch.cuda.max_memory_allocated(first.device) if on_gpu else _peak_of_process()
    return Costs(
        rows=rows,
        checkpoints=checkpoints,
        microbatch=size,
        samples_per_second=len(timed.rows) / whole,
        seconds=checkpoints * (passes + before),
        data=min(1.0, data / whole),
        gradients=min(1.0, gradients / whole),
        projection=min(1.0, max(0.0, serial - data - gradients) / whole),
        peak_memory=peak + (0 if on_gpu else _SHARD_COPIES * (1 + terms) * min(train, config.features.shard_rows) * 4 * dim),
        features=checkpoints * (rows * (features_bytes + _ROW_BYTES) + terms * train * (features_bytes + _TERMS_BYTES)),
        finalized=checkpoints * 8 * dim * (dim + 1) if config.estimator.metric == "gram" else 0,
        scores=_scores(config, train, rows - train),
        free_disk=free_bytes(Path(config.store)),
    )


def _microbatches(split: Split, size: int) -> float:
    """How many of a full microbatch's time a split takes: on the grid the last one is filled up, by size it is not."""
    return split.rows / size if split.varies else -(-split.rows // size)


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk where a folder is, or is going to be made."""
    while not folder.exists():
        folder = folder.absolute().parent
    return shutil.disk_usage(folder).free


def _scores(config: TrakConfig, train: int, targets: int) -> int:
    if config.score.top_k is None:
        return 4 * train * targets
    return 2 * min(config.score.top_k, train) * targets * (4 + 8)  # helpful and harmful: score and row number


def _consumed(featurizer: Featurizer, batch: Any, rows: torch.Tensor, on_gpu: bool) -> None:
    for _ in featurizer.engine.per_sample(batch).blocks:
        pass
    if featurizer.signed is not None:
        for _ in featurizer.signed.per_sample((batch, rows)).blocks:
            pass
    if on_gpu:
        torch.cuda.synchronize()


def _seconds(work: Callable[[], object]) -> float:
    """The fastest of a few runs, the first of which only warms up."""
    work()
    taken: list[float] = []
    while not taken or (len(taken) < _TIMES and sum(taken) < _SECONDS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _peak_of_process() -> int:
    """Bytes of this process at its largest, everything that the checks did included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
