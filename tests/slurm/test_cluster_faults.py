"""``trak submit`` on a real Slurm, with every fault that a cluster has. The store must end as a single process makes it."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable

import pytest
from lab import wait_for
from slurm_site import Site

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]

Number = Callable[[str], str]

#: One task on each node.
SPREAD = ("cluster.cpus=2",)


def trak_process(site: Site, job: str, task: int) -> int:
    """The process of a task's `trak`, once it runs."""
    found: list[int] = []
    configuration = f"SLURM_CONF={site.lab.folder / 'slurm.conf'}"
    wanted = {text.encode() for text in (f"SLURM_ARRAY_JOB_ID={job}", f"SLURM_ARRAY_TASK_ID={task}", configuration)}

    def look() -> bool:
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal():
                try:
                    with open(f"{entry.path}/environ", "rb") as stream:
                        variables = stream.read().split(b"\0")
                    with open(f"{entry.path}/cmdline", "rb") as stream:
                        words = stream.read().split(b"\0")
                except OSError:
                    continue
                if wanted <= set(variables) and b"trak_cli" in words and not words[0].endswith(b"srun"):
                    found.append(int(entry.name))
                    return True
        return False

    wait_for(look, 30, f"task {task} of job {job}")
    return found[0]


def test_a_killed_task_is_named_with_its_log_and_only_its_work_is_submitted_again(site: Site, job_number: Number) -> None:
    site.pause(0.05)
    submitted = json.loads(site.submit("cluster.tasks=3", "--json").stdout)
    assert [job["stage"] for job in submitted["jobs"]] == ["featurize", "finalize", "score"]
    waiting = site.start("submit", "cluster.tasks=3", "--wait")
    job = job_number("featurize")
    number = trak_process(site, job, 1)
    site.wait_for_shards(2)
    os.kill(number, signal.SIGKILL)
    site.pause(0)
    out, err = waiting.communicate(timeout=90)
    assert waiting.returncode == 3, out + err
    assert re.search(rf"trak featurize: job {job}, task 1\n\s+found:\s+FAILED, exit code 137", err)
    assert str(site.store / "logs" / "featurize" / f"{job}_1_0_log.out") in err
    assert "of 10 shards" in err
    assert "trak finalize:" not in err, "what follows from the first failure is not reported"
    missing = 10 - site.shards()
    assert 0 < missing < 10
    again = json.loads(site.submit("cluster.tasks=2", "--wait", "--json").stdout)
    assert next((one["stage"], one["missing"]) for one in again["jobs"]) == ("featurize", missing)
    site.require_identical()
    assert "nothing to do" in site.submit("cluster.tasks=2").stdout


def test_the_work_of_a_lost_node_is_done_by_another(site: Site, job_number: Number) -> None:
    site.pause(0.05)
    site.submit("featurize", "cluster.tasks=2", *SPREAD)
    job = job_number("featurize")
    site.wait_for_shards(1)
    lines = site.lab.run("squeue", "-h", "-r", "-o", "%K %N").split("\n")
    nodes = dict(line.split() for line in lines if line)
    site.lab.lose_node(nodes["1"])
    site.pause(0)
    assert "finished" in site.submit("featurize", "--wait").stdout
    assert site.log("featurize", job, 1).count("trak submit: exit code") == 1
    site.require_identical()


def test_a_task_that_is_told_to_stop_is_queued_again_and_continues(site: Site, job_number: Number) -> None:
    site.pause(0.05)
    site.submit("featurize", "cluster.tasks=1")
    job = job_number("featurize")
    site.wait_for_shards(1)
    site.lab.run("scancel", "--signal=USR2", f"{job}_0")
    wait_for(lambda: "trak submit: exit code 75" in site.log("featurize", job, 0), 20, "the task to stop")
    site.pause(0)
    site.submit("featurize", "--wait")
    log = site.log("featurize", job, 0)
    assert "stopped by SIGUSR2: finished work is stored" in log
    assert log.rstrip().endswith("trak submit: exit code 0")
    assert re.search(r"([1-9]\d*) already stored", log.split("trak submit: exit code 75")[1]), (
        "the second attempt computed everything again"
    )


def test_a_preempted_task_gives_way_and_continues_later(site: Site, job_number: Number) -> None:
    site.pause(0.05)
    site.submit("featurize", "cluster.tasks=1")
    job = job_number("featurize")
    site.wait_for_shards(1)
    site.lab.run("sbatch", "--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait_for(lambda: "stopped by SIGTERM" in site.log("featurize", job, 0), 20, "the preemption")
    site.pause(0)
    site.submit("featurize", "--wait")
    site.require_identical()


def test_a_task_at_its_time_limit_is_told_early_and_continues(site: Site, job_number: Number) -> None:
    site.pause(1)  # more than the time limit for all samples
    site.submit("featurize", "cluster.tasks=1", "cluster.minutes=1", "cluster.notice=52")
    job = job_number("featurize")
    wait_for(lambda: "stopped by SIGUSR2" in site.log("featurize", job, 0), 60, "the signal before the time limit")
    site.pause(0)
    site.submit("featurize", "--wait")
    assert site.log("featurize", job, 0).rstrip().endswith("trak submit: exit code 0")


def test_a_full_disk_in_one_task_stops_that_task_only(site: Site, job_number: Number) -> None:
    """A limit of the size of files: writing a shard fails as on a full disk."""
    limit = 'cluster.setup=["if [ $SLURM_ARRAY_TASK_ID = 1 ] ; then ulimit -f 2 ; fi"]'
    failed = site.submit("featurize", "cluster.tasks=2", limit, "--wait", code=3)
    job = job_number("featurize")
    assert f"trak featurize: job {job}, task 1" in failed.stderr
    assert "exit code 5 (a problem of this machine)" in failed.stderr
    assert "5 of 10 shards" in failed.stderr
    site.submit("featurize", "cluster.tasks=2", "--wait")
    site.require_identical()


def test_cancelled_jobs_stay_cancelled_and_a_second_submission_continues(site: Site, job_number: Number) -> None:
    site.pause(0.05)
    site.submit("featurize", "cluster.tasks=2")
    job = job_number("featurize")
    site.wait_for_shards(1)
    site.lab.run("scancel", job)
    wait_for(lambda: not site.lab.run("squeue", "-h", f"--jobs={job}", check=False).strip(), 20, "the end of the job")
    states = site.lab.run("squeue", "-h", "-r", "--states=all", f"--jobs={job}", "-o", "%T")
    assert set(states.split()) == {"CANCELLED"}
    site.pause(0)
    site.submit("featurize", "cluster.tasks=1", "--wait")
    assert job_number("featurize") != job
    site.require_identical()


def test_jobs_in_the_queue_are_not_submitted_twice(site: Site, job_number: Number) -> None:
    site.lab.run("scontrol", "update", "partitionname=main", "state=DOWN")
    try:
        site.submit("featurize", "cluster.tasks=1")
        again = json.loads(site.submit("featurize", "cluster.tasks=1", "--json").stdout)
        assert [(one["job"], one["queued_before"]) for one in again["jobs"]] == [(job_number("featurize"), True)]
        assert len(list((site.store / "logs" / "featurize").glob("*.sbatch"))) == 1
    finally:
        site.lab.run("scontrol", "update", "partitionname=main", "state=UP")


def test_a_job_that_slurm_refuses_is_reported_in_the_words_of_sbatch(site: Site) -> None:
    refused = site.submit("featurize", "cluster.partition=nowhere", code=5)
    assert "invalid partition" in refused.stderr.lower()
    assert "found:" in refused.stderr
