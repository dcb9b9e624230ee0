"""Checkpoints that are refused: the command in the message, pasted into a shell, makes the run work."""

from __future__ import annotations

import argparse
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fresh_process import fresh_python
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tiny_project import Project, weights
from torch import nn

from trak_cli.store.layout import Layout

CONFIG, INPUT = 2, 4


class Net(nn.Module):
    """The model of the project."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.second(torch.tanh(self.first(x))))


def net() -> Net:
    model = Net()
    model.load_state_dict(weights(5))
    return model.eval()


def pasted(project: Project, told: str) -> list[str]:
    """The overrides that the remedies give; a command in a remedy is run."""
    options: list[str] = []
    for line in told.splitlines():
        if not line.strip().startswith("do:"):
            continue
        words = shlex.split(line)
        if "python" in words:
            command = words[words.index("python") + 1 :][:2]
            done = fresh_python(project.folder, *command)
            assert done.returncode == 0, done.stderr
            options.append(f"checkpoints={words[-1]}")
        options += [word.rstrip(";") for word in words if word.startswith("checkpoints")][:1]
    return options


def scripted(folder: Path) -> None:
    torch.jit.script(net()).save(str(folder / "c.pt"))


def exported(folder: Path) -> None:
    torch.export.save(torch.export.export(net(), (torch.ones(2, 8),)), folder / "c.pt2")
    (folder / "c.pt2").rename(folder / "c.pt")


def sequential(folder: Path) -> None:
    """A whole model, in a file with its epoch."""
    first, second = nn.Linear(8, 6), nn.Linear(6, 3)
    model = nn.ModuleDict({"first": first, "second": second})
    torch.save({"epoch": 3, "net": model}, folder / "c.pt")


def own_class(folder: Path) -> None:
    """A whole model of the user's class beside objects of another class."""
    code = "import torch, argparse, tiny_plugin; " + (
        "torch.save({'args': argparse.Namespace(a=1), 'runs': [{'model': tiny_plugin.Net()}]}, 'c.pt')"
    )
    done = fresh_python(folder, "-c", code)
    assert done.returncode == 0, done.stderr


def whole(folder: Path) -> None:
    torch.save(nn.ModuleDict({"first": nn.Linear(8, 6), "second": nn.Linear(6, 3)}), folder / "c.pt")


def namespace(folder: Path) -> None:
    torch.save({"model": weights(5), "args": argparse.Namespace(lr=1.0)}, folder / "c.pt")


def omega(folder: Path) -> None:
    config = OmegaConf.create({"lr": 0.1, "layers": [1, 2]})
    torch.save({"state_dict": weights(5), "hyper_parameters": config}, folder / "c.pt")


def twice(folder: Path) -> None:
    raw = weights(5)
    torch.save({"model": raw, "ema": {name: value + 1 for name, value in raw.items()}}, folder / "c.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("write", "says"),
    [
        pytest.param(scripted, "a TorchScript archive", id="TorchScript"),
        pytest.param(exported, "an exported program", id="torch.export"),
        pytest.param(sequential, "a whole model", id="a model under a key"),
        pytest.param(whole, "a whole model", id="a model"),
        pytest.param(own_class, "tiny_plugin.Net (under runs.0.model)", id="a model of the user's class"),
        pytest.param(namespace, "argparse.Namespace (under args)", id="a class"),
        pytest.param(omega, "omegaconf.dictconfig.DictConfig (under hyper_parameters)", id="several classes"),
        pytest.param(twice, "under model, ema", id="two sets of weights"),
    ],
)
def test_a_file_that_is_not_read_as_it_is(write: Callable[[Path], None], says: str, project: Project) -> None:
    write(project.folder)
    told = project.refused(INPUT, "featurize", "checkpoints=c.pt", says=(says,))
    project.done("featurize", "checkpoints=c.pt", *pasted(project, told))
    assert len(Layout(project.store).checkpoints()) == 1


def test_a_class_is_named_beside_those_that_are_already_allowed(project: Project) -> None:
    content = {"model": weights(5), "args": argparse.Namespace(lr=1.0), "config": OmegaConf.create({"a": 1})}
    torch.save(content, project.folder / "c.pt")
    first = ("checkpoints=c.pt", "checkpoints.allow=[argparse.Namespace]")
    told = project.refused(INPUT, "featurize", *first, says=("DictConfig (under config)",))
    assert "argparse.Namespace (" not in told
    (option,) = pasted(project, told)
    assert option.startswith("checkpoints.allow=[argparse.Namespace,")
    project.done("featurize", "checkpoints=c.pt", option)


