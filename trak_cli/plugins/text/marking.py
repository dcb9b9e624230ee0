"""The tokens of a sample with marks on those that the model predicts, for reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from trak_cli.batches import IGNORED


class Marking(Mapping[str, list[Any]]):
    """The result of :func:`marked_tokens`, computed when it is asked for: most readers of a description want its texts only."""

    def __init__(self, compute: Callable[[], Mapping[str, list[Any]]]) -> None:
        self._compute = compute

    def __getitem__(self, name: str) -> list[Any]:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    @cached_property
    def _values(self) -> dict[str, list[Any]]:
        return dict(self._compute())


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
