"""Kill one stage again and again: a process that has imported everything once forks a child for every kill.

Kills at the steps of writing files happen in one run. At each step its process is killed, and a fork of it, made just before,
copies what is left on the disk and continues the run. Each copy is then run again, to the end; of several copies with the
same files, one.

    python kill_driver.py PROJECT WORK STAGE [OVERRIDE...]

PROJECT is a project in which everything before STAGE was run; WORK is an empty folder for the copies. Prints one JSON
object: how many kills there were at each step and at random moments, how many of the latter came before the run's end, and
everything that was not as it should be.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trak_cli.cli.app import app
from trak_cli.config import load as config
from trak_cli.store import atomic_write as promote
from trak_cli.store.atomic_write import REMOVED, STEPS
from trak_cli.store.container import read_image
from trak_cli.store.header import read_header
from trak_cli.store.virtual import open_scores

RANDOM_KILLS = 10
#: A run takes less than a tenth of a second; on a busy machine, single ones take several times as long.
TIMED_RUNS = 4
PROCESSES = 2

Hook = Callable[[str, Path], None]


def main(project: Path, work: Path, stage: str, overrides: list[str]) -> dict[str, Any]:
    """Everything that the report holds."""
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    command = [stage, "-d", ".", *overrides]
    whole = work / "whole"
    shutil.copytree(project, whole)
    points = run_whole(whole, command)
    expected = contents(whole)
    delays = random.Random(f"{command}")
    shortest = min(duration(command, shutil.copytree(project, work / f"timed-{number}")) for number in range(TIMED_RUNS))
    moments = [delays.uniform(0, shortest) for _ in range(RANDOM_KILLS)]
    whens = [f"{point['step']} of {point['path']}" for point in points]
    whens += [f"{delay:.4f} s after the first shard was begun" for delay in moments]

    def kill_and_restart(number: int) -> tuple[int, list[str]]:
        folder, code = work / f"kill-{number}", -signal.SIGKILL
        if number >= len(points):
            shutil.copytree(project, folder)
            code = kill_after(command, moments[number - len(points)], folder)
        if first.setdefault(state(folder), number) != number:
            shutil.rmtree(folder)
            return code, []
        return code, [f"killed at {whens[number]}: {fault}" for fault in restart(folder, command, expected)]

    gc.freeze()  # a collection in a child would copy the memory of everything imported
    faults = kill_at_steps(command, shutil.copytree(project, work / "killed"), len(points))
    first: dict[str, int] = {}  # what was left -> the first kill that left it
    for number in range(len(points)):
        first.setdefault(state(work / f"kill-{number}"), number)
    results = in_processes(work, len(whens), kill_and_restart)
    faults += [fault for _, found in results for fault in found]
    return {
        "steps": Counter(point["step"] for point in points),
        "files": len({point["path"] for point in points}),
        "random": RANDOM_KILLS,
        "states": len(first),
        "interrupted": sum(code == -signal.SIGKILL for code, _ in results[len(points) :]),
        "faults": faults,
    }


def in_processes(work: Path, count: int, job: Callable[[int], tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """The results of ``job(0)`` to ``job(count - 1)``, which ``PROCESSES`` forks of this process share."""
    workers = []
    for worker in range(PROCESSES):
        child = os.fork()
        if not child:
            try:
                results = {number: job(number) for number in range(worker, count, PROCESSES)}
                (work / f"results-{worker}").write_text(json.dumps(results))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        workers.append(child)
    codes = [wait(child) for child in workers]
    if any(codes):
        raise SystemExit("a worker of the driver failed")
    merged: dict[str, tuple[int, list[str]]] = {}
    for worker in range(PROCESSES):
        merged |= json.loads((work / f"results-{worker}").read_text())
    return [merged[str(number)] for number in range(count)]


def run_whole(folder: Path, command: list[str]) -> list[dict[str, str]]:
    """The uninterrupted run, in this process; every step that it took. The children find everything imported by it."""
    compose_once()
    points: list[dict[str, str]] = []

    def trace(step: str, path: Path) -> None:
        points.append({"step": step, "path": str(path)})

    before = promote.on_step
    promote.on_step = trace
    os.chdir(folder)
    with contextlib.redirect_stdout(sys.stderr):
        app(command, standalone_mode=False)
    promote.on_step = before
    return points


def compose_once() -> None:
    """Compose the configuration in the first run only: it takes longer than all else, and kills do not concern it."""
    compose, composed = config.load, []

    def load(*arguments: Any, **options: Any) -> config.Loaded:
        if not composed:
            composed.append(compose(*arguments, **options))
        return dataclasses.replace(composed[0], base=Path.cwd())

    config.load = load


def kill_at_steps(command: list[str], folder: Path, count: int) -> list[str]:
    """Kill a run at each step, and keep what is left in ``kill-0``, ``kill-1``, ... beside ``folder``; what went wrong."""
    if sys.platform == "linux":
        become_reaper = 36
        ctypes.CDLL(None).prctl(become_reaper, 1)  # orphans become children of this process, which waits for them
    first = start(folder, command, killer(folder))
    codes = [wait(first)]
    with contextlib.suppress(ChildProcessError):
        while True:
            codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
    expected = [-signal.SIGKILL] * count + [0]
    return [] if codes == expected else [f"killed at each of {count} steps, the processes of the run left with {codes}"]


def duration(command: list[str], folder: Path) -> float:
    """Seconds from the first shard of a run that is not killed to its end. The first run of this process takes longer."""
    child = start_and_announce(command, folder)
    begun = time.monotonic()
    if code := wait(child):
        raise SystemExit(f"a run that was not killed left with {code}: {(folder / 'stderr').read_text()}")
    return time.monotonic() - begun


def kill_after(command: list[str], delay: float, folder: Path) -> int:
    """Kill a run at a moment that has nothing to do with the protocol's steps: seconds after it began its first shard."""
    child = start_and_announce(command, folder)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)  # a child that is done already is still there until it is waited for
    return wait(child)


