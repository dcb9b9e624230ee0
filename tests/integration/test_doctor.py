"""`trak doctor` on the tiny project: what is healthy passes, every kind of harm is named, and nothing is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_project import DIM, ROWS, TARGETS, Project, weights


def examined(project: Project, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The summary of `trak doctor --json`, which must leave everything as it was."""
    before = project.files()
    outcome = project.trak("doctor", *arguments, "--json")
    assert outcome.code == code, outcome.stdout + outcome.stderr
    assert project.files() == before
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def failing(summary: dict[str, Any]) -> list[str]:
    return [check["name"] for check in summary["checks"] if not check["held"]]


@pytest.mark.parametrize("engine", ["auto", "hooks", "vmap", "loop"])
def test_a_healthy_run_passes_under_every_engine(project: Project, engine: str) -> None:
    summary = examined(project, f"gradients.engine={engine}")
    assert summary["ok"]
    assert failing(summary) == []
    assert summary["engine"] == engine or engine == "auto"
    assert f"engine {summary['engine']} = loop" in [check["name"] for check in summary["checks"]]


def test_a_table_for_people(project: Project) -> None:
    shown = project.done("doctor").stdout
    for words in ("alone = in a batch", "samples/s", "peak memory", "GiB free"):
        assert words in shown


def test_the_engine_of_the_store_is_examined(featurized: Project) -> None:
    summary = examined(featurized, "gradients.engine=auto")
    (found,) = [check["found"] for check in summary["checks"] if check["name"] == "gradient engine"]
    assert found == "hooks, from the plan in the store"


def test_samples_that_are_mixed_in_a_batch(project: Project) -> None:
    summary = examined(project, "+model.batch_statistics=true", code=4)
    assert failing(summary) == ["alone = in a batch"]
    assert summary["costs"] is None


def test_a_number_that_is_not_finite(project: Project) -> None:
    assert failing(examined(project, "+dataset.train.nan=0", code=4)) == ["finite numbers"]


def test_a_sample_that_the_task_refuses(project: Project) -> None:
    summary = examined(project, f"+dataset.train.label={ROWS - 1}", code=4)
    assert failing(summary) == ["samples"]
    assert f"sample {ROWS - 1} of train" in json.dumps(summary)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_features_of_any_size_fit_a_scaled_dtype(project: Project, dtype: str) -> None:
    large = {name: one * (3e6 if name == "second.weight" else 1e-6) for name, one in weights(0).items()}
    save_file(large, project.folder / "checkpoints" / "a.safetensors")
    assert examined(project, f"features.dtype={dtype}")["ok"]


def test_a_failure_tells_a_person_what_to_do(project: Project) -> None:
    outcome = project.trak("doctor", "+model.batch_statistics=true")
    assert outcome.code == 4
    assert "BatchNorm" in outcome.stdout


def test_disk_is_what_the_stages_write(scored: Project) -> None:
    """Features, Gram matrices and scores to the byte, apart from what HDF5 and the headers add."""
    costs = examined(scored)["costs"]
    assert costs["rows"] == ROWS + TARGETS
    for part, folder in (("features", "features"), ("finalized", "finalized"), ("scores", "scores")):
        files = [*(scored.store / folder).rglob("*.h5")]
        written = sum(file.stat().st_size for file in files)
        assert costs[part] <= written <= costs[part] + 16384 * len(files), part
    assert costs["features"] == 2 * ((ROWS + TARGETS) * (4 * DIM + 16) + ROWS * (4 * DIM + 4))


def test_estimates_add_up(project: Project) -> None:
    costs = examined(project, "gradients.microbatch=4", "gradients.classes=false")["costs"]
    assert costs["microbatch"] == 4
    assert costs["seconds"] == pytest.approx(2 * (ROWS + TARGETS) / costs["samples_per_second"], rel=1e-6)
    assert costs["slow_seconds"] >= costs["seconds"] > 0
    assert 0 <= costs["data"] <= 1
    assert costs["peak_memory"] > 50 * 2**20  # a Python process with PyTorch in it


def test_the_time_estimate_includes_the_pass_for_second_moments(project: Project) -> None:
    costs = examined(project, "gradients.microbatch=4", "gradients.optimizer=adam")["costs"]
    assert costs["seconds"] > 1.1 * 2 * (ROWS + TARGETS) / costs["samples_per_second"]


def test_a_checkpoint_that_does_not_fit_is_refused_at_once(project: Project) -> None:
    torch.save({"first.weight": torch.zeros(2, 2)}, project.folder / "checkpoints" / "b.pt")
    project.refused(4, "doctor", says=("b.pt",))


def test_an_exception_in_user_code_is_reported_by_the_doctor(project: Project) -> None:
    (project.folder / "touchy.py").write_text(
        "from trak_cli.tasks import Classification\n\n\n"
        "class Touchy(Classification):\n"
        "    def output(self, model, batch):\n"
        "        if len(batch[0]) == 1:\n"
        "            raise ValueError('more than 1 value per channel, please')\n"
        "        return super().output(model, batch)\n"
    )
    summary = examined(project, "task={_target_: touchy.Touchy}", code=4)
    (bad,) = [check for check in summary["checks"] if not check["held"]]
    assert "ValueError: more than 1 value per channel, please" in bad["found"]
    assert "touchy.py:7 in output" in bad["found"]
