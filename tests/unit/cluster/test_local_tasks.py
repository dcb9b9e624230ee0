"""Tasks on this machine: how many run at a time, which GPUs they see, and how they end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="pip install 'trak-cli[slurm]'")

from trak_cli.cluster.local import LocalTasks
from trak_cli.cluster.tasks import Resources, TaskArray
from trak_cli.errors import MachineError


def array(folder: Path, count: int, resources: Resources) -> TaskArray:
    """Tasks whose command takes a fraction of a second."""
    return TaskArray("trak-version", ["--version"], count, folder, resources)


def finish(tasks: LocalTasks) -> tuple[list[str], int]:
    """The states in the end, and how many tasks have run at a time at most."""
    most, end = 0, time.monotonic() + 30
    while any(not state.ended for state in tasks.states()):
        most = max(most, sum(state.state == "RUNNING" for state in tasks.states()))
        assert time.monotonic() < end
        time.sleep(0.02)
    return [state.state for state in tasks.states()], most


def test_as_many_tasks_run_at_a_time_as_allowed_and_each_has_its_log(tmp_path: Path) -> None:
    tasks = LocalTasks(array(tmp_path, 3, Resources(parallel=2, setup=["echo begun"])))
    assert finish(tasks) == (["COMPLETED"] * 3, 2)
    for index in range(3):
        lines = tasks.log(index).read_text().splitlines()
        assert (lines[0], lines[-1]) == ("begun", "trak submit: exit code 0")


@pytest.mark.parametrize("line", ["false", "False", "no-such-program --here", "cd /no/such/folder", "[ 1 = 2 ]"])
def test_a_task_ends_at_the_first_line_of_setup_that_fails(tmp_path: Path, line: str) -> None:
    """``setup: [false]`` arrives as the text of a boolean of YAML."""
    tasks = LocalTasks(array(tmp_path, 1, Resources(setup=["true", line, "echo further"])))
    assert finish(tasks)[0] == ["FAILED"]
    log = tasks.log(0).read_text()
    assert f"trak submit: cluster.setup failed: {line.lower()}" in log
    assert "further" not in log
    assert log.splitlines()[-1].startswith("trak submit: exit code ")


def test_each_running_task_has_gpus_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7,9")
    setup = ['echo "GPUs $CUDA_VISIBLE_DEVICES"']
    tasks = LocalTasks(array(tmp_path, 2, Resources(gpus=2, setup=setup)))
    finish(tasks)
    assert {tasks.log(index).read_text().splitlines()[0] for index in range(2)} == {"GPUs 3,5", "GPUs 6,7"}
    alone = LocalTasks(array(tmp_path, 2, Resources(gpus=3, setup=setup)))
    assert finish(alone)[1] == 1
    assert {alone.log(index).read_text().splitlines()[0] for index in range(2)} == {"GPUs 3,5,6"}


def test_more_gpus_than_there_are_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(MachineError, match=r"cluster\.gpus=1"):
        LocalTasks(array(tmp_path, 1, Resources(gpus=2)))


def test_stopping_ends_running_tasks_and_starts_no_others(tmp_path: Path) -> None:
    tasks = LocalTasks(array(tmp_path, 2, Resources(parallel=1, setup=["echo begun", "exec sleep 60"])))
    tasks.states()
    log = tasks.log(0)
    end = time.monotonic() + 20
    while not log.exists() or "begun" not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
    tasks.stop()
    assert log.read_text().splitlines() == ["begun", "trak submit: exit code 143"]
    assert len(list(tmp_path.glob("*.out"))) == 1
