"""Runs readers on damaged files in processes that may die, and reports everything but a value or a user error.

A reader is also at fault if it hangs, allocates more than it may, or accepts damage to a file with a digest and returns
another value.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trak_cli.errors import TrakError

#: Seconds for a case, in Python and in a library that does not return; and bytes that a process may allocate in a case.
SECONDS, LAST_SECONDS, MEMORY = 5.0, 20.0, 3 << 30

#: Bytes by which the resident memory of a process may grow in all of its cases.
RESIDENT = 1 << 30


@dataclass(frozen=True)
class Reader:
    """A reader and how its files are damaged.

    Attributes:
        name: of the kind of file.
        make: writes an intact file or folder at the path, whose name is chosen by ``file``.
        read: reads it; the value is compared where ``sealed``.
        damage: changes the file or folder.
        sealed: a digest protects the file, so that accepted damage must not change the value.
        share: of cases, relative to other readers: less for a slow one.
    """

    name: str
    file: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    damage: Callable[[Path, random.Random], None]
    sealed: bool = False
    share: float = 1.0


@dataclass
class Outcome:
    """The result of all cases of a reader: refusals, accepted files, and faults with the number of the first case of each."""

    name: str
    refused: int = 0
    accepted: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        return self.refused + self.accepted + self.faults.total()

    def fault(self, what: str, case: int) -> None:
        self.faults[what] += 1
        self.first.setdefault(what, case)


class HangError(BaseException):
    """A case took too long."""


def fuzz(reader: Reader, work: Path, cases: Sequence[int], seed: int) -> Outcome:
    """The outcome of the cases of these numbers; a process that dies costs one case."""
    folder = work / reader.name
    intact = folder / "intact" / reader.file
    intact.parent.mkdir(parents=True)
    reader.make(intact)
    expected = pickle.dumps(reader.read(intact))
    total = Outcome(reader.name)
    begun = time.monotonic()
    left = list(cases)
    while left:
        outcome, done, death = _in_process(reader, folder, left, seed, expected)
        total.refused += outcome.refused
        total.accepted += outcome.accepted
        for what, count in outcome.faults.items():
            total.faults[what] += count
            total.first.setdefault(what, outcome.first[what])
        if death is not None:
            total.fault(death, left[done])
        left = left[outcome.cases : done] + left[done + 1 :]  # what was finished since the outcome was stored is repeated
    total.seconds = time.monotonic() - begun
    shutil.rmtree(folder)
    return total


def _in_process(
    reader: Reader, folder: Path, cases: Sequence[int], seed: int, expected: bytes
) -> tuple[Outcome, int, str | None]:
    """The outcome in one process, the number of cases that it finished, and how it died, if it did."""
    progress = mmap.mmap(-1, 8)
    child = os.fork()
    if not child:
        _work(reader, folder, cases, seed, expected, progress)
    last, since = -1, time.monotonic()
    death = None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        done = int.from_bytes(progress[:8], "little")
        if done != last:
            last, since = done, time.monotonic()
        elif time.monotonic() - since > LAST_SECONDS:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            death = "a library that does not return"
            break
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    if code and death is None:
        death = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    result = folder / "outcome"
    outcome = pickle.loads(result.read_bytes()) if result.exists() else Outcome(reader.name)
    result.unlink(missing_ok=True)
    return outcome, int.from_bytes(progress[:8], "little"), death


def _work(reader: Reader, folder: Path, cases: Sequence[int], seed: int, expected: bytes, progress: mmap.mmap) -> None:
    """All cases, in a forked process, which ends here."""
    outcome = Outcome(reader.name)
    code = 1
    try:
        signal.signal(signal.SIGALRM, _hang)
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, resource.RLIM_INFINITY))
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            for done, case in enumerate(cases):
                progress[:8] = done.to_bytes(8, "little")
                if not done % 50:
                    (folder / "outcome").write_bytes(pickle.dumps(outcome))
                _one(reader, folder, case, seed, expected, outcome)
                if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) << 10 > RESIDENT:
                    outcome.fault("more memory than a file of this size can need", case)
                    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        progress[:8] = len(cases).to_bytes(8, "little")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        (folder / "outcome").write_bytes(pickle.dumps(outcome))
        os._exit(code)


def _one(reader: Reader, folder: Path, case: int, seed: int, expected: bytes, outcome: Outcome) -> None:
    path = place(reader, folder, case, seed)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        value = pickle.dumps(reader.read(path))
        if reader.sealed and value != expected:
            outcome.fault("a wrong value without an error", case)
        else:
            outcome.accepted += 1
    except TrakError:
        outcome.refused += 1
    except HangError:
        outcome.fault("more than five seconds", case)
    except BaseException as error:
        outcome.fault(_described(error), case)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def place(reader: Reader, folder: Path, case: int, seed: int) -> Path:
    """The damaged file or folder of a case."""
    intact, path = folder / "intact" / reader.file, folder / "case" / reader.file
    shutil.rmtree(path.parent, ignore_errors=True)  # of a process that died
    path.parent.mkdir(parents=True)
    if intact.is_dir():
        shutil.copytree(intact, path)
    else:
        shutil.copyfile(intact, path)
    reader.damage(path, random.Random(f"{seed}/{reader.name}/{case}"))
    return path


def _described(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "trak_cli" in frame.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"
    return f"{type(error).__name__} in {where}: {str(error)[:100]!r}"


def _hang(*_: object) -> None:
    raise HangError


def in_order(outcomes: Iterator[Outcome]) -> list[Outcome]:
    """All outcomes; each is printed when it is there."""
    found = []
    for outcome in outcomes:
        found.append(outcome)
        print(
            f"{outcome.name:<28}{outcome.cases:>8,} cases{outcome.refused:>8,} refused{outcome.accepted:>8,} accepted"
            f"{outcome.faults.total():>6} faults{outcome.seconds:>8.1f} s",
            flush=True,
        )
        for what, count in outcome.faults.most_common(12):
            print(f"    {count} × {what} (first: case {outcome.first[what]})", flush=True, file=sys.stderr)
    return found
