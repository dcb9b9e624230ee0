"""All stages on a shared file system at its worst: late visibility, short reads and writes, and calls that fail.

    python scripts/shared_file_system.py                  200 cases, some minutes
    python scripts/shared_file_system.py --cases 10 --seed 7

tests/faults/shared_fs.c, compiled with gcc and preloaded, changes the file system for the processes of a tiny project. In half
of the cases, calls of one kind fail with an error of the disk, the quota or the server, before or after they were done. In the
others, two workers share a stage, and each sees what the other writes only after some time, or with too few bytes. Each worker
must end right or with a plain refusal (exit code 3 or 5). An undisturbed run afterwards must end with the store of a run that
was never disturbed, without temporary files. Exits with 1 if a case fails.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stage_forks import Pipeline

TESTS = Path(__file__).resolve().parents[1] / "tests"
SOURCE = TESTS / "faults" / "shared_fs.c"
CALLS = ("write", "fsync", "rename", "link", "unlink", "open", "read", "mkdir")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EINTR, errno.EROFS, errno.EACCES)
REFUSED = (3, 5)


def compiled(folder: Path) -> Path:
    """The preloaded library."""
    library = folder / "shared_fs.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def disturb(folder: Path, delay: int, call: str, error: int, every: int, after: bool) -> None:
    """Change the file system below ``folder`` for this process; see the C source for what the arguments do."""
    ctypes.CDLL(None).shared_fs_configure(str(folder).encode(), delay, 1, call.encode(), error, every, int(after))


def failing_case(pipeline: Pipeline, folder: Path, stage: str, rng: random.Random) -> tuple[str, list[int], list[str]]:
    """One worker, some of whose calls fail."""
    call, error, every, after = rng.choice(CALLS), rng.choice(ERRORS), rng.randint(1, 12), rng.random() < 0.3
    what = f"{stage}: every {every}th {call} {'is done, but ' if after else ''}fails with {errno.errorcode[error]}"
    codes, faults = _run(pipeline, folder, stage, [None], (0, call, error, every, after))
    return what, codes, faults


def late_case(pipeline: Pipeline, folder: Path, stage: str, rng: random.Random) -> tuple[str, list[int], list[str]]:
    """Two workers that see late what the other one writes."""
    delay = rng.choice((20, 100, 300, 1000, 10_000))
    codes, faults = _run(pipeline, folder, stage, [0, 1], (delay, "", 0, 0, False))
    return f"{stage}: files of others are visible after {delay} ms", codes, faults


def _run(
    pipeline: Pipeline, folder: Path, stage: str, workers: list[int | None], how: tuple[int, str, int, int, bool]
) -> tuple[list[int], list[str]]:
    """The exit codes of the workers, and what went wrong, also in the undisturbed run afterwards."""
    from kill_driver import wait

    children = []
    for number, worker in enumerate(workers):
        child = os.fork()
        if not child:
            disturb(folder / "runs", *how)
            saying = folder.with_name(f"{folder.name}-said-{number}")
            saying.mkdir()
            os._exit(_call(pipeline, folder, stage, worker, saying))
        children.append(child)
    codes = [wait(child) for child in children]
    faults = []
    for number, code in enumerate(codes):
        said = (folder.with_name(f"{folder.name}-said-{number}") / "stderr").read_text()
        if code not in (0, *REFUSED) or "Traceback" in said:
            faults.append(f"a worker left with {code}: {said[-1500:]}")
    return codes, faults + pipeline.finish(folder, stage)


def _call(pipeline: Pipeline, folder: Path, stage: str, worker: int | None, saying: Path) -> int:
    """Call the program in this process; its output goes to another folder, whose file system is not changed."""
    from trak_cli.cli.app import app

    os.chdir(folder)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(saying / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    try:
        app(pipeline.command(stage, worker))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    return 99


def run(work: Path, cases: int, seed: int) -> list[str]:
    """Run the cases; everything that went wrong."""
    sys.path.insert(0, str(TESTS / "integration"))
    from stage_forks import STAGES, undisturbed
    from tiny_project import write_project

    write_project(work / "project")
    pipeline = undisturbed(work / "project", work, 2)
    failures: list[str] = []
    ends: Counter[str] = Counter()
    for number in range(cases):
        rng = random.Random(f"{seed}/{number}")
        stage = rng.choice(sorted(STAGES))
        folder = work / f"case-{number}"
        shutil.copytree(pipeline.before[stage], folder)
        case = (failing_case, late_case)[number % 2]
        what, codes, faults = case(pipeline, folder, stage, rng)
        kind = case.__name__.removesuffix("_case")
        ends[f"{kind} {'ended' if not any(codes) else 'refused'}"] += 1
        failures += [f"case {number}, {what}: {fault}" for fault in faults]
        for path in work.glob(f"{folder.name}*"):
            shutil.rmtree(path)
    for failure in failures:
        print(failure)
    print(f"{cases} cases ({', '.join(f'{count} {end}' for end, count in sorted(ends.items()))}): {len(failures)} faults")
    return failures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name).resolve()
        if "shared_fs" not in os.environ.get("LD_PRELOAD", ""):
            library = compiled(work)
            again = [sys.executable, __file__, "--cases", str(options.cases), "--seed", str(options.seed)]
            return subprocess.run(again, env={**os.environ, "LD_PRELOAD": str(library)}, check=False).returncode
        begun = time.monotonic()
        failures = run(work, options.cases, options.seed)
        print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
