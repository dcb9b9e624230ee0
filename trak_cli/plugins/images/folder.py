"""Images in one folder for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.images.transform import IMAGENET_MEAN, IMAGENET_STD, ImageTransform, evaluation_resize
from trak_cli.plugins.new_samples import by_role, class_number
from trak_cli.plurals import counted

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """FOLDER/CLASS/….jpg: sample i is (image (C, size, size) float32, label), classes and files in the order of their names.

    Args:
        path: the folder.
        classes: names of the class folders in the order of their labels; null: all folders, sorted by name. Give it if
            a split lacks a class, so that labels mean the same in every split.
        size, mean, std, interpolation: see :class:`~trak_cli.plugins.images.ImageTransform`.
        resize: length of the shorter side before cropping; null: 256/224 of ``size`` from 160 on, else ``size``
            (:func:`~trak_cli.plugins.images.transform.evaluation_resize`).

    Raises:
        InputError: no such folder, no class folders, or none with images.
        ConfigError: settings out of range.
    """

    def __init__(
        self,
        path: str,
        classes: Sequence[str] | None = None,
        size: int = 224,
        resize: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        interpolation: str = "bilinear",
    ) -> None:
        resize = evaluation_resize(size) if resize is None else resize
        self._transform = ImageTransform(size, resize, tuple(mean), tuple(std), interpolation)
        folder = Path(path)
        self.classes = list(classes) if classes is not None else class_folders(folder)
        InputError.raise_for(
            Problem(path, f"no folder {name!r} in it", "a folder for each class", "correct classes, or the path")
            for name in classes or ()
            if not (folder / name).is_dir()
        )
        self._files = [(file, label) for label, name in enumerate(self.classes) for file in image_files(folder / name)]
        if not self._files:
            found = f"no image in {counted(len(self.classes), 'folder')}" if self.classes else "no folders"
            expected = f"FOLDER/CLASS/FILE with one of {', '.join(SUFFIXES)}"
            raise InputError(Problem(path, found, expected, "correct the path"))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        file, label = self._files[i]
        return self._transform.read(file), label

    def sample_from(self, record: Mapping[str, Any]) -> tuple[Tensor, int]:
        """The sample of a new image: ``image``, the path of a file, and ``label``, the name or the number of its class.

        Raises:
            InputError: a value is missing or unknown, or no such image or class.
        """
        values = by_role(record, {"image": "image", "label": "label"})
        return self._transform.read(Path(values["image"])), class_number(values["label"], self.classes)

    def describe(self, i: int) -> dict[str, Any]:
        """What a report shows of sample i: "image", (H, W) or (H, W, 3) uint8 as cropped, "label" and "file"."""
        file, label = self._files[i]
        pixels = self._transform.pixels(file)
        image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        return {"image": image, "label": self.classes[label], "file": str(file)}


def image_files(folder: Path) -> list[Path]:
    """Every image below a folder, sorted by relative path; hidden files are skipped."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def class_folders(path: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones are left out.

    Raises:
        InputError: no such folder.
    """
    if not path.is_dir():
        raise InputError(Problem(str(path), "no such folder", "a folder with one folder for each class", "correct the path"))
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
