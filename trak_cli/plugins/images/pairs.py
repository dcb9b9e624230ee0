"""Images with captions: a folder of images, and a CSV or JSONL file with the caption of each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.images.transform import ImageTransform
from trak_cli.plugins.new_samples import by_role
from trak_cli.plugins.optional import needed
from trak_cli.plugins.samples import sample_id
from trak_cli.user_errors import first_line
from trak_cli.user_files import parse_json

#: Mean and standard deviation of the channels for OpenAI's CLIP and most later CLIP models.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Tokens:
    """The tokens of one text.

    Attributes:
        ids: (length,) int64, the tokens of the text, then padding.
        mask: (length,) int64, 1 for the text and 0 for padding.
        count: number of tokens of the text.
    """

    ids: Tensor
    mask: Tensor
    count: int


def _tokenizer(name: str, length: int) -> Callable[[str], Tokens]:
    """Text -> :class:`Tokens` by a Hugging Face tokenizer, truncated (the end token is kept) or padded to ``length``.

    Args:
        name: hub id, local folder, or path of a tokenizer.json file.
        length: at least 2.

    Raises:
        ConfigError: no transformers, no such tokenizer, or a length below 2.
    """
    transformers = needed("transformers", "clip", "dataset.tokenizer")
    if length < 2:
        raise ConfigError(Problem("dataset length", str(length), "2 or more", "give length=77"))
    try:
        if name.endswith(".json") and Path(name).is_file():
            tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=name)
        else:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare exceptions for an invalid file
        found = f"{name}: {first_line(error)}"
        expected = "a hub id, a folder or a tokenizer.json file"
        raise ConfigError(Problem("dataset.tokenizer", found, expected, "correct it")) from error
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def tokens(text: str) -> Tokens:
        numbers = tokenizer(text, truncation=True, max_length=length)["input_ids"]
        ids = torch.full((length,), padding, dtype=torch.int64)
        ids[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return Tokens(ids, (torch.arange(length) < len(numbers)).long(), len(numbers))

    return tokens


class ImageTextPairs(Dataset[dict[str, Any]]):
    """Sample i is {"pixel_values": (C, size, size) float32, "input_ids": (length,), "attention_mask": (length,), "key": int}.

    The key is a digest of pixels and tokens, so that equal pairs have equal keys in every split.

    Args:
        path: folder of the images.
        table: a .csv file whose first line names the columns, or a .jsonl file with one object on each line.
        tokenizer: hub id, folder, or tokenizer.json file.
        image, caption: names of the columns: path of the image, relative to ``path``; text.
        length: every caption is truncated or padded to this many tokens; CLIP was trained with 77. Padding is masked, so
            a smaller length that holds every caption gives the same features in less time.
        first, last: half-open range of rows; null: all.
        size, resize, mean, std, interpolation: see :class:`~trak_cli.plugins.images.ImageTransform`.

    Raises:
        InputError: no such file or column, an empty table, images that are missing.
        ConfigError: settings out of range, or no such tokenizer.
    """

    def __init__(
        self,
        path: str,
        table: str,
        tokenizer: str,
        image: str = "image",
        caption: str = "caption",
        length: int = 77,
        first: int | None = None,
        last: int | None = None,
        size: int = 224,
        resize: int | None = None,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        interpolation: str = "bicubic",
    ) -> None:
        self._transform = ImageTransform(size, resize, tuple(mean), tuple(std), interpolation)
        self._tokens = _tokenizer(tokenizer, length)
        rows = _rows(Path(table), [image, caption])[slice(first, last)]
        self._roles = {"image": image, "caption": caption}
        self._pairs = [(Path(path) / row[image], row[caption]) for row in rows]
        missing = [file for file, _ in self._pairs if not file.is_file()]
        if missing:
            found = f"no file {missing[0]}" + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
            raise InputError(Problem(table, found, f"paths relative to {path}", "correct path, or leave these rows out"))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, i: int) -> dict[str, Any]:
        file, caption = self._pairs[i]
        return pair(self._transform.read(file), self._tokens(caption))

    def sample_from(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The sample of a new pair: ``image``, the path of a file, and ``caption``.

        Raises:
            InputError: a value is missing or unknown, or no such image.
        """
        values = by_role(record, self._roles)
        return pair(self._transform.read(Path(values["image"])), self._tokens(str(values["caption"])))

    def describe(self, i: int) -> dict[str, Any]:
        """What a report shows of sample i: "image" as cropped, "caption" and "file"."""
        file, caption = self._pairs[i]
        pixels = self._transform.pixels(file)
        image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        return {"image": image, "caption": caption, "file": str(file)}


def pair(pixels: Tensor, tokens: Tokens) -> dict[str, Any]:
    """The sample of an image and its tokens, with its key: 64 signed bits."""
    digest = sample_id((pixels, tokens.ids[: tokens.count]))
    key = digest - 2**64 if digest >= 2**63 else digest
    return {"pixel_values": pixels, "input_ids": tokens.ids, "attention_mask": tokens.mask, "key": key}


def _rows(table: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not table.is_file():
        raise InputError(Problem(str(table), "no such file", "a .csv or .jsonl file", "correct the path"))
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            if table.suffix == ".jsonl":
                rows = [parse_json(line) for line in file if line.strip()]
            else:
                rows = list(csv.DictReader(file, strict=True))
    except (csv.Error, ValueError) as error:
        found = f"a file that cannot be read as a table ({error})"
        raise InputError(Problem(str(table), found, "CSV or JSONL", "fix the file")) from error
    for number, row in enumerate(rows):
        for name in columns:
            if not isinstance(row, dict) or not isinstance(row.get(name), str):
                held = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
                found = f"no text under {name!r} (it has {held})"
                raise InputError(Problem(f"row {number} of {table}", found, "a text", "correct the row, or name the columns"))
    return rows
