"""Handwritten digits with captions, for a small CLIP model: 8 × 8 pixels, five ways of saying which digit it is."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import torch
from torch.utils.data import Dataset

from trak_cli.plugins import Digits, hf_clip
from trak_cli.plugins.images import Tokens, pair

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

TEMPLATES = (
    "a handwritten {}",
    "the digit {}",
    "a small grey picture of the number {}",
    "{} written by hand",
    "somebody wrote a {} here",
)

#: Tokens: the filling, the start, the end, and one for each word.
WORDS = sorted({word for template in TEMPLATES for word in template.split()} - {"{}"} | set(NAMES))
START, END, LENGTH = 1, 2 + 1 + len(WORDS), 10
_IDS = {word: 2 + i for i, word in enumerate(WORDS)}


class CaptionedDigits(Dataset[dict[str, Any]]):
    """Sample i is a digit and a caption of it, as task=contrastive takes them.

    Args:
        split, train, targets: see :class:`trak_cli.plugins.Digits`.
    """

    def __init__(self, split: str = "train", train: int = 600, targets: int = 100) -> None:
        self._digits = Digits(split, train, targets)
        self._split = split

    def __len__(self) -> int:
        return len(self._digits)

    def __getitem__(self, i: int) -> dict[str, Any]:
        image, _ = self._digits[i]
        return pair((image - 0.3) / 0.4, tokens(self.caption(i)))

    def caption(self, i: int) -> str:
        """The caption of sample i: its template is drawn by a hash of split and row."""
        draw = int.from_bytes(blake2b(f"{self._split}/{i}".encode(), digest_size=8).digest(), "little")
        return TEMPLATES[draw % len(TEMPLATES)].format(NAMES[self._digits[i][1]])

    def describe(self, i: int) -> dict[str, Any]:
        """What a report shows: image and caption."""
        return {"image": self._digits.describe(i)["image"], "caption": self.caption(i)}


def tokens(text: str) -> Tokens:
    """One token for each word, between start and end."""
    ids_with_ends = [START, *(_IDS[word] for word in text.split()), END]
    ids = torch.zeros(LENGTH, dtype=torch.int64)
    ids[: len(ids_with_ends)] = torch.tensor(ids_with_ends)
    return Tokens(ids, (torch.arange(LENGTH) < len(ids_with_ends)).long(), len(ids_with_ends))


def model(width: int = 32, layers: int = 2) -> torch.nn.Module:
    """A CLIPModel with patches of 2 × 2 pixels."""
    size = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, "num_attention_heads": 4}
    text = {"vocab_size": END + 1, "max_position_embeddings": LENGTH, "bos_token_id": START, "eos_token_id": END}
    vision = {"image_size": 8, "patch_size": 2, "num_channels": 1}
    config = {"projection_dim": width, "text_config": {**size, **text, "pad_token_id": 0}, "vision_config": {**size, **vision}}
    return hf_clip(config=config)
