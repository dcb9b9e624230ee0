"""The collate function of token sequences: pads to the longest sample of the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trak_cli.batches import IGNORED
from trak_cli.errors import InputError, Problem
from trak_cli.plugins.text.tokenizer import load_tokenizer, padding_token


class Padding:
    """Collates mappings: sequences (T,) become (B, longest T), numbers become (B,).

    Labels are padded with −100, token ids with the padding token, all else (attention_mask, token_type_ids) with 0; always
    on the right.

    Args:
        tokenizer: the dataset's: a hub id, a folder or a tokenizer.json; null: the tokenizer.json here.
        revision: of the hub's repository.
    """

    def __init__(self, tokenizer: str | None = None, revision: str | None = None) -> None:
        self._token = padding_token(load_tokenizer(tokenizer, revision))

    def __call__(self, samples: list[Any]) -> dict[str, Tensor]:
        """The batch.

        Raises:
            InputError: the samples are not mappings with the same keys.
        """
        first = samples[0]
        if not all(isinstance(sample, dict) and sample.keys() == first.keys() for sample in samples):
            found = "samples that are no mappings, or have different keys"
            raise InputError(_mixed(found))
        return {key: self._padded(key, [torch.as_tensor(sample[key]) for sample in samples]) for key in first}

    def _padded(self, key: str, values: list[Tensor]) -> Tensor:
        if len({value.dim() for value in values}) > 1:
            raise InputError(_mixed(f"{key} that are numbers in some samples and sequences in others"))
        if values[0].dim() == 0:
            return torch.stack(values)
        filling = IGNORED if key == "labels" else self._token if key.endswith("input_ids") else 0
        return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=filling)


def _mixed(found: str) -> Problem:
    remedy = "use Padding with one of the datasets of trak_cli.plugins.text"
    return Problem("dataset.collate", found, "mappings of the same kind", remedy)
