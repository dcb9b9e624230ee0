"""``trak submit`` without a cluster: what it would submit, by the files of the store, and the same tasks on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from page_blocks import blocks
from small_project import assert_identical, read_store, type_command
from tiny_project import Project, weights

pytest.importorskip("submitit", reason="pip install 'trak-cli[slurm]'")

ProjectAfter = Callable[[str], Project]


def planned(project: Project, *arguments: str) -> dict[str, Any]:
    """What ``trak submit`` would do."""
    summary: dict[str, Any] = json.loads(project.done("submit", "--dry-run", "--json", *arguments).stdout)
    return summary


def work(project: Project, *arguments: str) -> list[tuple[str, int, int | None]]:
    """(stage, tasks, missing files) of what would be submitted."""
    return [(job["stage"], job["tasks"], job["missing"]) for job in planned(project, *arguments)["jobs"]]


def test_a_new_project_needs_every_stage(project: Project) -> None:
    before = project.files()
    assert work(project) == [("featurize", 4, None), ("finalize", 4, None), ("score", 4, None)]
    assert project.files() == before


def test_finished_stages_are_left_out(project_after: ProjectAfter) -> None:
    assert work(project_after("featurize")) == [("finalize", 4, 2), ("score", 4, 1)]
    assert work(project_after("finalize")) == [("score", 4, 1)]


def test_nothing_is_submitted_when_everything_is_stored(scored: Project) -> None:
    before = scored.files()
    assert planned(scored)["complete"] == ["featurize", "finalize", "score"]
    assert "nothing to do" in scored.done("submit").stdout
    assert scored.files() == before


def test_missing_damaged_and_short_shards_are_counted_and_later_stages_follow(scored: Project) -> None:
    scored.shard().unlink()
    scored.shard(index=1).write_bytes(b"damaged")
    assert work(scored) == [("featurize", 2, 2), ("finalize", 4, 0), ("score", 4, 0)]
    assert work(scored, "finalize", "score") == []
    assert work(scored, "cluster.tasks=1", "featurize") == [("featurize", 1, 2)]


def test_missing_gram_matrices_and_scores_are_counted(scored: Project) -> None:
    (gram,) = scored.store.glob("finalized/*/a-*.h5")
    gram.unlink()
    assert work(scored) == [("finalize", 4, 1), ("score", 4, 0)]
    next(scored.store.glob("scores/*/test/*/*/*.h5")).unlink()
    assert work(scored, "score") == [("score", 4, 1)]


@pytest.mark.parametrize(
    "override",
    [
        "+dataset.targets.more={_target_: tiny_plugin.Data, rows: 5, seed: 3}",
        "ensemble.members=1",
        "dataset.replace=[test]",
    ],
)
def test_features_that_the_store_has_not_heard_of_are_submitted(scored: Project, override: str) -> None:
    assert work(scored, override)[0] == ("featurize", 4, None)


def test_a_checkpoint_that_was_trained_again_is_submitted(scored: Project) -> None:
    checkpoint = scored.folder / "checkpoints" / "b.pt"
    os.utime(checkpoint, (2**31, 2**31))
    assert work(scored, "featurize") == [], "only its date has changed"
    torch.save(weights(2), checkpoint)
    os.utime(checkpoint, (2**31, 2**31 + 1))
    assert work(scored, "featurize") == [("featurize", 4, None)]


@pytest.mark.parametrize(
    "override", ["estimator.ridge=3", "score.top_k=5", "estimator=dot", "estimator.checkpoint_counts=[1, 2]"]
)
def test_scores_with_other_settings_are_submitted(scored: Project, override: str) -> None:
    count = 2 if "counts" in override else 1
    assert work(scored, override) == [("score", 4, count)]


def test_all_submits_finished_stages_too(scored: Project) -> None:
    assert [stage for stage, _, _ in work(scored, "--all")] == ["featurize", "finalize", "score"]


def test_other_stages_are_chained_by_what_they_read(scored: Project) -> None:
    options = ("trainer.epochs=1", "retrain.subsets=7", "cluster.tasks=16")
    jobs = planned(scored, "retrain", "score", "featurize", "refine", "unroll", "--all", *options)["jobs"]
    assert [(job["stage"], job["after"]) for job in jobs] == [
        ("featurize", []),
        ("score", ["JOB_OF_FEATURIZE"]),
        ("refine", ["JOB_OF_FEATURIZE"]),
        ("retrain", []),
        ("unroll", []),
    ]
    scores = ("refine.candidates=5", "retrain.same_seed=true", "retrain.remove_top=[early_training]")
    jobs = planned(scored, "retrain", "score", "refine", "--all", *options, *scores)["jobs"]
    assert [(job["stage"], job["after"]) for job in jobs] == [
        ("score", []),
        ("refine", ["JOB_OF_SCORE"]),
        ("retrain", ["JOB_OF_SCORE"]),
    ]
    assert work(scored, "retrain", *options) == [("retrain", 7, 7)]
    assert work(scored, "unroll", "unroll.removals=5", "unroll.directions=1") == [("unroll", 4, 7)]


def test_each_stage_gets_what_the_configuration_says(project: Project) -> None:
    stages = "cluster.stages={finalize: {tasks: 1, memory_gb: 64, partition: cpu}, score: {gpus: 1}}"
    summary = planned(
        project, "cluster.gpus=2", "cluster.partition=gpu", "cluster.setup=[module load cuda]", stages, "worker.part_rows=50"
    )
    scripts = {job["stage"]: job["script"] for job in summary["jobs"]}
    assert "finalize -d . worker.part_rows=50 worker.index=" in scripts["finalize"]
    assert "--gpus-per-node=2" in scripts["featurize"]
    assert "module load cuda" in scripts["featurize"]
    assert "--gpus-per-node" not in scripts["finalize"]
    assert "--gpus-per-node=1" in scripts["score"]
    assert {stage: f"--partition={name}" in scripts[stage] for stage, name in (("finalize", "cpu"), ("score", "gpu"))} == {
        "finalize": True,
        "score": True,
    }
    assert "--array=0-0%1" in scripts["finalize"]
    assert "--mem=65536M" in scripts["finalize"]


def test_tasks_get_the_overrides_but_not_those_of_the_cluster(project: Project) -> None:
    (job,) = planned(project, "finalize", "cluster=slurm", "estimator=trak", "cluster.qos=low", "+vars.note='a b'")["jobs"]
    (command,) = [line for line in job["script"].splitlines() if line.startswith("srun")]
    assert command.endswith(
        "finalize -d . estimator=trak '+vars.note='\"'\"'a b'\"'\"'' worker.index=$SLURM_ARRAY_TASK_ID worker.count=4"
    )


def test_every_problem_is_reported_before_anything_is_submitted(project: Project) -> None:
    project.refused(
        2,
        "submit",
        "fetaurize",
        "worker.count=3",
        "cluster.taks=2",
        says=("did you mean featurize?", "set cluster.tasks=N instead", "cluster.taks", "did you mean"),
    )


def test_a_plugin_that_only_one_of_the_stages_builds_is_checked_too(project: Project) -> None:
    project.refused(2, "submit", "score", "featurize", "+model.width=3", says=("model",))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("cluster.sbatch={array: 1-3}", ("cluster.sbatch.array", "cluster.tasks")),
        ("cluster.sbatch={mail type: 1}", ("cluster.sbatch.mail type",)),
        ("cluster.sbatch={comment: 'two\nlines'}", ("cluster.sbatch.comment", "one line")),
        ("cluster.sbatch={comment: [1]}", ("cluster.sbatch.comment",)),
        ("cluster.stages={scores: {tasks: 1}}", ("cluster.stages.scores", "featurize")),
        ("cluster.stages={score: 3}", ("cluster.stages.score",)),
        ("cluster.stages={score: {taks: 3}}", ("cluster.stages.score.taks", "did you mean tasks?")),
        ("cluster.stages={score: {tasks: 0}}", ("cluster.stages.score.tasks",)),
        ("cluster.stages={score: {minutes: soon}}", ("cluster.stages.score.minutes",)),
        ("cluster.minutes=2", ("cluster.notice", "120 seconds")),
        ("cluster.memory_gb=0", ("cluster.memory_gb",)),
        ("cluster.kind=pbs", ("cluster.kind", "slurm, local")),
    ],
)
def test_what_sbatch_could_not_take_is_refused(project: Project, override: str, says: tuple[str, ...]) -> None:
    project.refused(2, "submit", "finalize", override, says=says)


def test_without_slurm_the_error_says_what_works_there(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    project.refused(5, "submit", "finalize", says=("sbatch", "--dry-run", "cluster=local"))


def test_tasks_on_this_machine_store_what_one_process_stores(project: Project, finished: dict[str, Path]) -> None:
    outcome = project.done("submit", "featurize", "cluster=local", "cluster.tasks=2")
    assert "finished: everything is stored" in outcome.stdout
    assert_identical(read_store(project.store), read_store(finished["featurize"] / "runs" / "tiny"))
    logs = [log.read_text() for log in (project.store / "logs" / "featurize").glob("*.out")]
    assert sorted(f"worker {index} of 2" in log for log in logs for index in (0, 1)) == [False, False, True, True]
    assert all(log.endswith("trak submit: exit code 0\n") for log in logs)
    assert not list((project.store / "logs").rglob("*.pkl")), "nothing is pickled"


def test_a_task_that_fails_is_named_with_its_exit_code_and_its_log(featurized: Project) -> None:
    failed = featurized.trak("submit", "finalize", "cluster=local", "cluster.tasks=1", "cluster.setup=[exit 7]")
    assert failed.code == 3
    (log,) = (featurized.store / "logs" / "finalize").glob("*.out")
    for text in (
        "trak finalize: task 0",
        "FAILED, exit code 7",
        str(log.relative_to(featurized.folder)),
        "2 of 2 Gram matrices",
    ):
        assert text in failed.stderr


def test_the_commands_of_the_page_can_be_submitted(scored: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of docs/cluster.md, as dry runs on the tiny project."""
    folder = tmp_path / "pages"
    (folder / "my_project").mkdir(parents=True)
    for name in ("tiny_plugin.py", "tiny.yaml"):
        shutil.copy(scored.folder / name, folder / "my_project" / name)
    shutil.copytree(scored.folder / "checkpoints", folder / "checkpoints")
    page = [block for block in blocks() if block.page == "docs/cluster.md" and block.language == "sh"]
    lines = [line for block in page for line in block.commands if line.startswith("trak submit")]
    assert len(lines) >= 3
    for line in lines:
        assert type_command(folder, monkeypatch, f"{line.split(' # ')[0]} --dry-run")


def test_the_configuration_of_the_page_is_valid(project: Project) -> None:
    (block,) = [block for block in blocks() if block.page == "docs/cluster.md" and block.language == "yaml"]
    config = project.folder / "tiny.yaml"
    config.write_text(f"{config.read_text()}\n{block.text}")
    jobs = planned(project)["jobs"]
    assert [(job["stage"], job["tasks"]) for job in jobs] == [("featurize", 64), ("finalize", 4), ("score", 8)]
    assert "#SBATCH --constraint=a100" in jobs[0]["script"]


@pytest.mark.parametrize("place", ["logs", "logs/featurize"])
def test_logs_are_not_written_through_a_link(project: Project, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = project.store / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    project.refused(3, "submit", "featurize", "cluster=local", f"store={project.store}", says=(place, "symbolic link"))
    assert not list(outside.iterdir())
