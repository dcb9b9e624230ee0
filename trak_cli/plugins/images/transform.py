"""From an image file to the input of a model: resized, cropped, normalised, without randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.optional import needed

#: Mean and standard deviation of the channels of ImageNet's training images in [0, 1], as most of its models expect them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageTransform:
    """Resize the shorter side, crop the middle, scale to [0, 1], subtract the mean, divide by the standard deviation.

    Attributes:
        size: height and width of the crop and of the result.
        resize: length of the shorter side before cropping; null: ``size``, so that nothing of a square image is cut off.
        mean, std: one number for each channel, of values in [0, 1]: one number for grey images, three for colour.
        interpolation: bilinear or bicubic; both with antialiasing.
    """

    size: int = 224
    resize: int | None = None
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        problems = []
        if self.size < 1 or (self.resize is not None and self.resize < self.size):
            found = f"size={self.size}, resize={self.resize}"
            problems.append(Problem("dataset sizes", found, "1 ≤ size ≤ resize", "raise resize, or leave it out"))
        problems += channel_problems(self.mean, self.std)
        if self.interpolation not in ("bilinear", "bicubic"):
            problems.append(Problem("dataset interpolation", repr(self.interpolation), "bilinear or bicubic", "choose one"))
        ConfigError.raise_for(problems)

    def read(self, path: Path) -> Tensor:
        """The image in a file, (channels, size, size) float32.

        Raises:
            ConfigError: Pillow is not installed.
            InputError: no image that Pillow can read; names the file.
        """
        return normalised(torch.from_numpy(self.pixels(path)), self.mean, self.std)

    def pixels(self, path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The image resized and cropped, (channels, size, size) uint8."""
        pil = needed("PIL.Image", "vision", "dataset")
        mode = "L" if len(self.mean) == 1 else "RGB"
        try:
            with pil.open(path) as image:
                cropped = self._cropped(image.convert(mode), pil)
        except FileNotFoundError as error:
            raise InputError(Problem(str(path), "no such file", "an image file", "correct the path")) from error
        except (OSError, ValueError, SyntaxError, pil.DecompressionBombError) as error:  # SyntaxError: a broken PNG
            found = f"a file that cannot be read as an image ({error})"
            raise InputError(Problem(str(path), found, "an image file", "fix or remove the file")) from error
        array = np.array(cropped, dtype=np.uint8).reshape(self.size, self.size, -1)
        return np.ascontiguousarray(array.transpose(2, 0, 1))

    def _cropped(self, image: Any, pil: Any) -> Any:
        width, height = image.size
        short = self.resize or self.size
        scale = short / min(width, height)
        # The shorter side exactly, the longer one rounded down, as torchvision does.
        scaled = (short, int(scale * height)) if width <= height else (int(scale * width), short)
        if scaled != image.size:
            image = image.resize(scaled, pil.Resampling[self.interpolation.upper()])
        left, top = (round((length - self.size) / 2) for length in scaled)
        return image.crop((left, top, left + self.size, top + self.size))


#: Smallest size of images that are cropped by default. Images of smaller sizes are mostly stored at the size of the model.
CROPPED_SIZE = 160


def evaluation_resize(size: int) -> int:
    """The shorter side to which images are resized before a crop of ``size``, as ImageNet's models are usually evaluated.

    256/224 of ``size`` from 160 on (256 for 224), else ``size``: images of 32 or 64 pixels are stored at the size of the model.
    """
    return round(size * 256 / 224) if size >= CROPPED_SIZE else size


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (channels, H, W) as float32: divided by 255, minus the mean, divided by the standard deviation."""
    shape = (-1, 1, 1)
    return (pixels.float() / 255 - torch.tensor(mean).reshape(shape)) / torch.tensor(std).reshape(shape)


def channel_problems(mean: Sequence[float], std: Sequence[float]) -> list[Problem]:
    """What is wrong with a mean and a standard deviation for one or three channels."""
    if len(mean) == len(std) and len(mean) in (1, 3) and all(value > 0 for value in std):
        return []
    found = f"mean {list(mean)}, std {list(std)}"
    return [Problem("dataset mean and std", found, "as many numbers each, 1 or 3, std positive", "correct them")]
