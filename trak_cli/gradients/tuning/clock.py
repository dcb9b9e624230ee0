"""Times of repeated runs that depend little on other processes of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

#: (elapsed seconds, CPU seconds of all threads of the process), each from any origin.
Reading = tuple[float, float]

Clock = Callable[[], Reading]


def cpu_clock() -> Reading:
    """The clock for work on the CPU."""
    return time.perf_counter(), time.process_time()


def gpu_clock() -> Reading:
    """The clock for work that ends with a copy from a GPU: only elapsed time counts."""
    now = time.perf_counter()
    return now, now


def clock_of(device_type: str) -> Clock:
    """The clock for work on this type of device."""
    return cpu_clock if device_type == "cpu" else gpu_clock


def timed(work: Callable[[], object], clock: Clock) -> Reading:
    """Elapsed and CPU seconds of one run."""
    elapsed, cpu = clock()
    work()
    after = clock()
    return after[0] - elapsed, after[1] - cpu


def undisturbed(runs: Sequence[Reading]) -> float:
    """Seconds that the work would take if nothing else ran on the machine.

    This is the least CPU time divided by the number of cores that the work keeps busy, at least 1. Other processes lengthen
    the elapsed time of a run but hardly its CPU time, and make it keep fewer cores busy, so the largest ratio counts.
    """
    cores = max(cpu / elapsed if elapsed > 0 else 1.0 for elapsed, cpu in runs)
    return min(cpu for _, cpu in runs) / max(1.0, cores)
