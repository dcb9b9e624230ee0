"""The cost of a whole run, extrapolated from one microbatch."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trak_cli.config.schema import TrakConfig
from trak_cli.gradients.tuning.clock import Clock, Reading, clock_of, timed, undisturbed
from trak_cli.stages.featurizing.adam_scales import SAMPLES as MOMENT_SAMPLES
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.index.run_plan import RunPlan
from trak_cli.stages.inputs.microbatches import largest, typical
from trak_cli.stages.inputs.run_inputs import RunInputs
from trak_cli.stages.inputs.split import Split
from trak_cli.store.dtypes import row_bytes

#: Each part of the work is repeated until this many seconds have passed, but a number of times within these bounds.
_SECONDS, _LEAST_TIMES, _TIMES = 1.0, 2, 10

#: Copies of a shard's features in memory while it is assembled and written.
_SHARD_COPIES = 3

#: Bytes of a row besides its features: output and out-to-loss gradient (float32), digest of the sample.
_ROW_BYTES = 16

#: Bytes of a row besides the features of its second pass: a number (float32).
_SECOND_BYTES = 4


@dataclass(frozen=True)
class Costs:
    """Estimates for all checkpoints and splits, with one worker on this machine.

    Attributes:
        rows: training samples and targets of all splits.
        samples_per_second: measured on training samples: reading, gradients, projection and copies.
        seconds: of ``trak featurize``, if nothing else runs on the machine.
        slow_seconds: the same, if the machine stays as busy as in the slowest run of the measurement.
        data, gradients, projection: fractions of that time, each measured separately.
        peak_memory: bytes of the process, or of the GPU if the model is on one.
        features, finalized, scores: bytes that `featurize`, `finalize` and `score` write.
        free_disk: free bytes on the disk of the store.
    """

    rows: int
    checkpoints: int
    microbatch: int
    samples_per_second: float
    seconds: float
    slow_seconds: float
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
        """Bytes on disk in total."""
        return self.features + self.finalized + self.scores


def estimate(
    config: TrakConfig,
    inputs: RunInputs,
    featurizer: Featurizer,
    plan: RunPlan,
    moments: Callable[[Sequence[int]], object] | None,
) -> Costs:
    """Time one microbatch of the training set and extrapolate; sizes on disk follow from the formats.

    Args:
        moments: computes Adam's second moments from some rows; None if gradients are not scaled.
    """
    dim = featurizer.projector.dim
    train, size = inputs.train, featurizer.microbatch
    rows, checkpoints = sum(split.rows for split in inputs.splits), len(inputs.checkpoints)
    on_gpu = inputs.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(inputs.device)
    if train.varies:  # typical samples decide the time, the largest decide the memory
        featurizer.columns(train, largest(train, size))
    times = _measure(featurizer, train, moments)

    def whole(of: Callable[[_Time], float]) -> float:
        """Seconds of the run, with the microbatches of each split at the least or the most of their times."""
        seconds = of(times.moments) * min(train.rows, MOMENT_SAMPLES) + _microbatch_count(train, size) * of(times.train)
        return checkpoints * (seconds + sum(_microbatch_count(split, size) * of(times.target) for split in inputs.splits[1:]))

    second = featurizer.second is not None
    stored = row_bytes(config.features.dtype, dim)
    peak = torch.cuda.max_memory_allocated(inputs.device) if on_gpu else _peak_of_process()
    shard_bytes = (1 + second) * min(train.rows, plan.shard_rows) * 4 * dim
    return Costs(
        rows=rows,
        checkpoints=checkpoints,
        microbatch=size,
        samples_per_second=times.samples / times.train.least,
        seconds=whole(lambda time: time.least),
        slow_seconds=whole(lambda time: time.most),
        data=min(1.0, times.data / times.train.least),
        gradients=min(1.0, times.gradients / times.train.least),
        projection=min(1.0, max(0.0, times.serial - times.data - times.gradients) / times.train.least),
        peak_memory=peak + (0 if on_gpu else _SHARD_COPIES * shard_bytes),
        features=checkpoints * (rows * (stored + _ROW_BYTES) + second * train.rows * (stored + _SECOND_BYTES)),
        finalized=checkpoints * 8 * dim * (dim + 1) if config.estimator.metric == "gram" else 0,
        scores=_scores(config, train.rows, rows - train.rows),
        free_disk=free_bytes(Path(config.store)),
    )


@dataclass(frozen=True)
class _Time:
    """Seconds of a piece of work: on an otherwise idle machine, and in the slowest of several runs."""

    least: float
    most: float

    def beside(self, reading: _Time) -> _Time:
        """This work, of which ``reading`` is done meanwhile by another thread."""
        pairs = ((self.least, reading.least), (self.most, reading.most))
        return _Time(*(max(other, total - other) for total, other in pairs))


@dataclass(frozen=True)
class _Times:
    """Times of a microbatch, except for ``moments``: of a sample.

    Attributes:
        samples: samples of the microbatch.
        train, target: all work on a microbatch of the training set and of a target split.
        serial: all work on a microbatch of the training set if samples are not read ahead, in seconds.
        data, gradients: reading and collating, and computing gradients, in seconds.
        moments: Adam's second moments.
    """

    samples: int
    train: _Time
    target: _Time
    serial: float
    data: float
    gradients: float
    moments: _Time


def _measure(featurizer: Featurizer, train: Split, moments: Callable[[Sequence[int]], object] | None) -> _Times:
    size, timed = featurizer.microbatch, partial(_timed, clock_of(train.device.type))
    microbatch = typical(train, size)
    batch = train.batch(microbatch.samples)
    rows = torch.arange(size, device=train.device)
    serial = whole = target = timed(lambda: featurizer.columns(train, typical(train, size)))
    if featurizer.second is not None:  # targets have no second pass
        single_pass = replace(featurizer, second=None)
        target = timed(lambda: single_pass.columns(train, typical(train, size)))
    data = timed(lambda: train.batch(typical(train, size).samples))
    if train.readers:  # samples are read during the computation
        whole, target = whole.beside(data), target.beside(data)
    of_moments = timed(lambda: moments(microbatch.rows)) if moments else _Time(0.0, 0.0)
    return _Times(
        samples=len(microbatch.rows),
        train=whole,
        target=target,
        serial=serial.least,
        data=data.least,
        gradients=timed(lambda: _compute_gradients(featurizer, batch, rows)).least,
        moments=_Time(of_moments.least / len(microbatch.rows), of_moments.most / len(microbatch.rows)),
    )


def _microbatch_count(split: Split, size: int) -> float:
    """How many times the work of a full microbatch a split takes; on the grid, the last one is padded to full size."""
    return split.rows / size if split.varies else -(-split.rows // size)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.absolute().parent
    return shutil.disk_usage(folder).free


def _scores(config: TrakConfig, train: int, targets: int) -> int:
    if config.score.top_k is None:
        return 4 * train * targets
    return 2 * min(config.score.top_k, train) * targets * (4 + 8)  # helpful and harmful: score and row number


def _compute_gradients(featurizer: Featurizer, batch: Any, rows: torch.Tensor) -> None:
    for _ in featurizer.engine.per_sample(batch).blocks:
        pass
    if featurizer.second is not None:
        for _ in featurizer.second.engine.per_sample((batch, rows)).blocks:
            pass
    if rows.device.type == "cuda":
        torch.cuda.synchronize()


def _timed(clock: Clock, work: Callable[[], object]) -> _Time:
    """The time of a few runs, after one run to warm up."""
    work()
    runs: list[Reading] = []
    while len(runs) < _LEAST_TIMES or (len(runs) < _TIMES and sum(elapsed for elapsed, _ in runs) < _SECONDS):
        runs.append(timed(work, clock))
    least = undisturbed(runs)
    return _Time(least, max(least, *(elapsed for elapsed, _ in runs)))


def _peak_of_process() -> int:
    """Largest memory of this process so far in bytes, checks included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
