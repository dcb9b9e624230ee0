"""Measures which engine and microbatch size are fastest on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trak_cli.errors import InputError, MachineError

#: The microbatch sizes to try.
SIZES = (8, 32, 128)

#: No larger microbatch is tried after one that takes more than ``_TOO_SLOW`` times the best time so far, or that is faster than
#: the previous size by less than the share ``_GAIN``.
_TOO_SLOW, _GAIN = 10.0, 0.03

#: Runs shorter than this many seconds are repeated, and the fastest counts.
_LONG = 1.0


@dataclass(frozen=True)
class Candidate:
    """Attributes:
    engine: name of a gradient engine.
    limit: the largest microbatch that fits into memory.
    work: computes and projects the gradients of a given number of samples.
    """

    engine: str
    limit: int
    work: Callable[[int], object]


@dataclass(frozen=True)
class Trial:
    """One measurement, in seconds per sample."""

    engine: str
    microbatch: int
    seconds: float


def measure(
    candidates: Sequence[Candidate],
    sizes: Sequence[int] = SIZES,
    clock: Callable[[], float] = time.perf_counter,
    refused: Callable[[str, int, InputError | MachineError], None] | None = None,
) -> list[Trial]:
    """Time every candidate with growing microbatches, while that may help. The fastest trial comes first.

    An engine that refuses a microbatch is disqualified, including its results for smaller ones, because similar microbatches
    will follow. An engine that runs out of memory keeps its results for smaller microbatches.

    Args:
        refused: called with engine, microbatch and error.

    Raises:
        InputError, MachineError: no candidate is left; the last error.
    """
    trials: list[Trial] = []
    last: InputError | MachineError | None = None
    for candidate in candidates:
        before = float("inf")
        for size in [size for size in sizes if size <= candidate.limit] or [candidate.limit]:
            try:
                trial = Trial(candidate.engine, size, _seconds(candidate.work, size, clock) / size)
            except (InputError, MachineError) as error:
                last = error
                if refused is not None:
                    refused(candidate.engine, size, error)
                if isinstance(error, InputError):
                    trials = [other for other in trials if other.engine != candidate.engine]
                break
            best = min([trial.seconds, *(other.seconds for other in trials)])
            trials.append(trial)
            if trial.seconds > _TOO_SLOW * best or trial.seconds > (1 - _GAIN) * before:
                break
            before = trial.seconds
    if last is not None and not trials:
        raise last
    return sorted(trials, key=lambda trial: trial.seconds)


def _seconds(work: Callable[[int], object], size: int, clock: Callable[[], float]) -> float:
    """The fastest of three runs; fewer if they take long."""
    taken: list[float] = []
    while len(taken) < 3 and (not taken or min(taken) < _LONG):
        start = clock()
        work(size)
        taken.append(clock() - start)
    return min(taken)
