"""Which engine is fastest here: a few are tried on some samples, each with a few sizes of the microbatch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trak_cli.errors import InputError, MachineError

#: Sizes of the microbatch that are tried.
SIZES = (8, 32, 128)

#: A larger microbatch is tried unless the last one was slower than this times the best so far, or gained less than this
#: share over the one before.
_HOPELESS, _GAIN = 10.0, 0.03

#: Seconds after which one run tells enough; shorter ones are run again, and the fastest counts.
_LONG = 1.0


@dataclass(frozen=True)
class Candidate:
    """Attributes:
    engine: name of a gradient engine.
    limit: the largest microbatch that its memory allows.
    work: computes and projects the gradients of that many samples.
    """

    engine: str
    limit: int
    work: Callable[[int], object]


@dataclass(frozen=True)
class Trial:
    """One measurement; ``seconds`` for each sample."""

    engine: str
    microbatch: int
    seconds: float


def measure(
    candidates: Sequence[Candidate],
    sizes: Sequence[int] = SIZES,
    clock: Callable[[], float] = time.perf_counter,
    refused: Callable[[str, int, InputError | MachineError], None] | None = None,
) -> list[Trial]:
    """Time every candidate with growing microbatches, as long as that is hopeful. The fastest trial comes first.

    One whose engine refuses a microbatch is out of the race, whatever it did with smaller ones: others like it will come.
    One that lacks memory for it keeps the smaller ones.

    Args:
        refused: is told engine, microbatch and error.

    Raises:
        InputError, MachineError: no candidate is left; the last one's.
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
                    trials = [one for one in trials if one.engine != candidate.engine]
                break
            best = min([trial.seconds, *(one.seconds for one in trials)])
            trials.append(trial)
            if trial.seconds > _HOPELESS * best or trial.seconds > (1 - _GAIN) * before:
                break
            before = trial.seconds
    if last is not None and not trials:
        raise last
    return sorted(trials, key=lambda trial: trial.seconds)


def _seconds(work: Callable[[int], object], size: int, clock: Callable[[], float]) -> float:
    """The fastest of a few runs; of one, or of two, where they take long."""
    taken: list[float] = []
    while len(taken) < 3 and (not taken or min(taken) < _LONG):
        start = clock()
        work(size)
        taken.append(clock() - start)
    return min(taken)
