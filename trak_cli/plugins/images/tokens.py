"""Captions as token ids of one fixed length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.optional import needed


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


def load_tokenizer(name: str, length: int) -> Callable[[str], Tokens]:
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
        found = f"{name}: {(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}"
        expected = "a hub id, a folder or a tokenizer.json file"
        raise ConfigError(Problem("dataset.tokenizer", found, expected, "correct it")) from error
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def tokens(text: str) -> Tokens:
        numbers = tokenizer(text, truncation=True, max_length=length)["input_ids"]
        ids = torch.full((length,), padding, dtype=torch.int64)
        ids[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return Tokens(ids, (torch.arange(length) < len(numbers)).long(), len(numbers))

    return tokens
