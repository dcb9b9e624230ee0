"""The digits pipeline through ``trak submit``, and the scripts of scripts/slurm and scripts/processes, as a user runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kill_driver import contents
from lab import Lab, wait_for
from slurm_site import Site

pytestmark = pytest.mark.timeout(150)

SCRIPTS = Path(__file__).parents[2] / "scripts"

#: Nothing of a run may depend on measured times, if stores are to be compared.
DIGITS = (
    "experiment=digits",
    "train.count=1",
    "trainer.epochs=1",
    "gradients.engine=hooks",
    "gradients.microbatch=64",
    "features.shard_rows=256",
    "threads=1",
)


def trak(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """``trak`` in a process of its own, which must succeed; its stdout."""
    command = [sys.executable, "-m", "trak_cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=140, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_trak(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment in which ``trak`` is found."""
    program = folder / "bin" / "trak"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m trak_cli "$@"\n')
    program.chmod(0o755)
    return {
        **environment,
        "PATH": f"{program.parent}:{Path(sys.executable).parent}:{environment['PATH']}",
        "OMP_NUM_THREADS": "1",
    }


def run_script(folder: Path, environment: dict[str, str], *command: str) -> str:
    """A script in a folder; its stdout and stderr."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=140, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def wait_for_jobs(lab: Lab) -> None:
    """Wait until no job is left."""
    wait_for(lambda: not lab.run("squeue", "-h").strip(), 120, "the jobs")


@pytest.mark.slurm
def test_the_digits_pipeline_on_four_nodes_gives_the_store_of_one_process(lab: Lab, tmp_path: Path) -> None:
    environment = {**lab.environment, "OMP_NUM_THREADS": "1"}
    trak(tmp_path, environment, "train", *DIGITS)
    single = tmp_path / "single"
    shutil.copytree(tmp_path / "runs", single / "runs")
    trak(single, environment, "run", *DIGITS)
    nodes = 'cluster.setup=["echo on $SLURMD_NODENAME"]'
    out = trak(tmp_path, environment, "submit", *DIGITS, "cluster.tasks=4", "cluster.cpus=2", nodes, "--wait")
    assert "finished: everything is stored" in out
    logs = [path.read_text() for path in (tmp_path / "runs" / "digits" / "logs" / "featurize").glob("*.out")]
    assert {match for log in logs for match in re.findall(r"^on (n\d)$", log, re.MULTILINE)} == {"n0", "n1", "n2", "n3"}
    require_same(tmp_path, single)


def require_same(folder: Path, single: Path) -> None:
    """Features, Gram matrices and scores have the same bytes."""
    parts = re.compile(r"\w+/(features|finalized|scores)/")
    found, expected = ({name: one for name, one in contents(where).items() if parts.match(name)} for where in (folder, single))
    assert set(found) == set(expected)
    assert [name for name, one in expected.items() if found[name] != one] == []


@pytest.mark.slurm
def test_the_batch_script_of_an_array_divides_a_stage(site: Site) -> None:
    script = str(SCRIPTS / "slurm" / "array.sbatch")
    environment = with_trak(site.folder, site.lab.environment)
    run_script(site.folder, environment, "sbatch", "--array=0-2", script, "featurize", "-d", ".")
    wait_for_jobs(site.lab)
    logs = [log.read_text() for log in site.folder.glob("trak_*.log")]
    assert sorted(number for log in logs for number in re.findall(r"worker (\d) of 3", log)) == ["0", "1", "2"]
    site.require_identical()


@pytest.mark.slurm
def test_the_batch_script_of_steps_divides_a_stage_among_the_processes_of_one_job(site: Site) -> None:
    script = str(SCRIPTS / "slurm" / "steps.sbatch")
    environment = with_trak(site.folder, site.lab.environment)
    options = ["--nodes=2", "--ntasks-per-node=2"]
    run_script(site.folder, environment, "sbatch", *options, script, "featurize", "-d", ".")
    wait_for_jobs(site.lab)
    (log,) = site.folder.glob("trak_*.log")
    assert sorted(re.findall(r"worker (\d) of 4", log.read_text())) == ["0", "1", "2", "3"]
    site.require_identical()


@pytest.mark.slurm
def test_the_chain_runs_the_three_stages_in_order(site: Site) -> None:
    environment = with_trak(site.folder, site.lab.environment) | {"TASKS": "2", "FEATURIZE": "--cpus-per-task=2"}
    out = run_script(site.folder, environment, "bash", str(SCRIPTS / "slurm" / "chain.sh"), "-d", ".")
    assert re.fullmatch(r"featurize \d+, finalize \d+, score \d+\n", out)
    wait_for_jobs(site.lab)
    logs = "".join(log.read_text() for log in site.folder.glob("trak_*.log"))
    assert "test.h5" in logs, logs
    site.require_identical()


@pytest.mark.program("parallel")
def test_gnu_parallel_divides_a_stage(tmp_path: Path, finished: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "project", ignore=shutil.ignore_patterns("runs"))
    environment = with_trak(folder, dict(os.environ)) | {"JOBS": "2"}
    out = run_script(folder, environment, "bash", str(SCRIPTS / "processes" / "parallel.sh"), "featurize", "-d", ".")
    assert sorted(re.findall(r"worker (\d) of 2", out)) == ["0", "1"]
    require_features(folder, finished)


@pytest.mark.program("unshare", "ip")
def test_torchrun_divides_a_stage(tmp_path: Path, finished: Path) -> None:
    """In a network of its own, because torchrun listens on every address."""
    alone = ["unshare", "--net", "bash", "-c", 'ip link set lo up; exec bash "$@"', "bash"]
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a network of its own is not permitted here")
    folder = shutil.copytree(finished, tmp_path / "project", ignore=shutil.ignore_patterns("runs"))
    environment = with_trak(folder, dict(os.environ)) | {"JOBS": "2"}
    torchrun = folder / "bin" / "torchrun"
    torchrun.write_text(f'#!/bin/sh\nexec {sys.executable} -m torch.distributed.run "$@"\n')
    torchrun.chmod(0o755)
    out = run_script(folder, environment, *alone, str(SCRIPTS / "processes" / "torchrun.sh"), "featurize", "-d", ".")
    assert sorted(re.findall(r"worker (\d) of 2", out)) == ["0", "1"]
    require_features(folder, finished)


def require_features(folder: Path, single: Path) -> None:
    found, expected = (
        {name: one for name, one in contents(where).items() if name.startswith("tiny/features/")} for where in (folder, single)
    )
    assert found == expected
