"""Data sets of which some training samples have a wrong label, and the classifiers that learn them.

Every data set comes from scikit-learn or from the standard library. The wrong label of a sample is drawn from the other
classes; the target split has correct labels only.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "lds"))

Array = np.ndarray[Any, Any]
SAMPLES = "trak_cli.plugins.SampleFile"
IMAGES = "trak_cli.plugins.ImageFolder"

#: The photographs are cut into squares of SCALE * PIECE pixels, of which every SCALE-th is kept in each direction.
PIECE, SCALE = 24, 4


@dataclass(frozen=True)
class Setting:
    """A data set and a training.

    Attributes:
        data: a key of :data:`SETS`.
        wrong: how many training samples get a wrong label.
        model, trainer: nodes of the configuration.
        sizes: of the training set and of the target split.
        seeds: how many times it is measured, each time with other wrong labels and other models.
    """

    data: str
    sizes: tuple[int, int]
    wrong: int
    model: dict[str, Any]
    trainer: dict[str, Any]
    seeds: int = 5


CNN = {"_target_": "trak_cli.plugins.SmallCNN"}
PHOTOS = {"_target_": "suspects_models.PhotoCNN"}
TABLE = {"_target_": "trak_cli.plugins.MLP", "inputs": 30, "outputs": 2}
WORDS = {"_target_": "trak_cli.plugins.MLP", "inputs": 300, "outputs": 8}
SGD = "trak_cli.plugins.SGDTrainer"

SETTINGS = {
    "digits": Setting("digits", (1200, 400), 60, CNN, {"_target_": SGD}),
    "digits_memorised": Setting(
        "digits", (1200, 400), 60, {**CNN, "width": 24}, {"_target_": SGD, "epochs": 80, "weight_decay": 0.0}
    ),
    "photos": Setting("photos", (600, 200), 30, PHOTOS, {"_target_": SGD, "epochs": 20}),
    "photos_memorised": Setting("photos", (600, 200), 30, PHOTOS, {"_target_": SGD, "epochs": 100, "weight_decay": 0.0}),
    "cancer": Setting("cancer", (420, 149), 21, TABLE, {"_target_": SGD}),
    "cancer_memorised": Setting(
        "cancer", (420, 149), 21, {**TABLE, "hidden": [128]}, {"_target_": SGD, "epochs": 200, "weight_decay": 0.0}
    ),
    "words": Setting("words", (800, 150), 40, WORDS, {"_target_": SGD, "epochs": 10}),
    "words_memorised": Setting("words", (800, 150), 40, WORDS, {"_target_": SGD, "epochs": 100, "weight_decay": 0.0}),
}


def write_project(folder: Path, name: str, seed: int) -> dict[int, int | str]:
    """Write the data and the configuration of a setting; training rows with a wrong label -> right label."""
    setting = SETTINGS[name]
    folder.mkdir(parents=True, exist_ok=True)
    x, y = samples(setting.data)
    rng = np.random.default_rng(seed)
    train, targets = setting.sizes
    order = np.random.default_rng(0).permutation(len(y))[: train + targets]
    x, y = x[order], y[order]
    classes = int(y.max()) + 1
    wrong = np.sort(rng.permutation(train)[: setting.wrong])
    right: list[int | str] = y[wrong].tolist()
    y[wrong] = (y[wrong] + rng.integers(1, classes, len(wrong))) % classes
    if setting.data == "photos":
        write_folder(folder / "train", x[:train], y[:train])
        write_folder(folder / "test", x[train:], y[train:])
        wrong = np.argsort(np.argsort(y[:train], kind="stable"))[wrong]  # rows of the folder are sorted by class
        right = [f"class_{label}" for label in right]
        image = {"_target_": IMAGES, "size": PIECE}
        data = {split: {**image, "path": str(folder / split)} for split in ("train", "test")}
    else:
        for split, rows in (("train", slice(train)), ("test", slice(train, None))):
            np.savez(folder / f"{split}.npz", x=x[rows], y=y[rows])
        data = {split: {"_target_": SAMPLES, "path": str(folder / f"{split}.npz")} for split in ("train", "test")}
    config = {
        "defaults": ["trak", "_self_"],
        "name": name,
        "store": str(folder / "store"),
        "checkpoints": str(folder / "store/checkpoints/*.safetensors"),
        "device": "cpu",
        "threads": 1,
        "seed": seed,
        "model": setting.model,
        "trainer": setting.trainer,
        "dataset": {"train": data["train"], "targets": {"test": data["test"]}},
        "projection": {"dim": 512},
        "train": {"count": 3},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return dict(zip(wrong.tolist(), right, strict=True))


def samples(name: str) -> tuple[Array, Array]:
    """Inputs and labels of a data set."""
    rng = np.random.default_rng(0)
    if name == "photos":
        return photos(rng)
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return (digits.images / 16).astype(np.float32)[:, None], digits.target.astype(np.int64)
    from data import SETS

    x, y, _ = SETS[name](rng)
    return x, y


def photos(rng: np.random.Generator) -> tuple[Array, Array]:
    """Pieces of two photographs, (n, PIECE, PIECE, 3) uint8, and which half of which photograph: four classes."""
    from sklearn.datasets import load_sample_images

    x, y = [], []
    for number, image in enumerate(load_sample_images().images):
        height = image.shape[0] // 2
        for half in range(2):
            for _ in range(220):
                top = half * height + rng.integers(height - SCALE * PIECE)
                left = rng.integers(image.shape[1] - SCALE * PIECE)
                x.append(image[top : top + SCALE * PIECE : SCALE, left : left + SCALE * PIECE : SCALE])
                y.append(2 * number + half)
    return np.stack(x), np.array(y)


def write_folder(folder: Path, x: Array, y: Array) -> None:
    """One PNG file for each image, in a folder for each class."""
    from PIL import Image

    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        path = folder / f"class_{label}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
