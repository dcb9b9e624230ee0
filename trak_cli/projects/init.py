"""``trak init``: write the folder of a new project."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trak_cli.config.wording import one_of, unknown
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.images.folder import class_folders
from trak_cli.projects.checkpoint_model import CheckpointModel, model_of
from trak_cli.projects.data_columns import absent, class_names, columns_for, first_rows, is_whole, number_columns
from trak_cli.projects.kinds import KINDS, Kind, is_dotted, kind_of_data
from trak_cli.projects.text import script, yaml

#: What the key gradients.optimizer says for each answer.
OPTIMIZERS = {"adam": "adam", "adamw": "adam", "sgd": "sgd"}


@dataclass(frozen=True)
class Answers:
    """What is known about a project. Paths are relative to the current folder, or absolute.

    Attributes:
        name: of the project, its folder and its run.
        checkpoints: a path or pattern.
        kind: a key of :data:`kinds.KINDS`; empty: what the checkpoint or the training set says.
        train, targets: the training set and the samples to explain: a file, a folder, or, for kind own, a dotted name.
        model: dotted name of a class or function of yours that builds the model; empty: what the checkpoint says.
        optimizer: adam, adamw or sgd; empty: read from the checkpoints, or sgd.
        columns: key of the data set -> column, where the names of the columns do not say it.
    """

    name: str
    checkpoints: str
    kind: str = ""
    train: str = ""
    targets: str = ""
    model: str = ""
    optimizer: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InitSummary:
    """What was written, and what the checkpoint says.

    Attributes:
        python_path: the folder of your modules, if it is not that of the project; it must be on PYTHONPATH.
    """

    folder: Path
    files: list[Path]
    kind: str
    model: str
    checkpoints: int
    python_path: Path | None


def look(answers: Answers) -> tuple[CheckpointModel, int]:
    """What the first checkpoint says about its model, and the number of checkpoints.

    Raises:
        ConfigError, InputError: no checkpoint, or one that cannot be read.
    """
    files = find(answers.checkpoints, Path())
    return (CheckpointModel() if answers.model else model_of(files[0])), len(files)


def init(answers: Answers, seen: tuple[CheckpointModel, int] | None = None) -> InitSummary:
    """Write the folder ``answers.name`` with trak.yaml and run.sh; nothing is written if anything is refused.

    Args:
        seen: the result of :func:`look`, if the checkpoints have been looked at already.

    Raises:
        ConfigError: answers that are missing or contradict each other, all at once; or the folder holds such files.
        InputError: a checkpoint or a data file cannot be read.
    """
    folder = Path(answers.name)
    known, count = seen or look(answers)
    name = answers.kind or known.kind or kind_of_data(answers.train) or ("own" if answers.model else "")
    ConfigError.raise_for(_problems(answers, known, name, folder))
    kind = KINDS[name]
    model = {"_target_": answers.model} if answers.model else dict(known.model)
    text = yaml(_sections(answers, known, kind, name, model))
    beside = _has_modules_here(answers, folder)
    files = {folder / "trak.yaml": text, folder / "run.sh": script(shlex.quote(answers.name), beside)}
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        path.write_text(content)
    (folder / "run.sh").chmod(0o755)
    shown = str(model.get("name") or model.get("pretrained") or answers.model)
    return InitSummary(folder, list(files), name, shown, count, Path() if beside else None)


def _has_modules_here(answers: Answers, folder: Path) -> bool:
    """Whether a module that the project names lies in the current folder, which ``-d`` does not make importable."""
    tops = {name.partition(".")[0] for name in (answers.model, answers.train, answers.targets) if is_dotted(name)}
    return any(
        (Path(f"{top}.py").is_file() or Path(top, "__init__.py").is_file()) and not (folder / f"{top}.py").is_file()
        for top in tops
    )


def _problems(answers: Answers, known: CheckpointModel, kind: str, folder: Path) -> list[Problem]:
    problems = []
    if kind not in KINDS:
        found = f"a checkpoint of {known.tensors} tensors that no known architecture has"
        remedy = "give --model MODULE.CLASS for a model of yours, and --kind if its data are of a known kind"
        problems.append(unknown("--kind", kind, list(KINDS)) if kind else Problem("--kind", found, one_of(list(KINDS)), remedy))
    elif not answers.model and not known.model:
        found = f"a checkpoint of {known.tensors} tensors that no known architecture has"
        problems.append(Problem("--model", found, "your class or function that builds the model", "give --model MODULE.CLASS"))
    data = KINDS[kind].data if kind in KINDS else "the data"
    for option, value in (("--train", answers.train), ("--targets", answers.targets)):
        if not value:
            problems.append(Problem(option, "nothing", data, f"give {option}"))
        elif kind == "own" and not is_dotted(value):
            remedy = "give MODULE.CLASS, or --kind for a file or folder of a known kind"
            problems.append(Problem(option, value, data, remedy))
        elif kind in KINDS and kind != "own":
            there, what = (Path(value).is_dir(), "folder") if KINDS[kind].folder else (Path(value).is_file(), "file")
            if not there:
                problems.append(Problem(option, f"{value}: no such {what}", data, "correct the path"))
    if answers.optimizer not in ("", *OPTIMIZERS):
        problems.append(unknown("--optimizer", answers.optimizer, list(OPTIMIZERS)))
    problems += [
        Problem(str(path), "a file that is there already", "a new project", "choose another name, or remove the file")
        for path in (folder / "trak.yaml", folder / "run.sh")
        if path.exists()
    ]
    return problems


def _sections(answers: Answers, known: CheckpointModel, kind: Kind, name: str, model: dict[str, Any]) -> dict[str, Any]:
    """The sections of the YAML file, in their order."""
    if known.library in ("torchvision", "timm", "hf_image") and Path(answers.train).is_dir():
        classes = len(class_folders(Path(answers.train)))
        if model.get("classes", classes) != classes:
            found, expected = f"{classes} folders in {answers.train}", f"{model['classes']}, the classes of the checkpoint"
            raise ConfigError(Problem("--train", found, expected, "give the data that the model was trained on"))
    data, task = _data(answers, kind, name)
    groups = {"model": "" if answers.model else known.library, "dataset": kind.dataset, "task": task}
    sections: dict[str, Any] = {
        "defaults": ["trak", "_self_", *({f"override {group}": option} for group, option in groups.items() if option)],
        "name": Path(answers.name).name,
        "checkpoints": answers.checkpoints,
        "model": model,
        "dataset": data,
    }
    if answers.optimizer:
        sections["gradients"] = {"optimizer": OPTIMIZERS[answers.optimizer]}
    return sections


def _data(answers: Answers, kind: Kind, name: str) -> tuple[dict[str, Any], str]:
    """The section ``dataset``, and the task."""
    if name == "own":
        return {"train": {"_target_": answers.train}, "targets": {"test": {"_target_": answers.targets}}}, kind.task
    train: dict[str, Any] = {"path": answers.train}
    task = kind.task
    if kind.columns:
        path = Path(answers.train)
        rows = first_rows(path)
        columns = columns_for(path, rows, kind.columns, answers.columns)
        train |= columns
        if "label" in columns and (classes := class_names(rows, columns["label"])) is not None:
            train["classes"] = classes
        if name == "table":
            train["inputs"] = number_columns(rows, columns["label"])
            if "classes" not in train and not is_whole(rows, columns["label"]):
                task = "regression"
        targets = Path(answers.targets)
        needed = [*columns.values(), *train.get("inputs", ())]
        InputError.raise_for(absent(targets, first_rows(targets, "--targets"), needed, "give files with the same columns"))
    return {"train": train, "targets": {"test": {"path": answers.targets}}}, task
