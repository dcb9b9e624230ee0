"""SIGTERM and SIGUSR2: exit code 75, at once or after the unit of work at hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from trak_cli import stop_signals
from trak_cli.stop_signals import SIGNALS, StopRequested, raised_stop_signals, unit_of_work

#: A signal arrives when the named module is about to be imported.
SCRIPT = """
import signal, sys
class Scheduler:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.{number})
sys.meta_path.insert(0, Scheduler())
sys.argv = ["trak", "finalize", "store=none"]
from trak_cli.__main__ import main
main()
"""


@pytest.fixture(autouse=True)
def _default_handlers() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "module"), [("SIGUSR2", "typer"), ("SIGTERM", "trak_cli.config")])
def test_a_signal_before_the_stage_begins_exits_with_75(number: str, module: str) -> None:
    script = SCRIPT.format(module=module, number=number)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    assert done.stderr == f"trak: stopped by {number}\n"


def stopped_by(work: Callable[[], None]) -> str:
    """The signal that stops this work."""

    def stage() -> None:
        with raised_stop_signals():
            work()

    with pytest.raises(StopRequested) as found:
        stage()
    return found.value.signal


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_between_units_stops_at_once(number: signal.Signals) -> None:
    done = []

    def work() -> None:
        signal.raise_signal(number)
        done.append("went on")

    assert stopped_by(work) == number.name
    assert done == []


def test_a_unit_that_is_nearly_done_is_finished() -> None:
    done = []

    def work() -> None:
        with unit_of_work():
            done.append("first")
        with unit_of_work():
            signal.raise_signal(signal.SIGUSR2)
            done.append("second")
        done.append("third")

    assert stopped_by(work) == "SIGUSR2"
    assert done == ["first", "second"]


def test_a_unit_that_is_far_from_done_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_signals, "PATIENCE", -1.0)
    done = []

    def work() -> None:
        with unit_of_work():
            time.sleep(0.01)
        with unit_of_work():
            signal.raise_signal(signal.SIGTERM)
            done.append("second")

    assert stopped_by(work) == "SIGTERM"
    assert done == []


def test_the_first_unit_is_given_up_because_nothing_tells_how_long_it_takes() -> None:
    done = []

    def work() -> None:
        with unit_of_work():
            signal.raise_signal(signal.SIGTERM)
            done.append("first")

    assert stopped_by(work) == "SIGTERM"
    assert done == []


def test_a_second_signal_does_not_disturb_the_clean_up_after_the_first() -> None:
    cleaned = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGUSR2)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    assert stopped_by(work) == "SIGUSR2"
    assert cleaned


def test_a_stop_that_a_callback_swallowed_is_raised_after_the_unit() -> None:
    done = []

    def work() -> None:
        with unit_of_work(), suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        done.append("went on")

    assert stopped_by(work) == "SIGTERM"
    assert done == []


def test_signals_that_are_ignored_or_handled_by_others_stay_so() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    received: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _: received.append(number))
    with raised_stop_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR2)
    assert received == [signal.SIGUSR2]


def test_handlers_are_put_back() -> None:
    with raised_stop_signals():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL, signal.SIG_DFL]


def test_other_threads_are_left_alone() -> None:
    found = []

    def work() -> None:
        with raised_stop_signals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGUSR2, 0)])
def test_a_forked_child_ends_at_sigterm_and_leaves_sigusr2_to_its_parent(number: signal.Signals, code: int) -> None:
    with raised_stop_signals():
        child = os.fork()
        if not child:
            try:
                signal.raise_signal(number)
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
