"""Errors of commands in the words of a call from Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, TypeVar

from trak_cli.config.wording import nearest, one_of
from trak_cli.errors import ConfigError, Problem, TrakError

Options = TypeVar("Options")

#: An option of a command, with its value if there is one.
_OPTION = re.compile(r"(?<![\w-])--?([a-z]+(?:-[a-z]+)*)(?: (?!(?:or|and|from|with) )(-?[\w.]+(?:-[\w.]+)*))?(?![\w-])")

#: A command with its options, which stays as it is.
_COMMAND = re.compile(r"\bpython -c .*|\btrak [a-z-]+(?: --?[a-z-]+ [^\s,;]+)+")

#: A dotted key with its value.
_KEY = re.compile(r"'?(?<![\w./-])([a-z]\w*(?:\.\w+)+)=(\[[^\]]*\]|\{[^}]*\}|[^\s,;:)']+)'?")

#: A dotted key without a value: the place of a problem, or a proposal.
_PLACE, _MEANT = re.compile(r"(?!dataset\.)[a-z]\w*(?:\.\w+)+"), re.compile(r"(?<=did you mean )[a-z]\w*(?:\.\w+)+(?=\?)")

#: A proposal of a key with a value, and the space between two of them.
_CHOICE = re.compile(r"\b(did you mean|give) ([a-z]+)=([a-z][\w.-]*)(?=[?;,]|$)")
_BETWEEN = re.compile(r"(?<=['}\]]) (?=[a-z]\w*__\w+=)")

#: Commands that a remedy names, which the call of attribute does.
_STAGES, _TRAIN = re.compile(r"\brun `?trak (featurize|finalize|score)\b`?"), re.compile(r", or run `trak train`")

#: Options without a value.
_FLAGS = ("balance", "bottom", "classes", "features", "overwrite", "removal")

#: Options that are numbers of samples.
_COUNTS = ("k", "most", "top")

_PYTHON = {"true": "True", "false": "False", "null": "None"}

#: What :func:`trak_cli.attribute` takes as objects, in the messages about fingerprints.
_OBJECT = re.compile(r"fingerprint (model|task|collate)\b")


@contextmanager
def as_arguments() -> Iterator[None]:
    """Name arguments where errors name options and keys.

    ``--split test`` becomes ``split='test'``, ``-k 3`` becomes ``k=3``, ``score.overwrite=true`` becomes
    ``score__overwrite=True``, and "run trak score" becomes "call trak.attribute, or trak.score,". Where a store was made with
    another model, task or collate function, which have no keys here, the remedy is to give the same object.
    """
    try:
        yield
    except TrakError as error:
        renamed = type(error)(dict.fromkeys(map(_with_arguments, error.problems)))
        raise renamed.with_traceback(error.__traceback__) from error.__cause__  # not a second traceback of the same error


def _with_arguments(problem: Problem) -> Problem:
    if found := _OBJECT.search(problem.where):
        name = found.group(1)
        return replace(problem, remedy=f"give the {name} that the store was made with, or another store")
    texts = {item.name: getattr(problem, item.name) for item in fields(Problem)}
    where = texts.pop("where")
    where = where.lstrip("-").replace("-", "_") if _OPTION.fullmatch(where) else where
    where = where.replace(".", "__") if _PLACE.fullmatch(where) else where
    return Problem(where, **{name: _in_python(text) for name, text in texts.items()})


def _in_python(text: str) -> str:
    text = _MEANT.sub(lambda key: key.group().replace(".", "__"), _TRAIN.sub("", text))
    text = _CHOICE.sub(lambda key: f"{key.group(1)} {key.group(2)}={_literal(key.group(3))}", text)
    text = _STAGES.sub(r"call trak.attribute, or trak.\1,", text).replace("run trak compress", "call trak.compress")
    text = text.replace("dataset.collate a function", "collate=FUNCTION")
    text = re.sub(f"{_COMMAND.pattern}|{_OPTION.pattern}", _argument, text)
    return _BETWEEN.sub(", ", _KEY.sub(_keyword, text))


def _argument(option: re.Match[str]) -> str:
    if option.group(1) is None:
        return option.group()
    name, value = option.group(1).replace("-", "_"), option.group(2)
    return (f"{name}=True" if name in _FLAGS else name) if value is None else f"{name}={_literal(value)}"


def _keyword(key: re.Match[str]) -> str:
    return f"{key.group(1).replace('.', '__')}={_literal(key.group(2))}"


def _literal(value: str) -> str:
    """The value of an option or key as Python writes it; a word in capitals stands for a value and stays."""
    if value.startswith("[") and value.endswith("]"):
        return f"[{', '.join(_literal(item.strip()) for item in value[1:-1].split(',') if item.strip())}]"
    if value.startswith("{") and value.endswith("}"):
        pairs = (item.split(":") for item in value[1:-1].split(",") if ":" in item)
        return f"{{{', '.join(f'{name.strip()!r}: {_literal(held.strip())}' for name, held in pairs)}}}"
    plain = re.fullmatch(r"-?[\d.]+(e-?\d+)?|[A-Z_]+", value) is not None
    return value if plain else _PYTHON.get(value) or repr(value)


def count_problems(**counts: Any) -> Iterator[Problem]:
    """Numbers of samples that are no whole numbers of at least 1."""
    for name, count in counts.items():
        if isinstance(count, bool) or not hasattr(count, "__index__") or count < 1:
            yield Problem(name, repr(count), "a whole number of at least 1", f"give {name}=5")


def options_of(kind: type[Options], given: Any) -> Options:
    """An object of a dataclass of options from keyword arguments; one value may stand for a sequence of one.

    Raises:
        ConfigError: an argument that the class does not have.
    """
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    problems = []
    for name in [name for name in given if name not in known]:
        meant = nearest(name, known)
        remedy = f"did you mean {meant}?" if meant else "leave it out"
        problems.append(Problem(name, "an unknown argument", one_of([*known]), remedy))
    ConfigError.raise_for(
        [*problems, *count_problems(**{name: given[name] for name in _COUNTS if given.get(name) is not None})]
    )
    several = {name for name, item in known.items() if item.default == ()}
    return kind(**{name: (value,) if name in several and _is_one(value) else value for name, value in given.items()})


def _is_one(value: Any) -> bool:
    return isinstance(value, str) or not (value is None or isinstance(value, Iterable))
