"""CIFAR-10 and CIFAR-100 in their binary version. The pickled version is not supported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.images.transform import channel_problems, normalised
from trak_cli.plugins.new_samples import labelled_image

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32

#: classes -> (label bytes before the pixels, the last of which counts; files of each split).
_VERSIONS: dict[int, tuple[int, dict[str, list[str]]]] = {
    10: (1, {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}),
    100: (2, {"train": ["train.bin"], "test": ["test.bin"]}),
}


class Cifar(Dataset[tuple[Tensor, int]]):
    """One split of CIFAR: sample i is (image (3, 32, 32) float32, normalised, label). The files are memory-mapped.

    Args:
        path: the folder with the .bin files (data_batch_1.bin …, test_batch.bin; or train.bin, test.bin).
        split: "train" or "test".
        classes: 10 or 100 (the fine labels).
        only: labels to select, in their new order: [3, 5] gives cats label 0 and dogs label 1. Null: all.
        first, last: half-open range of the (selected) images; null: all.
        mean, std: of each channel, of values in [0, 1].

    Raises:
        InputError: a file is missing or has another size.
        ConfigError: names all arguments that are out of range.
    """

    def __init__(
        self,
        path: str,
        split: str = "train",
        classes: int = 10,
        only: Sequence[int] | None = None,
        first: int | None = None,
        last: int | None = None,
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2470, 0.2435, 0.2616),
    ) -> None:
        problems = channel_problems(mean, std) if len(mean) == 3 else channel_problems((), ())
        if classes not in _VERSIONS:
            problems.append(Problem("dataset classes", str(classes), "10 or 100", "choose one"))
        if split not in ("train", "test"):
            problems.append(Problem("dataset split", repr(split), "'train' or 'test'", "choose one of them"))
        wanted = list(range(classes)) if only is None else list(only)
        if not wanted or len(set(wanted)) < len(wanted) or not all(0 <= label < classes for label in wanted):
            problems.append(Problem("dataset only", str(wanted), f"distinct labels from 0 to {classes - 1}", "correct them"))
        ConfigError.raise_for(problems)
        labels, files = _VERSIONS[classes]
        self._records = _mapped([Path(path) / name for name in files[split]], labels + _PIXELS)
        self._skip, self._mean, self._std = labels, tuple(mean), tuple(std)
        every = np.concatenate([records[:, labels - 1] for records in self._records])
        place = np.full(256, -1, dtype=np.int64)
        place[wanted] = np.arange(len(wanted))
        self._labels = place[every]
        self.index = np.flatnonzero(self._labels >= 0)[slice(first, last)]
        self._ends = np.cumsum([len(records) for records in self._records])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        row = int(self.index[i])
        return normalised(torch.from_numpy(self._pixels(row)), self._mean, self._std), int(self._labels[row])

    def sample_from(self, record: Mapping[str, Any]) -> tuple[Tensor, int]:
        """The sample of a new image: ``image``, the path of a file, resized to 32 × 32, and ``label``.

        Raises:
            InputError: a value is missing or unknown, or no such image.
        """
        pixels, label = labelled_image(record, _SHAPE)
        return normalised(torch.from_numpy(pixels), self._mean, self._std), label

    def describe(self, i: int) -> dict[str, Any]:
        """What a report shows of sample i: "image", (32, 32, 3) uint8, and "label"."""
        row = int(self.index[i])
        return {"image": self._pixels(row).transpose(1, 2, 0), "label": int(self._labels[row])}

    def _pixels(self, row: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        file = int(np.searchsorted(self._ends, row, side="right"))
        place = row - (int(self._ends[file - 1]) if file else 0)
        return np.array(self._records[file][place, self._skip :]).reshape(_SHAPE)


def _mapped(files: list[Path], record: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Each file as (images, record) bytes, mapped read-only."""
    problems = []
    for file in files:
        if not file.is_file():
            pickled = " (the pickled Python version is there; it is not read)" if file.with_suffix("").is_file() else ""
            remedy = "unpack the binary version of the data set there, or correct the path"
            problems.append(Problem(str(file), f"no such file{pickled}", "CIFAR's binary version", remedy))
        elif file.stat().st_size == 0 or file.stat().st_size % record:
            found = f"{file.stat().st_size} bytes"
            problems.append(Problem(str(file), found, f"a multiple of {record} bytes", "copy it again, or correct classes"))
    InputError.raise_for(problems)
    return [np.memmap(file, dtype=np.uint8, mode="r").reshape(-1, record) for file in files]
