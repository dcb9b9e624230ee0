"""Datasets of text for each kind of language model; their samples are mappings, for :class:`~trak_cli.plugins.text.Padding`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trak_cli.batches import IGNORED
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.text.chat import ChatError, chat_tokens, read_template
from trak_cli.plugins.text.texts import Texts


class ClassifiedTexts(Texts):
    """A text, or a pair of them, and its class: ``input_ids``, ``attention_mask``, ... (T,), and ``labels`` ().

    Args:
        path, tokenizer, max_length, split, subset: see :class:`~trak_cli.plugins.text.texts.Texts`.
        text: column of the text.
        pair: column of the second text of a pair, such as the sentence that a question refers to.
        label: column of the class: a whole number, or one of ``classes``.
        classes: names of the classes, in the order of the model's logits.
    """

    def __init__(
        self,
        path: str,
        tokenizer: str | None,
        text: str = "text",
        pair: str | None = None,
        label: str = "label",
        classes: Sequence[str] | None = None,
        max_length: int | None = None,
        split: str | None = None,
        subset: str | None = None,
    ) -> None:
        columns = [text, *([pair] if pair is not None else []), label]
        super().__init__(path, tokenizer, columns, max_length, split, subset)
        self._texts, self._label = columns[:-1], label
        self._classes = None if classes is None else {str(name): number for number, name in enumerate(classes)}

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        texts = [self.text(i, column) for column in self._texts]
        limit = {"truncation": True, "max_length": self.max_length} if self.max_length is not None else {}
        found = self.tokenizer(*texts, verbose=False, **limit)
        sample = {key: self.cut(i, found[key]) for key in found}
        return {**sample, "labels": torch.tensor(self._number(i), dtype=torch.int64)}

    @property
    def label_name(self) -> str:
        """The name of the label in a description."""
        return self._label

    @property
    def classes(self) -> list[str]:
        """The names of the classes; empty if the label is a number."""
        return list(self._classes or ())

    @property
    def roles(self) -> dict[str, str]:
        """See :attr:`~trak_cli.plugins.text.texts.Texts.roles`."""
        return {**dict(zip(("text", "pair"), self._texts, strict=False)), "label": self._label}

    def extent(self, i: int) -> float:
        """See :meth:`~trak_cli.plugins.text.texts.Texts.extent`; infinite for a label that is refused."""
        try:
            self._number(i)
        except InputError:
            return math.inf
        return super().extent(i)

    def _number(self, i: int) -> int:
        value = self.row(i)[self._label]
        if self._classes is not None and str(value) in self._classes:
            return self._classes[str(value)]
        if self._classes is not None:
            raise self.refused(
                i, f"the label {value!r:.60}", f"one of {', '.join(self._classes)}", "correct the label, or add it to classes"
            )
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = None
        if number is None or str(number) != str(value):
            remedy = "correct the row, or give the dataset classes: [NAME, NAME, ...]"
            raise self.refused(i, f"the label {value!r:.60}", "a whole number", remedy)
        return number


class CausalTexts(Texts):
    """A text, predicted token by token, perhaps after a prompt: ``input_ids``, ``attention_mask``, ``labels``, all (T,).

    The first token is not predicted, because no token precedes it. With a prompt, only the completion is predicted; of a
    conversation, only what the assistant says.

    Args:
        path, tokenizer, max_length, split, subset: see :class:`~trak_cli.plugins.text.texts.Texts`.
        text: column of the whole text.
        prompt: column of a prompt, instead of ``text``.
        completion: column of what follows the prompt. The two are tokenised separately and concatenated, so a space
            between them must belong to one of them.
        messages: column of a conversation, instead of ``text``: a list of mappings with ``role`` and ``content``. It is
            rendered by the chat template, and only the assistant's messages are predicted. ``prompt`` and ``completion`` may
            hold messages too; then only those of the completion are predicted.
        template: the chat template, as a file or a Jinja text; null: that of the tokenizer.
        special_tokens: whether the tokenizer adds its special tokens to ``text`` or ``prompt``. Give false if these hold them
            already, as a text does that a chat template rendered.
        end: append the tokenizer's end-of-text token, except to conversations.
    """

    unpredicted = 1
    predicts_input = True

    def __init__(
        self,
        path: str,
        tokenizer: str | None,
        text: str | None = None,
        prompt: str | None = None,
        completion: str | None = None,
        messages: str | None = None,
        template: str | None = None,
        special_tokens: bool = True,
        end: bool = False,
        max_length: int | None = None,
        split: str | None = None,
        subset: str | None = None,
    ) -> None:
        given = [column is not None for column in (text, prompt, messages)]
        if (prompt is None) != (completion is None) or sum(given) != 1:
            found = f"text {text}, prompt {prompt}, completion {completion}, messages {messages}"
            remedy = "give either text, or prompt and completion, or messages"
            raise ConfigError(Problem("dataset columns", found, "one column, or two", remedy))
        columns = [str(column) for column in (text, prompt, completion, messages) if column is not None]
        super().__init__(path, tokenizer, columns, max_length, split, subset)
        self._of_messages, self._special = messages is not None, special_tokens
        self._given_template = template
        self._template = read_template(self.tokenizer, template) if messages is not None or template is not None else None
        self._end = [self.tokenizer.eos_token_id] if end else []
        if end and self.tokenizer.eos_token_id is None:
            remedy = "remove end, or use a tokenizer that has one"
            raise ConfigError(Problem("dataset end", "a tokenizer without an end-of-text token", "such a token", remedy))

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        values = [self.row(i)[column] for column in self.columns]
        if self._of_messages or all(isinstance(value, list) for value in values):
            tokens, counted = self._conversation(i, values)
        else:
            tokens, counted = self._plain(i)
        ids = self.cut(i, tokens, self.max_length)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor(counted[: len(ids)])}

    @property
    def roles(self) -> dict[str, str]:
        """See :attr:`~trak_cli.plugins.text.texts.Texts.roles`."""
        names = ("messages",) if self._of_messages else ("text",) if len(self.columns) == 1 else ("prompt", "completion")
        return dict(zip(names, self.columns, strict=True))

    def sample_from(self, record: Mapping[str, Any]) -> dict[str, Tensor]:
        """The sample of a new text, or of a prompt and a completion, or of messages, whichever the table has.

        In a data set of conversations, a prompt and a completion that are texts are said by the user and the assistant.

        Raises:
            InputError: a value is missing or unknown, or no text.
        """
        if set(record) != {"text"} and set(record) != {"prompt", "completion"}:
            return super().sample_from(record)
        other = self.of_one_row(dict(record))
        other.columns = ["text"] if "text" in record else ["prompt", "completion"]
        if self._of_messages and "prompt" in record and all(isinstance(value, str) for value in record.values()):
            roles = {"prompt": "user", "completion": "assistant"}
            other.table = [{name: [{"role": roles[name], "content": value}] for name, value in record.items()}]
        other._of_messages = False
        return other[0]

    def _plain(self, i: int) -> tuple[list[int], list[int]]:
        """Tokens and labels of a text, or of a prompt and its completion."""
        first, *rest = (self.text(i, column) for column in self.columns)
        start = list(self.tokens(first, add_special_tokens=self._special)["input_ids"])
        if rest and self._special and start and start[-1] == self.tokenizer.eos_token_id and len(start) > 1:
            start = start[:-1]  # the completion follows
        more = list(self.tokens(rest[0], add_special_tokens=False)["input_ids"]) if rest else []
        ids = [*start, *more, *self._end]
        return ids, [IGNORED] * len(start) + ids[len(start) :] if rest else ids

    def _conversation(self, i: int, values: list[Any]) -> tuple[list[int], list[int]]:
        """Tokens and labels of messages."""
        if self._template is None:
            self._template = read_template(self.tokenizer, self._given_template)
        messages, first = (values[0], 0) if len(values) == 1 else ([*values[0], *values[1]], len(values[0]))
        try:
            return chat_tokens(self.tokenizer, messages, self._template, first)
        except ChatError as error:
            raise self.refused(i, *error.problem) from error


class SourceTarget(Texts):
    """A source text and its target text: ``input_ids``, ``attention_mask`` (T,), ``labels`` (T',).

    Args:
        path, tokenizer, max_length, split, subset: see :class:`~trak_cli.plugins.text.texts.Texts`.
        source: column of the source text.
        target: column of the target text.
        max_target_length: length to which the target is truncated; null: ``max_length``.
    """

    def __init__(
        self,
        path: str,
        tokenizer: str | None,
        source: str = "source",
        target: str = "target",
        max_length: int | None = None,
        max_target_length: int | None = None,
        split: str | None = None,
        subset: str | None = None,
    ) -> None:
        super().__init__(path, tokenizer, [source, target], max_length, split, subset)
        self._target_length = self.max_length if max_target_length is None else max_target_length

    @property
    def roles(self) -> dict[str, str]:
        """See :attr:`~trak_cli.plugins.text.texts.Texts.roles`."""
        return dict(zip(("source", "target"), self.columns, strict=True))

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        source, target = (self.text(i, column) for column in self.columns)
        ids = self.cut(i, self.tokens(source)["input_ids"], self.max_length)
        labels = self.cut(i, self.tokenizer(text_target=target, verbose=False)["input_ids"], self._target_length)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


class MaskedTexts(Texts):
    """A text of which some tokens are masked: ``input_ids``, ``attention_mask``, ``labels``, all (T,).

    The masked tokens depend on the tokens and the seed only, so they are the same at every read. Special tokens are never
    masked, and at least one token is.

    Args:
        path, tokenizer, max_length, split, subset: see :class:`~trak_cli.plugins.text.texts.Texts`.
        text: column of the text.
        share: fraction of the tokens that are masked.
        seed: of the choice of masked tokens.
    """

    predicts_input = True

    def __init__(
        self,
        path: str,
        tokenizer: str | None,
        text: str = "text",
        share: float = 0.15,
        seed: int = 0,
        max_length: int | None = None,
        split: str | None = None,
        subset: str | None = None,
    ) -> None:
        super().__init__(path, tokenizer, [text], max_length, split, subset)
        if not 0 < share <= 1:
            raise ConfigError(Problem("dataset share", str(share), "more than 0, at most 1", "choose such a share"))
        if self.tokenizer.mask_token_id is None:
            remedy = "use the tokenizer of a masked language model"
            raise ConfigError(Problem("dataset tokenizer", "no mask token", "a tokenizer that has one", remedy))
        self._share, self._seed = share, seed

    @property
    def roles(self) -> dict[str, str]:
        """See :attr:`~trak_cli.plugins.text.texts.Texts.roles`."""
        return {"text": self.columns[0]}

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        limit = {"truncation": True, "max_length": self.max_length} if self.max_length is not None else {}
        found = self.tokenizer(self.text(i, self.columns[0]), verbose=False, return_special_tokens_mask=True, **limit)
        ids = self.cut(i, found["input_ids"])
        free = np.flatnonzero(np.array(found["special_tokens_mask"]) == 0)
        chosen = torch.from_numpy(self._chosen(ids, free))
        labels = torch.full_like(ids, IGNORED)
        labels[chosen] = ids[chosen]
        ids[chosen] = int(self.tokenizer.mask_token_id)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    def _chosen(self, ids: Tensor, free: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The masked positions, ascending: the first ones in the order of a hash of seed, tokens and position."""
        key = f"{self._seed}/".encode() + ids.numpy().tobytes()
        order = sorted(free.tolist(), key=lambda place: blake2b(key + place.to_bytes(8, "little"), digest_size=8).digest())
        count = max(1, round(self._share * len(free)))
        return np.array(sorted(order[:count]), dtype=np.int64)
