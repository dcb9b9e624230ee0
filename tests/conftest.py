"""Settings of the whole suite: threads of parallel workers, and tests that need rare hardware or data."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is one worker per core. Torch and the programs that tests start read this when they are imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


_interrupted = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    raise KeyboardInterrupt


def pytest_configure() -> None:
    """Ctrl-C ends a worker at once; see :func:`pytest_runtest_teardown` for a run in one process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL if "PYTEST_XDIST_WORKER" in os.environ else _interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests come first, so that no worker runs one alone while the others have none left."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_runtest_teardown() -> None:
    """End the run after Ctrl-C, even if the code under test caught the KeyboardInterrupt, as the program itself does."""
    if _interrupted:
        pytest.exit("interrupted", returncode=2)


@pytest.fixture(scope="module", autouse=True)
def _only_new_objects_are_searched_for_garbage() -> None:
    """Everything imported is left out of garbage collections, each of which would take a fifth of a second."""
    gc.freeze()


def require(what: str, missing: str | None) -> None:
    """Skip the running test if ``missing`` gives a reason why ``what`` is not available.

    The test fails instead if the environment variable TRAK_REQUIRE names ``what`` (names are separated by commas).
    """
    if missing is None:
        return
    if what in os.environ.get("TRAK_REQUIRE", "").split(","):
        pytest.fail(f"TRAK_REQUIRE names {what}, but {missing}", pytrace=False)
    pytest.skip(f"needs {what}: {missing}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test where what its mark names is missing: a CUDA device, a Chromium, a Slurm, packages (peers), programs."""
    for mark in item.iter_markers("peers"):
        for module in mark.args:
            require("peers", _cannot_import(module))
    for mark in item.iter_markers("program"):
        for program in mark.args:
            require(program, None if shutil.which(program) else f"there is no {program} in PATH")
    if item.get_closest_marker("gpu") is not None:
        from trak_cli.projection.gpu import cuda

        require("gpu", cuda.missing())
    if item.get_closest_marker("browser") is not None:
        from system_browser import missing

        require("browser", missing())
    if item.get_closest_marker("slurm") is not None:
        from lab import missing as missing_slurm

        require("slurm", missing_slurm())


def _cannot_import(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        return f"{module} cannot be imported ({error}); pip install 'trak-cli[peers]'"
    return None


@pytest.fixture(scope="session", autouse=True)
def _damage_is_no_delay() -> Iterator[None]:
    """Readers do not wait for damaged files to become whole, as on a shared file system: the tests of that say so."""
    from trak_cli.store.safety import visibility

    before, visibility.PAUSES = visibility.PAUSES, ()
    yield
    visibility.PAUSES = before
