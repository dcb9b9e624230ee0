"""Measures gradient engines and microbatch sizes on this machine, and chooses one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

from trak_cli.errors import InputError, MachineError
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.tuning.clock import Clock, Reading, cpu_clock, timed, undisturbed

#: The microbatch sizes to try.
SIZES = (8, 32, 128)

#: No larger microbatch is tried after one that takes more than ``_TOO_SLOW`` times the best time so far, or that is faster than
#: the previous size by less than the share ``_GAIN``.
_TOO_SLOW, _GAIN = 10.0, 0.03

#: Rounds in which every candidate runs once, so that a disturbance affects all of them; a candidate drops out after a run of
#: more than ``_LONG`` seconds, or after two runs of more than ``_TOO_SLOW`` times the fastest.
_ROUNDS, _LONG = 3, 1.0

#: Trials that take at most this many times the fastest one count as equally fast.
EQUAL = 1.25


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


def samples_of_race(engines: int, size: int) -> int:
    """The number of samples for which ``engines`` engines compute gradients when they are timed with this microbatch."""
    return _ROUNDS * engines * size


def choose(trials: Sequence[Trial]) -> Trial:
    """The trial whose engine and microbatch a run uses.

    Among those within ``EQUAL`` times the fastest the choice does not depend on the clock: the engine that comes first in
    ``ENGINES``, with its smallest microbatch.
    """
    fastest = min(trial.seconds for trial in trials)
    equal = [trial for trial in trials if trial.seconds <= EQUAL * fastest]
    return min(equal, key=lambda trial: (ENGINES.index(trial.engine), trial.microbatch))


def measure(
    candidates: Sequence[Candidate],
    sizes: Sequence[int] = SIZES,
    clock: Clock = cpu_clock,
    refused: Callable[[str, int, InputError | MachineError], None] | None = None,
    samples: float = inf,
) -> list[Trial]:
    """Time every candidate with growing microbatches, while that may help. The fastest trial comes first.

    An engine that refuses a microbatch is disqualified, including its results for smaller ones, because similar microbatches
    will follow. An engine that runs out of memory keeps its results for smaller microbatches.

    Args:
        refused: called with engine, microbatch and error.
        samples: of the run; timing should not take longer. Of the run's time with the fastest trial so far, each candidate may
            use an equal share for its next microbatch.

    Raises:
        InputError, MachineError: no candidate is left; the last error.
    """
    trials: list[Trial] = []
    errors: list[InputError | MachineError] = []
    pending = [
        (candidate, [size for size in sizes if size <= candidate.limit] or [candidate.limit]) for candidate in candidates
    ]
    while pending:
        results = _interleaved([(candidate, remaining[0]) for candidate, remaining in pending], clock)
        growing: list[tuple[Candidate, list[int], float]] = []
        for (candidate, (size, *larger)), result in zip(pending, results, strict=True):
            if isinstance(result, Exception):
                errors.append(result)
                if refused is not None:
                    refused(candidate.engine, size, result)
                if isinstance(result, InputError):
                    trials = [trial for trial in trials if trial.engine != candidate.engine]
                continue
            before = min((trial.seconds for trial in trials if trial.engine == candidate.engine), default=inf)
            trials.append(Trial(candidate.engine, size, undisturbed(result) / size))
            if larger and trials[-1].seconds <= (1 - _GAIN) * before:
                growing.append((candidate, larger, trials[-1].seconds))
        fastest = min((trial.seconds for trial in trials), default=inf)
        pending = [
            (candidate, larger)
            for candidate, larger, seconds in growing
            if seconds <= _TOO_SLOW * fastest and seconds * samples_of_race(len(candidates), larger[0]) <= fastest * samples
        ]
    if errors and not trials:
        raise errors[-1]
    return sorted(trials, key=lambda trial: trial.seconds)


def _interleaved(heat: Sequence[tuple[Candidate, int]], clock: Clock) -> list[list[Reading] | InputError | MachineError]:
    """The readings of each candidate with its microbatch, in rounds; or the error that ended them."""
    results: list[list[Reading] | InputError | MachineError] = [[] for _ in heat]
    best = inf
    for _ in range(_ROUNDS):
        for place, (candidate, size) in enumerate(heat):
            readings = results[place]
            if isinstance(readings, Exception) or _is_over(readings, size, best):
                continue
            try:
                readings.append(timed(partial(candidate.work, size), clock))
            except (InputError, MachineError) as error:
                results[place] = error
                continue
            best = min(best, undisturbed(readings) / size)
    return results


def _is_over(readings: Sequence[Reading], size: int, best: float) -> bool:
    """Whether another run is not worth its time. A short first run is repeated, because it may have loaded code."""
    if not readings or readings[-1][0] > _LONG:
        return bool(readings)
    return len(readings) > 1 and undisturbed(readings) / size > _TOO_SLOW * best
