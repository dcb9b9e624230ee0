"""The batch scripts of job arrays, and what is made of Slurm's answers; programs that answer like Slurm stand in for it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from trak_cli.cluster import slurm
from trak_cli.cluster.slurm import SlurmTasks, batch_script, submit, task_states
from trak_cli.cluster.tasks import Resources, TaskArray, ending
from trak_cli.errors import MachineError

pytest.importorskip("submitit", reason="pip install 'trak-cli[slurm]'")

ARGUMENTS = ["score", "-d", "my folder", "lds.estimators=[a, b]"]
ARRAY = TaskArray("trak-score-mine", ARGUMENTS, 8, Path("/store/logs/score"), Resources())

NO_JOB = "slurm_load_jobs error: Invalid job id specified"
NO_ANSWER = "Unable to contact slurm controller"


def options(script: str) -> dict[str, str]:
    """The options of a batch script."""
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """Put a program of this name first in PATH."""
    program = folder / name
    program.write_text(f"#!/bin/bash\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_nothing_is_asked_for_that_was_not_configured() -> None:
    found = options(batch_script(ARRAY))
    assert set(found) == {"array", "job-name", "nodes", "open-mode", "output", "requeue", "signal"}
    assert found["array"] == "0-7%8"
    assert found["output"] == "/store/logs/score/%A_%a_0_log.out"


def test_every_resource_becomes_an_option() -> None:
    resources = Resources(
        parallel=3, partition="gpu", account="lab", qos="high", gpus=2, cpus=6, memory_gb=1.5, minutes=90, notice=30,
        sbatch={"constraint": "a100", "exclusive": True, "mail-type": None, "nice": 5, "contiguous": False},
    )  # fmt: skip
    found = options(batch_script(replace(ARRAY, resources=resources), ["12", "13"]))
    assert found["array"] == "0-7%3"
    expected = {"partition": "gpu", "account": "lab", "qos": "high", "gpus-per-node": "2", "cpus-per-task": "6", "mem": "1536M"}
    expected |= {"time": "90", "signal": "USR2@30", "constraint": "a100", "exclusive": "", "nice": "5"}
    expected |= {"dependency": "afterok:12:13", "kill-on-invalid-dep": "yes"}
    assert {name: found.get(name) for name in expected} == expected
    assert "mail-type" not in found
    assert "contiguous" not in found


@pytest.mark.parametrize(
    ("code", "restarts", "queued", "ends"),
    [
        (0, 0, False, 0),
        (3, 0, False, 3),
        (137, 0, False, 137),
        (75, 0, True, 0),
        (140, 2, True, 0),
        (143, 0, True, 0),
        (75, 3, False, 75),
    ],
)
def test_a_task_that_was_told_to_stop_is_queued_again_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, restarts: int, queued: bool, ends: int
) -> None:
    """The script itself is run, with stand-ins for srun and scontrol."""
    stand_in(tmp_path, monkeypatch, "srun", f'echo "$@" > {tmp_path}/command; exit {code}')
    stand_in(tmp_path, monkeypatch, "scontrol", f'echo "$@" > {tmp_path}/queued')
    script = batch_script(replace(ARRAY, resources=Resources(requeues=3, setup=["export LAB_NAME=mine"])))
    variables = {**os.environ, "SLURM_ARRAY_TASK_ID": "5", "SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": str(restarts)}
    done = subprocess.run(["bash"], input=script, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == ends
    assert done.stdout.splitlines()[-1] == f"trak submit: exit code {code}"
    command = (tmp_path / "command").read_text()
    assert command.endswith("trak_cli score -d my folder lds.estimators=[a, b] worker.index=5 worker.count=8\n")
    assert (tmp_path / "queued").exists() == queued
    if queued:
        assert (tmp_path / "queued").read_text() == "requeue 77\n"


def test_a_line_of_setup_that_fails_ends_the_batch_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "srun", f"touch {tmp_path}/began")
    script = batch_script(replace(ARRAY, resources=Resources(setup=["true", "(exit 4)"])))
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "cluster.setup failed" in done.stdout
    assert not (tmp_path / "began").exists()


def test_the_number_of_the_job_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "sbatch", "cat > /dev/null; echo '421;main'")
    assert submit("#!/bin/bash\n") == "421"


def test_a_refused_job_is_reported_in_the_words_of_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "sbatch", "echo 'sbatch: error: invalid account' >&2; exit 1")
    with pytest.raises(MachineError, match="invalid account"):
        submit("#!/bin/bash\n")


def test_without_slurm_the_error_names_what_works_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineError, match="cluster=local"):
        submit("#!/bin/bash\n")
    assert task_states(["3"]) is None


def test_states_are_told_by_task_and_numbers_that_belong_to_other_jobs_now_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ["12|0|RUNNING|n3|mine", "12|1|PENDING|(Resources)|mine", "12|2|NODE_FAIL||mine"]
    lines = "\n".join([*mine, "13|0|RUNNING|n1|other|name", "9|N/A|RUNNING|n1|mine"])
    stand_in(tmp_path, monkeypatch, "squeue", f"cat <<'END'\n{lines}\nEND")
    found = task_states(["12", "13", "14"], "mine")
    assert found is not None
    assert list(found) == ["12"]
    assert [(one.index, one.state, one.reason, one.ended) for one in found["12"]] == [
        (0, "RUNNING", "n3", False),
        (1, "PENDING", "Resources", False),
        (2, "NODE_FAIL", "", True),
    ]


@pytest.mark.parametrize(("answer", "known"), [(NO_JOB, {}), (NO_ANSWER, None)])
def test_a_forgotten_job_differs_from_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, known: dict[str, object] | None
) -> None:
    stand_in(tmp_path, monkeypatch, "squeue", f"echo '{answer}' >&2; exit 1")
    assert task_states(["12"]) == known


def test_squeue_is_asked_every_few_seconds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "squeue", f"echo asked >> {tmp_path}/calls; echo '12|0|RUNNING|n1|trak-score-mine'")
    tasks = SlurmTasks(ARRAY, "12")
    for _ in range(5):
        assert [one.state for one in tasks.states() or ()] == ["RUNNING"]
    assert (tmp_path / "calls").read_text() == "asked\n"


def test_the_logs_tell_the_ends_of_tasks_that_slurm_has_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "squeue", "echo 'Invalid job id specified' >&2; exit 1")
    tasks = SlurmTasks(replace(ARRAY, count=3, folder=tmp_path), "12")
    (tmp_path / "12_0_0_log.out").write_text("scores: done\ntrak submit: exit code 0\n")
    (tmp_path / "12_1_0_log.out").write_text("trak: a problem of this machine\n  disk full\ntrak submit: exit code 5\n")
    assert [(one.state, one.ended) for one in tasks.states() or ()] == [("COMPLETED", True), ("ENDED", True), ("ENDED", True)]


def test_nothing_is_known_as_long_as_neither_slurm_nor_every_log_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(slurm, "INTERVAL", 0.0)
    tasks = SlurmTasks(replace(ARRAY, count=2, folder=tmp_path), "12")
    (tmp_path / "12_0_0_log.out").write_text("trak submit: exit code 0\n")
    assert tasks.states() is None
    (tmp_path / "12_1_0_log.out").write_text("trak submit: exit code 75\n")
    assert tasks.states() is None, "a task that was told to stop is queued again"
    (tmp_path / "12_1_0_log.out").write_text("trak submit: exit code 75\ncontinued\ntrak submit: exit code 0\n")
    assert [one.state for one in tasks.states() or ()] == ["COMPLETED", "COMPLETED"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trak: the store does not fit\ntrak submit: exit code 3\n", "exit code 3 (the store does not fit)"),
        ("x" * 20_000 + "\ntrak submit: exit code 0\n", "exit code 0"),
        ("trak submit: exit code 75\nrunning again\n", None),
        ("", None),
    ],
)
def test_the_end_of_a_log_tells_exit_code_and_error(tmp_path: Path, text: str, expected: str | None) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    found = ending(log)
    assert (None if found is None else str(found)) == expected


def test_a_log_that_does_not_exist_tells_nothing(tmp_path: Path) -> None:
    assert ending(tmp_path / "none") is None
