"""Functions for the tasks over tokens: calling the model, and checking tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.tasks.task import SampleError

#: Names of the learned position embeddings in models.
_POSITIONS = ("position_embeddings", "embed_positions", "wpe")


def call(model: nn.Module, batch: Any, without: Collection[str]) -> Tensor:
    """The logits of a model for a batch of keyword arguments.

    Raises:
        InputError: the batch is not a mapping of tensors, or the model returns no logits.
    """
    if not isinstance(batch, Mapping):
        remedy = "return mappings with input_ids, attention_mask and labels from the dataset"
        raise InputError(Problem("batch", type(batch).__name__, "a mapping of the model's arguments", remedy))
    for key, value in batch.items():
        if isinstance(value, list | tuple) and value and all(isinstance(item, Tensor) for item in value):
            remedy = "give dataset.collate a function that pads, such as transformers.DataCollatorWithPadding(tokenizer)"
            raise InputError(Problem(f"batch: {key}", f"a {type(value).__name__} of tensors", "one tensor, (B, T)", remedy))
    result = model(**{key: value for key, value in batch.items() if key not in without})
    return logits_of(result, "load the model with the class that fits the task")


def logits_of(result: Any, remedy: str) -> Tensor:
    """The logits that a model returned, as a tensor or an attribute.

    Raises:
        InputError: it returned neither.
    """
    logits = getattr(result, "logits", result)
    if isinstance(logits, Tensor):
        return logits
    raise InputError(Problem("model output", type(result).__name__, "a tensor, or an object with logits", remedy))


def check_tokens(model: nn.Module, batch: Any) -> None:
    """Refuse token ids that the model does not embed, and samples longer than its learned positions.

    Raises:
        SampleError: the first such sample.
    """
    if not isinstance(batch, Mapping):
        return
    vocabulary, longest = _vocabulary(model), _longest(model)
    for key in ("input_ids", "decoder_input_ids"):
        tokens = batch.get(key)
        if not isinstance(tokens, Tensor):
            continue
        if vocabulary is not None:
            bad = ((tokens < 0) | (tokens >= vocabulary)).nonzero()
            if len(bad):
                sample, place = bad[0].tolist()[:2]
                expected = f"a token in [0, {vocabulary}), which the model embeds"
                remedy = "use the tokenizer that belongs to the model, or resize its embeddings"
                raise SampleError(sample, f"token {int(tokens[sample, place])}", expected, remedy)
        if longest is not None and key == "input_ids":
            lengths = _lengths(tokens, batch.get("attention_mask"))
            if int(lengths.max()) > longest:
                sample = int((lengths > longest).nonzero()[0, 0])
                expected = f"at most {longest}, the positions that the model has learned"
                raise SampleError(sample, f"{int(lengths[sample])} tokens", expected, f"give the dataset max_length: {longest}")


def _lengths(tokens: Tensor, mask: Any) -> Tensor:
    """Number of tokens of each sample, (B,); without a mask, padding counts."""
    if isinstance(mask, Tensor) and mask.shape[:2] == tokens.shape[:2]:
        return mask.sum(1)
    return torch.full((len(tokens),), tokens.shape[1])


def _vocabulary(model: nn.Module) -> int | None:
    """Rows of the input embedding; None if unknown."""
    get_embedding = getattr(model, "get_input_embeddings", None)
    try:
        embedding = get_embedding() if callable(get_embedding) else None
    except NotImplementedError:
        return None
    rows = getattr(embedding, "num_embeddings", None)
    return rows if isinstance(rows, int) else None


def _longest(model: nn.Module) -> int | None:
    """The smallest number of learned positions, without those reserved for padding; None if there are none."""
    return min((_usable(table) for table in _position_tables(model)), default=None)


def _position_tables(model: nn.Module) -> Iterator[nn.Embedding]:
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _POSITIONS and isinstance(module, nn.Embedding):
            yield module


def _usable(table: nn.Embedding) -> int:
    """Positions for tokens: some models reserve the first ones for padding, others add an offset."""
    offset = getattr(table, "offset", 0)
    first = table.padding_idx + 1 if table.padding_idx is not None else int(offset)
    return table.num_embeddings - first
