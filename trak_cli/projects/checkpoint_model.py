"""Which model a checkpoint belongs to: from the config file beside it, or from the names and shapes of its tensors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.formats.tensors import NamedTensors
from trak_cli.plugins.checkpoints.matching.choice import choose
from trak_cli.plugins.checkpoints.matching.tolerance import Tolerance
from trak_cli.plugins.checkpoints.state import load
from trak_cli.projects.kinds import OF_ARCHITECTURE
from trak_cli.types import Json
from trak_cli.user_files import parse_json, read_text

#: Classifiers of timm that are tried by name; torchvision's are all tried.
_TIMM = (
    *("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "vit_base_patch32_224"),
    *("deit_tiny_patch16_224", "deit_small_patch16_224", "resnet18", "resnet34", "resnet50", "resnet26", "resnetv2_50"),
    *("convnext_tiny", "convnext_small", "efficientnet_b0", "mobilenetv3_large_100", "swin_tiny_patch4_window7_224"),
)

#: Classifiers of torchvision that are tried first.
_COMMON = ("resnet", "vit", "mobilenet")


@dataclass(frozen=True)
class CheckpointModel:
    """What a checkpoint says about its model.

    Attributes:
        kind: of the project (a key of :data:`kinds.KINDS`), if it follows from the checkpoint.
        model: the ``model`` section of the configuration; empty if the architecture is not known.
        library: the config group of the model, such as torchvision; empty if the architecture is not known.
        tensors: number of tensors, for the message.
    """

    kind: str = ""
    library: str = ""
    model: Json = field(default_factory=dict)
    tensors: int = 0


def model_of(path: Path) -> CheckpointModel:
    """Look into a checkpoint, a file or a folder.

    Raises:
        InputError: it cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    config = _json(folder / "config.json")
    if config is not None and (named := _from_config(config, folder)) is not None:
        return named
    tensors = load(path)
    classes = _last_rows(tensors)
    for library, name, model in _candidates(classes):
        try:
            choose(model.state_dict(), tensors, path, None, Tolerance(model))
        except InputError:
            continue
        return CheckpointModel("image_folder", library, {"name": name, "classes": classes}, len(tensors))
    return CheckpointModel(tensors=len(tensors))


def _from_config(config: Mapping[str, Any], folder: Path) -> CheckpointModel | None:
    """From the config.json of transformers or timm."""
    if isinstance(name := config.get("architecture"), str):
        return CheckpointModel("image_folder", "timm", {"name": name, "classes": config.get("num_classes", 1000)})
    for architecture in config.get("architectures") or []:
        for end, (kind, library) in OF_ARCHITECTURE.items():
            if str(architecture).endswith(end):
                key = "name" if library == "hf_image" else "pretrained"
                return CheckpointModel(kind, library, {key: folder.as_posix()})
    return None


def _candidates(classes: int) -> Iterator[tuple[str, str, nn.Module]]:
    """Yield library, name and model (without data) of known image classifiers; none if no library is installed."""
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        for library, names, build in (*_torchvision(), *_timm()):
            for name in names:
                try:
                    yield library, name, build(name, num_classes=classes)
                except (TypeError, ValueError, RuntimeError, NotImplementedError):  # not every model is a plain classifier
                    continue


def _torchvision() -> list[tuple[str, list[str], Any]]:
    try:
        models = import_module("torchvision.models")
    except (ImportError, RuntimeError):
        return []
    names = sorted(models.list_models(module=models), key=lambda name: (not name.startswith(_COMMON), name))
    return [("torchvision", names, partial(models.get_model, weights=None))]


def _timm() -> list[tuple[str, list[str], Any]]:
    try:
        timm = import_module("timm")
    except (ImportError, RuntimeError):
        return []
    return [("timm", [name for name in _TIMM if timm.is_model(name)], timm.create_model)]


def _last_rows(tensors: NamedTensors) -> int:
    """The number of rows of the last matrix: the classes, in a classifier."""
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    return next((shape[0] for shape in reversed(shapes) if len(shape) == 2), 1000)


def _json(path: Path) -> Json | None:
    if not path.is_file():
        return None
    try:
        content = parse_json(read_text(path))
    except (ValueError, OSError) as error:
        raise InputError(Problem(str(path), f"{type(error).__name__}: {error}", "a JSON file", "restore the file")) from error
    return content if isinstance(content, dict) else None