def start_and_announce(command: list[str], folder: Path) -> int:
    """Start a run, and return its process number when it begins its first shard."""
    reading, writing = os.pipe()
    child = start(folder, command, announcer(writing))
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return child


def restart(folder: Path, command: list[str], expected: dict[str, Any]) -> list[str]:
    """Run again, to the end; what differs from the uninterrupted run. The copy is deleted when nothing does."""
    code = wait(start(folder, command))
    said = (folder / "stderr").read_text()
    faults = [] if code == 0 else [f"the restart left with {code}: {said}"]
    faults += [f"{path.name} is left" for path in folder.rglob("*.tmp")]
    found = contents(folder)
    faults += [f"{name} differs" for name in sorted(expected | found) if expected.get(name) != found.get(name)]
    if not faults:
        shutil.rmtree(folder)
    return faults


def start(folder: Path, command: list[str], hook: Hook | None = None) -> int:
    """Fork a child that calls the program in ``folder``; its process number."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.chdir(folder)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        if hook is not None:
            promote.on_step = hook
        app(command)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    """The exit code of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killer(folder: Path) -> Hook:
    """At each step, SIGKILL; a fork copies the folder, numbered from 0, and continues."""
    numbers = itertools.count()

    def hook(step: str, path: Path) -> None:
        copy = folder.with_name(f"kill-{next(numbers)}")
        reading, writing = os.pipe()
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        os.close(writing)
        os.read(reading, 1)  # returns when the killed process is gone, which had the only other end
        os.close(reading)
        shutil.copytree(folder, copy)

    return hook


def announcer(descriptor: int) -> Hook:
    """Write one byte when the first shard is begun."""
    told = []

    def hook(step: str, path: Path) -> None:
        if path.suffix == ".h5" and not told:
            told.append(os.write(descriptor, b"!"))

    return hook


def contents(folder: Path) -> dict[str, Any]:
    """File by file what the store holds: datasets and fingerprint, or the text of what is no HDF5."""
    store = folder / "runs"
    return {str(path.relative_to(store)): content(path) for path in sorted(store.rglob("*")) if path.is_file()}


def state(folder: Path) -> str:
    """A digest of everything that a restart finds: folders, files with their contents, temporary ones included."""
    paths = sorted(str(path.relative_to(folder)) for path in (folder / "runs").rglob("*"))
    return hashlib.sha256(repr((paths, contents(folder))).encode()).hexdigest()


def content(path: Path) -> Any:
    """All of a file but its provenance."""
    if path.suffix != ".h5":
        return path.read_bytes()
    if read_header(path).kind:
        whole = open_scores(path)
        return whole.shape, whole.fingerprint, [(source.path.name, digest) for source, digest in whole.sources]
    image = read_image(path)
    arrays = {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in image.arrays.items()}
    return arrays, image.fingerprint, image.dtypes


if __name__ == "__main__":
    report = main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3], sys.argv[4:])
    assert set(report["steps"]) <= {*STEPS, REMOVED}
    print(json.dumps(report))
