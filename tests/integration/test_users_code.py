"""Plugins are code, which raises, is edited between two calls, and is changed together with its data."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from fresh_process import fresh_trak
from tiny_project import ROWS, Project

STORE, INPUT = 3, 4


def edit(project: Project, old: str, new: str) -> None:
    path = project.folder / "tiny_plugin.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def run(project: Project, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program as a process of its own: plugins are imported once in each."""
    return fresh_trak(project.folder, *arguments, "-d", ".", **environment)


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
def test_a_label_out_of_range_is_named_however_the_engine_is_chosen(project: Project, engine: str) -> None:
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
def test_an_exception_in_a_plugin_is_reported_with_its_line(
    project: Project, before: str, added: str, says: tuple[str, ...]
) -> None:
    edit(project, before, added + before)
    outcome = run(project, "featurize")
    assert outcome.returncode == INPUT, outcome.stderr
    assert "Traceback" not in outcome.stderr
    for text in says:
        assert text in outcome.stderr
    assert "Traceback" in run(project, "featurize", TRAK_TRACEBACK="1").stderr


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_closed_pipe_is_not_an_error(scored: Project, as_json: list[str]) -> None:
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


def test_helpful_samples_have_positive_scores_and_harmful_ones_negative(scored: Project) -> None:
    found = json.loads(scored.done("top", "-k", str(ROWS), "--json").stdout)["targets"][0]
    assert found["helpful"]
    assert found["harmful"]
    assert all(one["score"] > 0 for one in found["helpful"])
    assert all(one["score"] < 0 for one in found["harmful"])
    assert len(found["helpful"]) + len(found["harmful"]) <= ROWS


BEHAVES_BADLY = """
import sys
import warnings

import torch
from torch import nn

import tiny_plugin
from trak_cli.tasks import Classification


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Data(tiny_plugin.Data):
    def __init__(self, rows, seed=0, fault=None):
        super().__init__(rows, seed)
        self.fault = fault

    def __len__(self):
        if self.fault == "length":
            raise ZeroDivisionError
        return -1 if self.fault == "negative" else "many" if self.fault == "text" else self.rows

    def __getitem__(self, row):
        if self.fault == "exit" and row == 5:
            sys.exit("no such file")
        if self.fault == "mute" and row == 5:
            raise MuteError
        return super().__getitem__(row)

    def describe(self, row):
        raise SystemExit


class Opaque:
    def __init__(self, rows, seed):
        pass

    def __getattr__(self, name):
        raise RuntimeError("not connected")


class Task(Classification):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def output(self, model, batch):
        if self.fault == "output":
            {}["logits"]
        if self.fault == "recursion":
            return self.output(model, batch)
        return super().output(model, batch)

    def out_to_loss_grad(self, model, batch, output):
        if self.fault == "q":
            assert False
        return super().out_to_loss_grad(model, batch, output)

    def validate(self, model, batch):
        if self.fault == "validate":
            raise GeneratorExit

    def loss(self, model, batch):
        if self.fault == "loss":
            raise MuteError
        return super().loss(model, batch)


class Hooked(tiny_plugin.Net):
    def __init__(self, fault="load"):
        super().__init__()
        self.fault = fault
        if fault == "build":
            sys.exit(0)
        self.register_load_state_dict_post_hook(self.loaded)

    def loaded(self, module, keys):
        if self.fault == "load":
            raise IndexError

    def train(self, mode=True):
        if self.fault == "eval" and not mode:
            raise OSError("no licence")
        return super().train(mode)

    def forward(self, x):
        if self.fault == "warn":
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                torch.tensor(x)
        return super().forward(x)


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        raise StopIteration


class NoBackward(tiny_plugin.Net):
    def forward(self, x):
        return super().forward(x) + Backward.apply(self.second.bias)


class Trainer:
    def train(self, model, task, dataset, indices, seed, collate, device):
        raise SystemExit


def collate(samples):
    raise RecursionError
"""


@pytest.mark.parametrize(
    ("stage", "override", "says"),
    [
        ("featurize", "dataset.train={_target_: bad.Data, rows: 60, fault: length}", ("dataset.train", "ZeroDivisionError")),
        ("train", "dataset.train={_target_: bad.Data, rows: 60, fault: negative}", ("dataset.train", "ValueError")),
        ("retrain", "dataset.train={_target_: bad.Data, rows: 60, fault: text}", ("dataset.train", "TypeError")),
        ("doctor", "dataset.train={_target_: bad.Data, rows: 60, fault: exit}", ("sample 5 of", "SystemExit: no such file")),
        ("featurize", "dataset.train={_target_: bad.Data, rows: 60, fault: mute}", ("sample 5 of", "`raise MuteError`")),
        ("featurize", "dataset.train={_target_: bad.Opaque}", ("dataset.train", "not connected", "bad.py:")),
        ("train", "dataset.collate={_target_: bad.collate, _partial_: true}", ("RecursionError", "bad.py:")),
        ("featurize", "task={_target_: bad.Task, fault: output}", ("KeyError: 'logits'", "bad.py:", "in output")),
        ("featurize", "task={_target_: bad.Task, fault: recursion}", ("RecursionError", "bad.py:")),
        ("featurize", "task={_target_: bad.Task, fault: q}", ("AssertionError: no message, at `assert False`", "bad.py:")),
        ("featurize", "task={_target_: bad.Task, fault: validate}", ("GeneratorExit", "bad.py:")),
        ("train", "task={_target_: bad.Task, fault: loss}", ("trainer", "`raise MuteError`", "bad.py:")),
        ("featurize", "model={_target_: bad.Hooked}", ("a.safetensors, loaded into the model", "IndexError", "bad.py:")),
        ("train", "model={_target_: bad.Hooked, fault: build}", ("model", "SystemExit: 0", "bad.py:")),
        ("featurize", "model={_target_: bad.Hooked, fault: eval}", ("model.eval()", "OSError: no licence", "bad.py:")),
        ("featurize", "model={_target_: bad.Hooked, fault: warn}", ("a warning raised as an exception", "bad.py:")),
        ("featurize", "model={_target_: bad.NoBackward}", ("StopIteration", "bad.py:", "in backward")),
        ("retrain", "trainer={_target_: bad.Trainer}", ("trainer", "the end of the program, SystemExit", "bad.py:")),
    ],
)
def test_whatever_a_plugin_raises_is_a_refusal(project: Project, stage: str, override: str, says: tuple[str, ...]) -> None:
    """Never a traceback, and never the exit code of a bug or of success."""
    (project.folder / "bad.py").write_text(BEHAVES_BADLY)
    outcome = project.trak(stage, override)
    told = outcome.stdout + outcome.stderr
    assert outcome.code == INPUT, told
    assert "Traceback" not in told
    for text in says:
        assert text in told


@pytest.mark.parametrize("raised", ["SystemExit(0)", "GeneratorExit", "RecursionError", "AssertionError"])
def test_a_plugin_that_cannot_be_imported_is_wrong_configuration(project: Project, raised: str) -> None:
    (project.folder / "bad.py").write_text(f"raise {raised}\n")
    project.refused(2, "featurize", "model={_target_: bad.Net}", says=("importing bad raised", raised.split("(")[0], "line 1"))


def test_describe_of_a_data_set_that_raises(scored: Project) -> None:
    (scored.folder / "bad.py").write_text(BEHAVES_BADLY)
    asked = f"dataset.train={{_target_: bad.Data, rows: {ROWS}, seed: 1}}"
    scored.refused(INPUT, "top", asked, "-t", "0", says=("describe(", "the end of the program", "bad.py:"))
