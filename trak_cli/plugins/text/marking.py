"""The tokens of a sample with marks on those that the model predicts, for reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trak_cli.batches import IGNORED


def marked_tokens(tokenizer: Any, sample: Mapping[str, Tensor], unpredicted: int) -> dict[str, list[Any]]:
    """``tokens``: the text of each token, the true one where it is masked; ``predicted``: the positions of predicted ones.

    Args:
        sample: with ``input_ids`` and ``labels``, (T,) each; labels are −100 where nothing is predicted.
        unpredicted: number of labels at the start that are never predicted.
    """
    ids, labels = sample["input_ids"], sample["labels"]
    predicted = labels != IGNORED
    predicted[:unpredicted] = False
    true = torch.where(predicted, labels, ids).tolist()
    return {"tokens": spelled(tokenizer, true), "predicted": predicted.nonzero()[:, 0].tolist()}


def spelled(tokenizer: Any, ids: list[int]) -> list[str]:
    """The text of each token after the one before it, with the space between them."""
    options = {"clean_up_tokenization_spaces": False}
    pairs = tokenizer.batch_decode([ids[max(0, place - 1) : place + 1] for place in range(len(ids))], **options)
    alone = tokenizer.batch_decode([[number] for number in ids], **options)
    before = ["", *alone[:-1]]
    return [
        pair[len(first) :] if pair.startswith(first) else single
        for pair, first, single in zip(pairs, before, alone, strict=True)
    ]
