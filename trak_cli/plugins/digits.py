"""scikit-learn's handwritten digits (1797 images of 8 × 8 pixels, part of that package) and a small network for them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.new_samples import labelled_image
from trak_cli.types import Float32, IntArray


class Digits(Dataset[tuple[Tensor, int]]):
    """One split of the digits: sample i is (image (1, 8, 8) float32 in [0, 1], label in 0..9).

    The images are shuffled by ``seed``; the first ``train`` of them are the training set and the next ``targets`` the test
    set, so both splits must get the same numbers.

    Args:
        split: "train" or "test".
        train: size of the training set.
        targets: size of the test set.
        seed: of the shuffle, which is the same on every machine and with every version of NumPy.

    Raises:
        ConfigError: scikit-learn is not installed, or the numbers do not fit the 1797 images.
    """

    def __init__(self, split: str = "train", train: int = 1200, targets: int = 200, seed: int = 0) -> None:
        images, labels = _load()
        problems = []
        if split not in ("train", "test"):
            problems.append(Problem("dataset split", repr(split), "'train' or 'test'", "choose one of them"))
        if train < 1 or targets < 1 or train + targets > len(images):
            found = f"train={train}, targets={targets}"
            expected = f"positive sizes, together at most {len(images)}"
            problems.append(Problem("dataset sizes", found, expected, "choose smaller sets"))
        ConfigError.raise_for(problems)
        order = _shuffled(len(images), seed)
        self.index = order[:train] if split == "train" else order[train : train + targets]
        self._images = images
        self._labels = labels

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        row = self.index[i]
        return torch.from_numpy(self._images[row].copy()).unsqueeze(0), int(self._labels[row])

    def sample_from(self, record: Mapping[str, Any]) -> tuple[Tensor, int]:
        """The sample of a new image: ``image``, the path of a file (white on black), resized to 8 × 8, and ``label``.

        Raises:
            InputError: a value is missing or unknown, or no such image.
        """
        pixels, label = labelled_image(record, (1, 8, 8))
        return torch.from_numpy(pixels.astype(np.float32) / 255), label

    def describe(self, i: int) -> dict[str, Any]:
        """What a report shows of sample i: "image", (8, 8) float32 in [0, 1], and "label"."""
        row = self.index[i]
        return {"image": self._images[row].copy(), "label": int(self._labels[row])}


class SmallCNN(nn.Module):
    """Two 3 × 3 convolutions, two poolings and two linear layers for (B, 1, 8, 8) images; logits (B, classes).

    With the default width, 13,706 parameters: c1 (1 → 16 channels), c2 (16 → 32), f1 (128 → 64), f2 (64 → classes).

    Args:
        classes: number of classes.
        width: channels of the first convolution; all other widths are proportional.
    """

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, width, 3, padding=1)
        self.c2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.f1 = nn.Linear(8 * width, 4 * width)
        self.f2 = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        x = torch.relu(self.c2(torch.relu(self.c1(x))))
        x = nn.functional.max_pool2d(nn.functional.max_pool2d(x, 2), 2)
        logits: Tensor = self.f2(torch.relu(self.f1(x.flatten(1))))
        return logits


def _load() -> tuple[Float32, IntArray]:
    """Images (1797, 8, 8) in [0, 1] and labels (1797,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        expected = "scikit-learn, which holds the digits"
        raise ConfigError(Problem("dataset", "no scikit-learn", expected, "pip install 'trak-cli[demo]'")) from error
    digits = load_digits()
    images: Float32 = (digits.images / 16).astype(np.float32)
    return images, digits.target.astype(np.int64)


def _shuffled(count: int, seed: int) -> IntArray:
    """0..count−1 in the order of their hashes."""
    keys = [blake2b(f"{seed}/{i}".encode(), digest_size=8).digest() for i in range(count)]
    return np.array(sorted(range(count), key=keys.__getitem__), dtype=np.int64)
