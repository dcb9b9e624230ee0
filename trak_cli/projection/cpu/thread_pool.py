"""Threads for the CPU kernels that call PyTorch. Each runs on one core, so that results do not depend on their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


class ThreadPool:
    """A fixed number of threads, in each of which PyTorch uses a single thread."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "projection", initializer=torch.set_num_threads, initargs=(1,))
        # PyTorch has a thread count per thread, and a global one that later threads inherit. All threads are therefore started
        # now, so that the global count can be restored at once.
        before = torch.get_num_threads()
        self.run([Barrier(threads).wait] * threads)
        torch.set_num_threads(before)

    def run(self, tasks: Sequence[Callable[[], object]]) -> None:
        """Run all tasks and wait for them; the first exception is raised here after all have ended."""
        futures = [self._pool.submit(task) for task in tasks]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error
