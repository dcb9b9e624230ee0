"""What the tasks over tokens share: calling a model by keyword, and refusing tokens that it does not have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.tasks.task import SampleError

#: What models call their learned embedding of positions.
_POSITIONS = ("position_embeddings", "embed_positions", "wpe")


def call(model: nn.Module, batch: Any, without: Collection[str]) -> Tensor:
    """The logits that a model gives for a batch, whose parts it takes by keyword.

    Raises:
        InputError: a batch that is no mapping, or a model that gives no logits.
    """
    if not isinstance(batch, Mapping):
        remedy = "let the dataset return mappings with input_ids, attention_mask and labels"
        raise InputError(Problem("batch", type(batch).__name__, "a mapping of the model's arguments", remedy))
    found = model(**{key: value for key, value in batch.items() if key not in without})
    logits = getattr(found, "logits", found)
    if isinstance(logits, Tensor):
        return logits
    remedy = "load the model with the class that fits the task"
    raise InputError(Problem("model output", type(found).__name__, "a tensor, or an object with logits", remedy))


def check_tokens(model: nn.Module, batch: Any) -> None:
    """Refuse token numbers that the model does not embed, and samples longer than its learned positions.

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
                raise SampleError(
                    sample,
                    f"token {int(tokens[sample, place])}",
                    f"a token in [0, {vocabulary}), which the model embeds",
                    "use the tokenizer that belongs to the model, or resize its embeddings",
                )
        mask = batch.get("attention_mask")
        if longest is not None and key == "input_ids" and isinstance(mask, Tensor):
            lengths = mask.sum(1)
            if int(lengths.max()) > longest:
                sample = int((lengths > longest).nonzero()[0, 0])
                raise SampleError(
                    sample,
                    f"{int(lengths[sample])} tokens",
                    f"at most {longest}, the positions that the model has learned",
                    f"give the dataset max_length: {longest}",
                )


def _vocabulary(model: nn.Module) -> int | None:
    """Rows of the input embedding; None where the model does not tell it."""
    ask = getattr(model, "get_input_embeddings", None)
    try:
        found = ask() if callable(ask) else None
    except NotImplementedError:
        return None
    rows = getattr(found, "num_embeddings", None)
    return rows if isinstance(rows, int) else None


def _longest(model: nn.Module) -> int | None:
    """The least number of learned positions, less those that are kept for padding; None where there are none."""
    return min((_usable(one) for one in _position_tables(model)), default=None)


def _position_tables(model: nn.Module) -> Iterator[nn.Embedding]:
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _POSITIONS and isinstance(module, nn.Embedding):
            yield module


def _usable(table: nn.Embedding) -> int:
    """Models that give padding a position begin to count behind it; others subclass and add an offset."""
    offset = getattr(table, "offset", 0)
    first = table.padding_idx + 1 if table.padding_idx is not None else int(offset)
    return table.num_embeddings - first
