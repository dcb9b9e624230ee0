"""Errors of commands in the words of a call from Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

from trak_cli.errors import Problem, TrakError

#: An option of a command, with its value if there is one.
_OPTION = re.compile(r"(?<![\w-])--?([a-z]+)(?: (-?[\w.]+(?:-[\w.]+)*))?(?![\w-])")

#: A dotted key with its value.
_KEY = re.compile(r"'?(?<![\w./-])([a-z]\w*(?:\.\w+)+)=(\[[^\]]*\]|[^\s,;:)']+)'?")

_PYTHON = {"true": "True", "false": "False", "null": "None"}

#: What :func:`trak_cli.attribute` takes as objects, in the messages about fingerprints.
_OBJECT = re.compile(r"fingerprint (model|task|collate)\b")


@contextmanager
def as_arguments() -> Iterator[None]:
    """Name arguments where errors name options and keys.

    ``--split test`` becomes ``split='test'``, ``-k 3`` becomes ``k=3``, and ``score.overwrite=true`` becomes
    ``score__overwrite=True``. Where a store was made with another model, task or collate function, which have no keys here,
    the remedy is to give the same object.
    """
    try:
        yield
    except TrakError as error:
        raise type(error)(dict.fromkeys(map(_with_arguments, error.problems))) from error


def _with_arguments(problem: Problem) -> Problem:
    if found := _OBJECT.search(problem.where):
        name = found.group(1)
        return replace(problem, remedy=f"give the {name} that the store was made with, or another store")
    texts = {item.name: getattr(problem, item.name) for item in fields(Problem)}
    where = texts.pop("where")
    where = where.lstrip("-") if _OPTION.fullmatch(where) else where
    return Problem(where, **{name: _KEY.sub(_keyword, _OPTION.sub(_argument, text)) for name, text in texts.items()})


def _argument(option: re.Match[str]) -> str:
    name, value = option.groups()
    return str(name) if value is None else f"{name}={_literal(value)}"


def _keyword(key: re.Match[str]) -> str:
    return f"{key.group(1).replace('.', '__')}={_literal(key.group(2))}"


def _literal(value: str) -> str:
    """The value of an option or key as Python writes it; a word in capitals stands for a value and stays."""
    if value.startswith("[") and value.endswith("]"):
        return f"[{', '.join(_literal(item.strip()) for item in value[1:-1].split(',') if item.strip())}]"
    plain = re.fullmatch(r"-?[\d.]+(e-?\d+)?|[A-Z_]+", value) is not None
    return value if plain else _PYTHON.get(value) or repr(value)