@pytest.mark.parametrize(
    ("allow", "says"),
    [
        ("nowhere.Thing", "no module 'nowhere'"),
        ("argparse.Nmespace", "did you mean argparse.Namespace?"),
        ("os.system", "a class: a file could call a function"),
    ],
)
def test_what_is_no_class_is_not_allowed(allow: str, says: str, project: Project) -> None:
    namespace(project.folder)
    project.refused(
        CONFIG, "featurize", "checkpoints=c.pt", f"checkpoints.allow=[{allow}]", says=("checkpoints.allow[0]", says)
    )


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_class_that_could_run_commands_is_not_offered(project: Project) -> None:
    class Commands:
        def __reduce__(self) -> Any:
            return subprocess.Popen, (["touch", str(project.folder / "marker")],)

    torch.save({"model": weights(5), "extra": Commands()}, project.folder / "c.pt")
    told = project.refused(INPUT, "featurize", "checkpoints=c.pt", says=("Popen (under extra)",))
    assert "checkpoints.allow" not in told
    assert not (project.folder / "marker").exists()


def trainer_folders(folder: Path) -> None:
    for step in (100, 200):
        inner = folder / "out" / f"checkpoint-{step}"
        inner.mkdir(parents=True)
        save_file(weights(step), inner / "model.safetensors")
        torch.save({"state": {}}, inner / "optimizer.pt")
        (inner / "config.json").write_text("{}")


def distributed(folder: Path) -> None:
    import torch.distributed.checkpoint as dcp

    dcp.save({"model": weights(5)}, checkpoint_id=folder / "dcp")


def loose(folder: Path) -> None:
    (folder / "loose").mkdir()
    for name in ("a(1).pt", "b=2.pt"):
        torch.save(weights(len(name)), folder / "loose" / name)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("write", "checkpoints", "says", "count"),
    [
        (distributed, "dcp/__0_0.distcp", "named by one of its files", 1),
        (distributed, "dcp/*", "named by one of its files", 1),
        (distributed, "dcp/.metadata", "named by one of its files", 1),
        (loose, "loose", "a folder that is not a checkpoint", 2),
        (loose, "l*", "a folder that is not a checkpoint", 2),
        (loose, "[loose/a(1).pt,checkpoints/a.safetensors]", "Hydra's override syntax", 2),
        (loose, "loose/b=2.pt,checkpoints/a.safetensors", "Hydra's override syntax", 2),
        (loose, "checkpoints/b.pt,checkpoints/a.safetensors", "a sweep", 2),
        (trainer_folders, "out/checkpoint-100/optimizer.pt", "writes beside the weights", 1),
        (trainer_folders, "out/checkpoint-*/*", "config.json", 2),
        (trainer_folders, "out", "a folder that is not a checkpoint", 2),
    ],
)
def test_paths_that_are_not_checkpoints(
    write: Callable[[Path], None], checkpoints: str, says: str, count: int, project: Project
) -> None:
    write(project.folder)
    told = project.refused(CONFIG, "featurize", f"checkpoints={checkpoints}", says=(says,))
    options = pasted(project, told)
    assert len(set(options)) == 1
    project.done("featurize", options[0])
    assert len(Layout(project.store).checkpoints()) == count


def test_folders_of_the_trainer_are_checkpoints_with_their_names(project: Project) -> None:
    trainer_folders(project.folder)
    project.done("featurize", "checkpoints=out/checkpoint-*")
    names = Layout(project.store).checkpoints()
    assert [name.rpartition("-")[0] for name in names] == ["checkpoint-100", "checkpoint-200"]
    project.done("featurize", "checkpoints=[out/checkpoint-200/model.safetensors,out/checkpoint-100/model.safetensors]")
    assert Layout(project.store).checkpoints() == names
    project.done("finalize", "estimator.average_over=[checkpoint-100]")
    project.refused(3, "finalize", "estimator.average_over=[checkpoint-10]", says=("matches none", "checkpoint-100"))
    project.refused(2, "finalize", "estimator.checkpoints=[checkpoint-100]", says=("did you mean estimator.average_over?",))


def test_the_home_folder_and_equals_signs_need_no_quotes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    home = project.folder / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    torch.save({"state_dict": {f"model.{name}": value for name, value in weights(5).items()}}, home / "epoch=3-step=40.ckpt")
    project.done("featurize", "checkpoints=~/epoch=3-step=40.ckpt", "store=~/runs/one")
    assert [name.rpartition("-")[0] for name in Layout(home / "runs" / "one").checkpoints()] == ["epoch_3-step_40"]
    project.done("featurize", "checkpoints=[~/epoch=3-step=40.ckpt]", "store=~/runs/one")
