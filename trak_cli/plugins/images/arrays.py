"""Images and labels in one file of arrays (.npz, HDF5, .safetensors)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.files import SampleFile
from trak_cli.plugins.images.transform import channel_problems, normalised
from trak_cli.plugins.new_samples import labelled_image
from trak_cli.plurals import counted


class ImageFile(Dataset[tuple[Tensor, int]]):
    """uint8 images: sample i is (image (C, H, W) float32, normalised, label).

    For floating images that are ready for the model, use :class:`~trak_cli.plugins.SampleFile`.

    Args:
        path: the file.
        images: name of the array (N, C, H, W), (N, H, W, C) or (N, H, W), uint8.
        labels: name of the array (N,), integers.
        mean, std: one number for each channel, of values in [0, 1].

    Raises:
        InputError: as of :class:`~trak_cli.plugins.SampleFile`; or arrays of another dtype or shape.
        ConfigError: mean and std that do not fit together.
    """

    def __init__(
        self,
        path: str,
        images: str = "x",
        labels: str = "y",
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        ConfigError.raise_for(channel_problems(mean, std))
        self._mean, self._std = tuple(mean), tuple(std)
        self._file = SampleFile(path, (images, labels))
        image, label = self._file.rows(0) if len(self._file) else (torch.empty(0), torch.empty(0))
        self._last = image.dim() == 3 and image.shape[0] != len(mean) and image.shape[2] == len(mean)
        channels = 1 if image.dim() == 2 else image.shape[2 if self._last else 0]
        if image.dtype != torch.uint8 or image.dim() not in (2, 3) or channels != len(mean):
            found = f"{images} with rows of {image.dtype} {tuple(image.shape)}"
            expected = f"uint8 images of {counted(len(mean), 'channel')}"
            raise InputError(Problem(path, found, expected, "give a mean and std for each channel; floats: use SampleFile"))
        if label.dim() or label.is_floating_point():
            found = f"{labels} with rows of {label.dtype} {tuple(label.shape)}"
            raise InputError(Problem(path, found, "one integer for each image", "correct labels"))

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        pixels, label = self._pixels(i)
        return normalised(pixels, self._mean, self._std), label

    def sample_from(self, record: Mapping[str, Any]) -> tuple[Tensor, int]:
        """The sample of a new image: ``image``, the path of a file, resized to the size of the others, and ``label``.

        Raises:
            InputError: a value is missing or unknown, or no such image.
        """
        pixels, label = labelled_image(record, self._pixels(0)[0].shape)
        return normalised(torch.from_numpy(pixels), self._mean, self._std), label

    def rows_to_check(self, count: int) -> list[int]:
        """The rows of the smallest and the largest label."""
        return self._file.rows_to_check(count)

    def describe(self, i: int) -> dict[str, Any]:
        """What a report shows of sample i: "image", (H, W) or (H, W, 3) uint8, and "label"."""
        pixels, label = self._pixels(i)
        return {"image": (pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).numpy(), "label": label}

    def _pixels(self, i: int) -> tuple[Tensor, int]:
        image, label = self._file.rows(i)
        image = image.unsqueeze(0) if image.dim() == 2 else image
        return (image.permute(2, 0, 1) if self._last else image), int(label)
