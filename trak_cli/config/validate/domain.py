"""Values of the right type that their keys do not accept; what a key accepts is declared in the schema."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import MISSING

from trak_cli.config.schema import TrakConfig
from trak_cli.config.wording import join, nearest, one_of, shown
from trak_cli.errors import Problem


def domain_problems(section: Any, prefix: str = "") -> Iterator[Problem]:
    """A problem for every value outside the choices, below the least value, empty, or not finite."""
    for item in fields(section):
        value, key = getattr(section, item.name), join(prefix, item.name)
        if is_dataclass(value):
            yield from domain_problems(value, key)
        elif value is not None and value != MISSING:
            yield from _value_problems(value, key, item.metadata)


def _value_problems(value: Any, key: str, accepted: Mapping[str, Any]) -> Iterator[Problem]:
    choices, least = accepted.get("choices", ()), accepted.get("at_least")
    for word in [] if not choices else value if isinstance(value, list) else [value]:
        if word not in choices:
            meant = nearest(str(word), choices)
            remedy = f"did you mean {meant}?" if meant else "choose one of those"
            yield Problem(key, shown(word), one_of(choices), remedy)
    for number in [] if least is None else value if isinstance(value, list) else [value]:
        if number < least:
            given = [least] if isinstance(value, list) else least
            yield Problem(key, shown(number), f"a whole number ≥ {least}", f"give {key}={given}, or more")
    if accepted.get("not_empty") and not value:
        example = f"leave {key} out, or name something in it" if isinstance(value, list) else f"give {key}=VALUE"
        yield Problem(key, "nothing", "a value that is not empty", example)
    if isinstance(value, float) and not math.isfinite(value):
        yield Problem(key, str(value), "a finite number", f"give {key} a finite number")


def get(config: Any, key: str) -> Any:
    """The value at a dotted key of nested dataclasses."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def absent(config: TrakConfig, keys: Iterable[str]) -> list[str]:
    """The keys that have no value. The store counts as absent when its default waits for the name of the run."""
    missing = []
    for key in keys:
        value = config.name if key == "store" else config.checkpoints.files if key == "checkpoints" else get(config, key)
        if value is None or value == MISSING or (isinstance(value, Sequence | dict) and not value):
            missing.append(key)
    return missing
