"""Plugins are code, which raises, is edited between two calls, and is changed together with its data."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tiny_project import ROWS, Project

STORE, INPUT = 3, 4


def edit(project: Project, old: str, new: str) -> None:
    path = project.folder / "tiny_plugin.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def run(project: Project, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program as a process of its own: plugins are imported once in each."""
    command = [sys.executable, "-m", "trak_cli", *arguments, "-d", "."]
    told = os.environ | environment
    return subprocess.run(command, cwd=project.folder, env=told, capture_output=True, text=True, check=False)


def test_shards_of_edited_code_do_not_join_the_others(project: Project) -> None:
    project.done("featurize", "worker.index=0", "worker.count=2")
    before = project.files()
    edit(project, "torch.tanh(self.first(x))", "torch.relu(self.first(x))")
    outcome = run(project, "featurize")
    assert outcome.returncode == STORE, outcome.stderr
    assert "sample 0 of train, computed again: features" in outcome.stderr
    assert "undo the change of model, task or dataset code" in outcome.stderr
    assert project.files() == before
    edit(project, "torch.relu(self.first(x))", "torch.tanh(self.first(x))")
    assert run(project, "featurize").returncode == 0


def test_a_longer_split_of_other_samples_leaves_the_store_as_it_was(featurized: Project) -> None:
    other = [f"dataset.train.rows={ROWS + 1}", "dataset.train.seed=7"]
    featurized.refused(INPUT, "featurize", *other, says=("sample 0 of train", "different content"))
    featurized.done("featurize")
    featurized.done("finalize")


@pytest.mark.parametrize("engine", ["auto", "hooks"])
def test_a_label_out_of_range_is_named_whatever_chooses_the_engine(project: Project, engine: str) -> None:
    asked = [f"gradients.engine={engine}", "gradients.microbatch=null", "dataset.train.label=6"]
    project.refused(INPUT, "featurize", *asked, says=("sample 6 of train", "label 7"))


RAISES = "        if row == 33: raise ValueError('bad jpeg')\n"
RAGGED = "        inputs = inputs[: 7 if row == 34 else 8]\n"
CRASHES = "        x.nonsense()\n"


@pytest.mark.parametrize(
    ("before", "added", "says"),
    [
        ("        nan, label, edit = ", RAISES, ("sample 33 of train", "ValueError: bad jpeg", "in __getitem__")),
        ("        return inputs, 7", RAGGED, ("collating samples", "34", "RuntimeError: stack expects")),
        ("        return self.second(", CRASHES, ("AttributeError", "nonsense", "tiny_plugin.py:", "in forward")),
    ],
    ids=["dataset", "collate", "model"],
)
def test_what_a_plugin_raises_is_told_with_its_line(project: Project, before: str, added: str, says: tuple[str, ...]) -> None:
    edit(project, before, added + before)
    outcome = run(project, "featurize")
    assert outcome.returncode == INPUT, outcome.stderr
    assert "Traceback" not in outcome.stderr
    for text in says:
        assert text in outcome.stderr
    assert "Traceback" in run(project, "featurize", TRAK_TRACEBACK="1").stderr


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(scored: Project, as_json: list[str]) -> None:
    """The output is several times as large as a pipe's buffer of 64 KiB."""
    command = [sys.executable, "-m", "trak_cli", "top", "-d", ".", "-k", str(ROWS), *as_json, *["-t", "0"] * 60]
    with subprocess.Popen(command, cwd=scored.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait() == 0, errors
    assert "Error" not in errors


def test_what_helps_has_scores_above_zero_and_what_harms_below(scored: Project) -> None:
    found = json.loads(scored.done("top", "-k", str(ROWS), "--json").stdout)["targets"][0]
    assert found["helpful"]
    assert found["harmful"]
    assert all(one["score"] > 0 for one in found["helpful"])
    assert all(one["score"] < 0 for one in found["harmful"])
    assert len(found["helpful"]) + len(found["harmful"]) <= ROWS
