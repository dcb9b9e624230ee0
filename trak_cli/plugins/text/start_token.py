"""Finds start tokens that occur twice: once in a text that a chat template rendered, and once added by the tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from trak_cli.errors import Problem


def doubled_start(dataset: Any, model: nn.Module, sample: Any, where: str) -> Problem | None:
    """The problem of a sample whose text begins with the start token twice; None if it does not.

    The start token is that of the data set's ``tokenizer``, else of the model's ``config``. Samples that are no mappings with
    ``input_ids``, and models without a start token, have no such problem.

    Args:
        dataset: the data set of the sample.
        sample: as the data set returns it.
        where: what the problem calls the sample, such as "sample 3 of train".
    """
    tokens = _tokens(sample)
    for start in {_start(getattr(dataset, "tokenizer", None)), _start(getattr(model, "config", None))}:
        if start is not None and list(tokens[:2]) == [start, start]:
            found = f"the start token {_spelled(dataset, start)} twice"
            expected = "once; a rendered chat template contains it already, and the tokenizer adds another"
            remedy = (
                "give the dataset special_tokens: false, or messages: COLUMN for conversations; leave it only if the model was "
                "trained so"
            )
            return Problem(where, found, expected, remedy)
    return None


def _start(holder: Any) -> int | None:
    start = getattr(holder, "bos_token_id", None)
    return start if isinstance(start, int) else None


def _tokens(sample: Any) -> Sequence[int]:
    """The token ids of one sample without left padding; empty if it has none."""
    if not isinstance(sample, Mapping) or "input_ids" not in sample:
        return ()
    ids, mask = (
        value.tolist() if isinstance(value, Tensor) else value for value in map(sample.get, ("input_ids", "attention_mask"))
    )
    if not isinstance(ids, list | tuple) or not all(isinstance(token, int) for token in ids):
        return ()
    if isinstance(mask, list | tuple) and len(mask) == len(ids):
        return [token for token, counts in zip(ids, mask, strict=True) if counts]
    return ids


def _spelled(dataset: Any, token: int) -> str:
    tokenizer = getattr(dataset, "tokenizer", None)
    return str(token) if tokenizer is None else f"{tokenizer.decode([token])} ({token})"
