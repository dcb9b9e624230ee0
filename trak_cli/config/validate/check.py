"""Reading the composed tree into the schema: unknown keys, wrong types and broken interpolations, all of them reported."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
)

from trak_cli.config.compose.compose import as_written
from trak_cli.config.keys import types_of
from trak_cli.config.schema import TrakConfig
from trak_cli.config.wording import all_keys, describe, join, kind_of, members, nearest, one_line, one_of, shown
from trak_cli.errors import Problem

Section = TypeVar("Section")

#: Wrong keys that users may guess -> the right keys.
_MEANT = {"estimator.checkpoints": "estimator.average_over"}

#: Mappings of names to plain values; all others are of plugins.
_MAPPINGS = ("vars", "cluster.sbatch", "cluster.stages")

#: Marks a value that could not be converted, after its problem was recorded.
_REFUSED = object()

#: The keys that an interpolation refers to. Their problems are reported there, once.
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def add_defaults(tree: DictConfig) -> None:
    """Add the schema's default of every key and section that the tree does not have.

    A wrong type, such as a mapping in place of a list, stays, and the checker reports its key.
    """
    for key, default in dataclasses.asdict(TrakConfig()).items():
        if key not in tree.keys():  # noqa: SIM118 - `in tree` is false for ??? and for what does not resolve
            tree[key] = default
        elif isinstance(default, dict) and isinstance(written := as_written(tree, key), dict):
            for name in default.keys() - written.keys():
                tree[key][name] = default[name]


class Checker:
    """Reads a tree into the schema's dataclasses and collects problems on the way.

    Attributes:
        problems: the problems so far.
        raw: texts of interpolations that stay unresolved, because the stage does not need their value.
    """

    def __init__(
        self,
        reads: Callable[[str], bool],
        refused: Collection[str] = (),
        own: Mapping[str, Any] | None = None,
        requires: Callable[[str], bool] | None = None,
    ) -> None:
        """A checker without problems yet.

        Args:
            reads: whether the stage reads a key; other keys may stay unresolved.
            refused: keys whose overrides were refused; interpolations of these keys cannot resolve.
            own: the values of the user's own file, whose unknown keys may be meant as values for interpolation.
            requires: whether a key that was written must have a value (not ``???``); None: if the stage reads it.
        """
        self.problems: list[Problem] = []
        self.raw: set[str] = set()
        self._reads, self._requires = reads, requires or reads
        self._refused = set(refused)
        self._own = own or {}

    def read(self, schema: type[Section], node: DictConfig, prefix: str = "") -> Section:
        """One section as an object of its dataclass. A field with a problem keeps the default of the schema."""
        hints, defaults = types_of(schema), schema()
        for name in node:
            if name not in hints:
                problem = _unknown(str(name), prefix, list(hints))
                self.problems.append(_variable(problem, self._own) if not prefix and name in self._own else problem)
        values = {name: self._field(defaults, name, hint, node, join(prefix, name)) for name, hint in hints.items()}
        return schema(**values)

    def _field(self, defaults: Any, name: str, hint: Any, node: DictConfig, key: str) -> Any:
        """The value of one field of a section, whose defaults are an object of its dataclass."""
        schema, default = type(defaults), _default(defaults, name, hint)
        found, value = self._value(node, name, key)
        if not found:
            if value == MISSING and hint is not Any and default != MISSING:
                self._missing(key)
            return value if hint in (Any, str, str | None) else default
        if dataclasses.is_dataclass(hint):
            if isinstance(value, DictConfig):
                return self.read(typing.cast("type[Any]", hint), value, key)
            self._wrong(key, value, f"a mapping with the keys {', '.join(types_of(hint))}")
            section = typing.cast("type[Any]", hint)
            return section(**{item: _default(section(), item, kind) for item, kind in types_of(section).items()})
        plain = self._plain(value, key)
        if hint is Any:
            return plain
        if hint == dict[str, Any]:
            if not isinstance(plain, dict):
                self._wrong(key, plain, f"a mapping of names to {'values' if key in _MAPPINGS else 'plugins'}")
                return default
            return {str(item): plain[item] for item in plain}
        if hint == dict[str, list[Any]]:
            return self._grid(_metadata(schema, name)["fields_of"], plain, key)
        if type(plain) in members(hint):  # a number, a text, true, false or null: nothing to convert
            return plain
        converted = self._convert(schema, name, hint, plain, key)
        return default if converted is _REFUSED else converted

    def _convert(self, schema: type[Any], name: str, hint: Any, value: Any, key: str) -> Any:
        """The value as OmegaConf converts it ('5' to 5, 0.5 to '0.5'), except that true and false are never text."""
        if isinstance(value, bool) and str in members(hint):
            self._wrong(key, value, describe(hint), f"quote it: {key}: '{shown(value)}'")
            return _REFUSED
        probe = _probe(typing.cast("Hashable", schema))
        try:
            probe[name] = value
        except OmegaConfBaseException:
            self._wrong(key, value, describe(hint))
            return _REFUSED
        converted = value if isinstance(value, str) and "${" in value else probe[name]  # the text ${ is no interpolation here
        return OmegaConf.to_container(converted, resolve=False) if OmegaConf.is_config(converted) else converted

    def _grid(self, schema: type[Any], value: Any, key: str) -> dict[str, list[Any]]:
        """Lists of values for some fields of another section; each value is converted as that field converts it."""
        hints = types_of(schema)
        if not isinstance(value, dict):
            self._wrong(key, value, "a mapping of field names to lists of values")
            return {}
        grid: dict[str, list[Any]] = {}
        for name, items in value.items():
            where = join(key, name)
            if name not in hints:
                self.problems.append(_unknown(str(name), key, list(hints)))
            elif not isinstance(items, list):
                self._wrong(where, items, "a list of values")
            else:
                converted = [self._convert(schema, name, hints[name], item, where) for item in items]
                grid[str(name)] = [item for item in converted if item is not _REFUSED]
        return grid

    def _plain(self, value: Any, key: str) -> Any:
        """The value with every interpolation resolved and every container converted to a plain one."""
        if isinstance(value, DictConfig):
            return {name: self._value(value, name, join(key, name), deep=True)[1] for name in value}
        if isinstance(value, ListConfig):
            return [self._value(value, index, f"{key}[{index}]", deep=True)[1] for index in range(len(value))]
        return value

    def _value(self, node: DictConfig | ListConfig, name: Any, key: str, deep: bool = False) -> tuple[bool, Any]:
        """Whether there is a value; and the value, or the text of the interpolation that does not resolve."""
        if OmegaConf.is_missing(node, name):
            if deep:
                self._missing(key)
            return False, MISSING
        try:
            value = node[name]
        except OmegaConfBaseException as error:
            raw = str(typing.cast("Any", OmegaConf.to_container(node, resolve=False))[name])
            self.raw.add(raw)
            known = {problem.where for problem in self.problems} | self._refused
            if self._reads(key) and not _waits_for_name(node, error) and known.isdisjoint(_REFERENCE.findall(raw)):
                self.problems.append(_unresolved(key, raw, error))
            return False, raw
        return True, self._plain(value, key) if deep else value

    def _missing(self, key: str) -> None:
        if self._requires(key):
            self.problems.append(Problem(key, "no value (???)", "a value", f"give {key}=VALUE"))

    def _wrong(self, key: str, value: Any, expected: str, remedy: str | None = None) -> None:
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if remedy is None:
            listed = expected.startswith("a list") and isinstance(value, str)
            remedy = f"write '{key}=[{value}]'" if listed else f"give {key} {expected}"
        self.problems.append(Problem(key, f"{shown(value)} ({kind_of(value)})", expected, remedy))


@functools.cache
def _probe(schema: Hashable) -> DictConfig:
    """A section in which values can be set one by one, to be converted to the types of the schema; built once per process."""
    probe: DictConfig = OmegaConf.structured(schema)
    OmegaConf.set_readonly(probe, False)  # a section of a frozen dataclass is read-only at first
    return probe


def _default(defaults: Any, name: str, hint: Any) -> Any:
    """The default of a field; 0 for a number whose default is that of another key."""
    default = getattr(defaults, name)
    return 0 if isinstance(default, str) and hint is int else default


def _metadata(schema: type[Any], name: str) -> Mapping[str, Any]:
    return next(item.metadata for item in dataclasses.fields(schema) if item.name == name)


def _unknown(name: str, prefix: str, siblings: list[str]) -> Problem:
    keys = all_keys()
    inside = {key.replace(".", "_"): key for key in keys if name.startswith(f"{key.split('.')[0]}_")}  # projection_dim
    beside = inside.get(nearest(name, inside) or "") or nearest(name, siblings)
    elsewhere = next((key for key in keys if key.rpartition(".")[2] == name), None) or nearest(join(prefix, name), keys)
    meant = _MEANT.get(join(prefix, name)) or (join(prefix, beside) if beside else elsewhere)
    remedy = f"did you mean {meant}?" if meant else "remove the key"
    return Problem(join(prefix, name), "an unknown key", one_of(siblings), remedy)


def _variable(problem: Problem, own: Mapping[str, Any]) -> Problem:
    """The problem of an unknown key in the user's own file. The user may have meant a value for ``vars``."""
    name = problem.where
    remedy = f"write it under vars:, and refer to it as ${{vars.{name}}}"
    if re.search(rf"\$\{{{re.escape(name)}[.\[}}]", OmegaConf.to_yaml(OmegaConf.create(dict(own)))) is None:
        if nearest(name, all_keys(), 0.75) is not None:
            return problem
        remedy = f"{problem.remedy} Or, for a value of your own: {remedy}"
    return dataclasses.replace(problem, remedy=remedy)


def _waits_for_name(node: DictConfig | ListConfig, error: OmegaConfBaseException) -> bool:
    """Whether only the name of the run is missing, which is reported under its own key where a stage needs it."""
    root = node._get_root()
    return isinstance(error, InterpolationToMissingValueError) and OmegaConf.is_missing(root, "name")


def _unresolved(key: str, raw: str, error: OmegaConfBaseException) -> Problem:
    reason = one_line(str(error).partition("full_key")[0])
    remedy = "set the key or the environment variable that it names, or correct the name"
    if isinstance(error, InterpolationToMissingValueError):
        remedy = "set the key that it names, which has no value (???)"
    elif not isinstance(error, InterpolationResolutionError):
        remedy = "correct the ${…}"
    return Problem(key, f"{raw}, which does not resolve: {reason}", "an interpolation that resolves to a value", remedy)
