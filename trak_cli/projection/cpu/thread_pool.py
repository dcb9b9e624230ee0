"""Threads for the CPU kernels that call PyTorch: each runs its share of the work on one core, so that no result depends
on their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


class Crew:
    """A fixed number of threads inside which PyTorch itself uses a single thread."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="projection")
        # PyTorch keeps its thread count per thread, and besides a global one that threads born later inherit. All of
        # the crew is therefore started now, so that the global count can be put back at once.
        before = torch.get_num_threads()
        everyone = Barrier(threads)
        self.run([lambda: _use_one_core(everyone)] * threads)
        torch.set_num_threads(before)

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run all tasks and wait for them; the first exception is raised again here, after all have ended."""
        futures = [self._pool.submit(task) for task in tasks]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error


def _use_one_core(everyone: Barrier) -> None:
    torch.set_num_threads(1)
    everyone.wait()
