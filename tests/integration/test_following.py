"""Following tasks: the files of the store decide, and what the scheduler says only tells whether to go on waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tiny_project import Project

from trak_cli.cluster.tasks import TaskState
from trak_cli.config.load import Loaded, load
from trak_cli.errors import StoreError
from trak_cli.stages.submitting import following
from trak_cli.stages.submitting.following import Followed, follow
from trak_cli.types import Silent

RUNNING, DONE, FAILED = (TaskState(0, word, ended=word != "RUNNING") for word in ("RUNNING", "COMPLETED", "FAILED"))
CANCELLED = TaskState(0, "CANCELLED", ended=True)

Answer = Sequence[TaskState] | None


@dataclass
class Scripted:
    """Tasks about which a scheduler gives these answers, one after the other, the last one for ever.

    Attributes:
        then: what happens at each answer.
    """

    answers: list[Answer]
    folder: Path
    then: Callable[[int], None] = lambda _: None
    job: str | None = "7"
    asked: int = field(default=0, init=False)

    def states(self) -> Answer:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.then(self.asked)
        self.asked += 1
        return answer

    def log(self, index: int) -> Path:
        return self.folder / f"7_{index}_0_log.out"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following.time, "sleep", lambda _: None)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Project, str], Loaded]]:
    """The configuration of a stage, in the folder of the project, where the test goes on."""

    def loaded(project: Project, stage: str) -> Loaded:
        monkeypatch.chdir(project.folder)
        return load(stage, None, Path(), [])

    return loaded


Configured = Callable[[Project, str], Loaded]


def problems(parts: Sequence[Followed]) -> str:
    """What is reported when no task is left."""
    with pytest.raises(StoreError) as found:
        follow(parts, Silent())
    assert found.value.headline == "the tasks have ended, and work is missing"
    return "\n".join(map(str, found.value.problems))


def test_stored_files_end_the_waiting_whatever_the_scheduler_says(scored: Project, configured: Configured) -> None:
    for answer in ([RUNNING], [FAILED], None):
        follow([Followed("score", configured(scored, "score"), Scripted([answer], scored.folder))], Silent())


def test_a_scheduler_that_says_nothing_is_waited_for(scored: Project, configured: Configured) -> None:
    shard = scored.shard()
    content = shard.read_bytes()
    shard.unlink()

    def appear(asked: int) -> None:
        if asked == 50:
            shard.write_bytes(content)

    tasks = Scripted([None], scored.folder, appear)
    follow([Followed("featurize", configured(scored, "featurize"), tasks)], Silent())
    assert tasks.asked == 51


def test_a_file_that_becomes_visible_after_the_end_of_its_task_is_waited_for(scored: Project, configured: Configured) -> None:
    shard = scored.shard()
    content = shard.read_bytes()
    shard.unlink()

    def appear(asked: int) -> None:
        if asked == 20:
            shard.write_bytes(content)

    tasks = Scripted([[RUNNING], [DONE]], scored.folder, appear)
    follow([Followed("featurize", configured(scored, "featurize"), tasks)], Silent())


def test_a_file_that_stays_invisible_is_missing_in_the_end(
    scored: Project, configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "VISIBLE", 0.2)
    scored.shard().unlink()
    tasks = Scripted([[DONE]], scored.folder)
    found = problems([Followed("featurize", configured(scored, "featurize"), tasks)])
    assert "trak featurize: 1 of 10 shards" in found
    assert str(scored.shard().relative_to(scored.folder)) in found
    assert "COMPLETED, exit" not in found


def test_a_failed_task_is_named_with_its_end_and_what_follows_is_left_out(scored: Project, configured: Configured) -> None:
    scored.shard().unlink()
    next(scored.store.glob("finalized/*/a-*.h5")).unlink()
    first = Scripted([[RUNNING], [FAILED, TaskState(1, "COMPLETED", ended=True)]], scored.folder)
    first.log(0).write_text("trak: the model or the data was refused\ntrak submit: exit code 4\n")
    second = Scripted(
        [[TaskState(0, "PENDING", "Dependency")], [TaskState(0, "PENDING", "Dependency")], [CANCELLED]], scored.folder
    )
    parts = [
        Followed("featurize", configured(scored, "featurize"), first),
        Followed("finalize", configured(scored, "finalize"), second),
    ]
    found = problems(parts)
    assert second.asked == 3, "the second stage was waited for"
    assert "trak featurize: job 7, task 0: found FAILED, exit code 4 (the model or the data was refused)" in found
    assert str(first.log(0)) in found
    assert "task 1" not in found
    assert "trak finalize" not in found


def test_after_a_failed_stage_a_silent_scheduler_is_not_waited_for(scored: Project, configured: Configured) -> None:
    scored.shard().unlink()
    next(scored.store.glob("finalized/*/a-*.h5")).unlink()
    parts = [
        Followed("featurize", configured(scored, "featurize"), Scripted([[FAILED]], scored.folder)),
        Followed("finalize", configured(scored, "finalize"), Scripted([None], scored.folder)),
    ]
    assert "trak featurize: job 7, task 0: found FAILED, without an exit code" in problems(parts)


def test_a_stage_whose_files_cannot_be_counted_is_done_when_its_tasks_have_succeeded(
    scored: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scored.folder)
    options = ["retrain.same_seed=true", "retrain.remove_top=[early_training]", "trainer.epochs=1"]
    loaded = load("retrain", None, Path(), options)
    tasks = Scripted([[RUNNING], [RUNNING], [DONE]], scored.folder)
    follow([Followed("retrain", loaded, tasks)], Silent())
    assert tasks.asked == 3
    assert "trak retrain: all files" in problems([Followed("retrain", loaded, Scripted([[FAILED]], scored.folder))])
