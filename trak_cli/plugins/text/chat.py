"""Conversations: rendered by the chat template of a tokenizer; only the assistant's tokens are predicted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trak_cli.batches import IGNORED
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.user_errors import first_line

Messages = Sequence[dict[str, Any]]

#: The markers around the assistant's text in a template.
_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


class ChatError(Exception):
    """A conversation that cannot be tokenised: what was found, what was expected, and what to do."""

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        self.problem = (found, expected, remedy)
        super().__init__(found)


def read_template(tokenizer: Any, template: str | None) -> str:
    """The chat template: a file, a text with Jinja's braces, or, if None is given, that of the tokenizer.

    Raises:
        ConfigError: there is none.
        InputError: there is no such file.
    """
    chosen = template if template is not None else tokenizer.chat_template
    if isinstance(chosen, dict):  # several named templates
        chosen = chosen.get("default")
    if not isinstance(chosen, str):
        remedy = "give the dataset template: FILE.jinja, the template that the model was trained with"
        found = "a tokenizer without a chat template"
        raise ConfigError(Problem("dataset.tokenizer", found, "one with a chat template", remedy))
    if template is None or "{" in template:
        return chosen
    if not Path(template).is_file():
        raise InputError(Problem("dataset.template", f"no file {template}", "a file or a Jinja template", "correct the path"))
    return Path(template).read_text(encoding="utf-8")


def chat_tokens(tokenizer: Any, messages: Any, template: str, first: int = 0) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and its labels: the ids of the assistant's tokens, −100 elsewhere.

    The assistant's tokens are those that the template marks by ``{% generation %}``. Without such markers, they are what
    follows the template's generation prompt, with the token that ends the turn. No special token is added to those of the
    template, so the text does not begin twice.

    Args:
        messages: mappings with ``role`` and ``content``.
        first: number of messages at the start whose tokens are not predicted even if they are the assistant's.

    Raises:
        ChatError: other messages, or messages that the template refuses.
    """
    _check(messages)
    if _MARKED.search(template):
        return _marked(tokenizer, messages, template, first)
    text = _rendered(tokenizer, messages, template)
    spans = []
    for place, message in enumerate(messages):
        if message["role"] == "assistant" and place >= first:
            before = _rendered(tokenizer, messages[:place], template, add_generation_prompt=True)
            until = _rendered(tokenizer, messages[: place + 1], template)
            if not (text.startswith(before) and text.startswith(until)):
                found = f"a template that changes the start of the conversation after message {place}"
                remedy = (
                    "give the dataset a template that marks the assistant's text by {% generation %} and {% endgeneration %}"
                )
                raise ChatError(found, "a template that only appends each message", remedy)
            spans.append((len(before), len(until.rstrip())))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = list(encoded["input_ids"])
    counts = [
        any(end > low and start < high and end > start for low, high in spans) for start, end in encoded["offset_mapping"]
    ]
    return ids, _labels(ids, counts)


def spoken(value: Any) -> Any:
    """Messages as one text for a report, such as "user: hello · assistant: hi"; any other value as it is."""
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        return value
    return " · ".join(f"{message.get('role', '?')}: {message.get('content', '')}" for message in value)


def _marked(tokenizer: Any, messages: Messages, template: str, first: int) -> tuple[list[int], list[int]]:
    options = {"return_dict": True, "return_assistant_tokens_mask": True}
    encoded = _rendered(tokenizer, messages, template, tokenize=True, **options)
    ids, counts = list(encoded["input_ids"]), [bool(flag) for flag in encoded["assistant_masks"]]
    if first:
        start = len(_rendered(tokenizer, messages[:first], template, tokenize=True, **options)["input_ids"])
        counts = [flag and place >= start for place, flag in enumerate(counts)]
    return ids, _labels(ids, counts)


def _rendered(tokenizer: Any, messages: Messages, template: str, tokenize: bool = False, **options: Any) -> Any:
    try:
        return tokenizer.apply_chat_template(list(messages), chat_template=template, tokenize=tokenize, **options)
    except Exception as error:  # Jinja's errors, and those that a template raises itself
        found = f"messages that the chat template refuses: {first_line(error)}"
        raise ChatError(found, "messages that the template can render", "correct the row, or leave it out") from error


def _labels(ids: Sequence[int], counts: Sequence[bool]) -> list[int]:
    return [token if counted else IGNORED for token, counted in zip(ids, counts, strict=True)]


def _check(messages: Any) -> None:
    expected = "a list of messages such as {role: user, content: …}, at least one of them of the assistant"
    remedy = "correct the row, or leave it out"
    if not isinstance(messages, list) or not messages:
        raise ChatError(f"{messages!r:.60}", expected, "name the column of messages, as a list in JSONL or Parquet")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or "content" not in message:
            held = f"the keys {', '.join(map(str, message))}" if isinstance(message, dict) else f"{message!r:.60}"
            raise ChatError(f"message {place} with {held}", expected, "rename the keys to role and content")
    if not any(message["role"] == "assistant" for message in messages):
        raise ChatError("no message of the assistant", expected, remedy)
