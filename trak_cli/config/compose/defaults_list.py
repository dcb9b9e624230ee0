"""Problems of the defaults list in the user's own file, each with the corrected line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import MISSING, DictConfig

from trak_cli.config.compose.compose import Source, as_written
from trak_cli.config.compose.files import option_exists
from trak_cli.config.compose.overrides import NO_HYDRA
from trak_cli.config.wording import nearest, one_of, shown
from trak_cli.errors import Problem

Groups = Mapping[str, Sequence[str]]

_BASE = ("trak", "_self_")


def list_problems(source: Source, groups: Groups) -> Iterator[Problem]:
    """Entries of the list that name no option of their group, or that lack the word ``override``."""
    fixed: dict[str, str] = {}
    for group, option, overrides in _selections(source):
        where = str(source.own_file)
        if group not in groups:
            continue
        if not option_exists(group, option, source.config_dir):
            meant = nearest(option, groups[group])
            remedy = f"did you mean {{override {group}: {meant}}}?" if meant else "select one of those"
            yield Problem(
                where,
                f"{group}/{option} in the defaults list, an option that {group} does not have",
                one_of(groups[group]),
                remedy,
            )
        elif not overrides and "trak" in _entries(source):
            fixed[group] = option
    if fixed:
        found = ", ".join(f"{{{group}: {option}}}" for group, option in fixed.items()) + " in the defaults list"
        expected = "the word override before a group, because trak selects an option of it already"
        yield Problem(str(source.own_file), found, expected, f"write defaults: {_line(source, fixed)}")


def hydra_problems(source: Source) -> Iterator[Problem]:
    """A ``hydra:`` section in the user's file, and options of Hydra in its defaults list. Neither would have an effect."""
    where = str(source.own_file)
    if "hydra" in source.own_values:
        yield Problem("hydra", f"a section in {where}", NO_HYDRA, "remove the section; the folder of a run is store: …")
    for group, option, _ in _selections(source):
        if group.startswith("hydra/"):
            yield Problem(where, f"{group}: {option} in the defaults list", NO_HYDRA, "remove the entry")


def texts_for_groups(source: Source, tree: DictConfig, groups: Groups) -> Iterator[Problem]:
    """Groups whose key holds the name of an option, such as ``task: regression``. Their keys are removed from the tree."""
    texts = {group: text for group in groups if _is_text(text := as_written(tree, group))}
    for group in texts:
        del tree[group]
    known = {group: text for group, text in texts.items() if option_exists(group, text, source.config_dir)}
    for group, text in texts.items():
        expected = "a mapping; an option of the group is selected in the defaults list"
        if group in known:
            remedy = f"remove this line, and write defaults: {_line(source, known)}"
        elif "." in text and all(part.isidentifier() for part in text.split(".")):
            remedy = f"write {group}: {{_target_: {text}}}"
        else:
            meant = nearest(text, groups[group])
            expected += f" ({one_of(groups[group])})"
            remedy = f"did you mean {{override {group}: {meant}}} in the defaults list?" if meant else "select one of those"
        yield Problem(group, f"the text {shown(text)}", expected, remedy)


def lacks_defaults(source: Source) -> bool:
    """Whether the user's own file inherits no other file."""
    return source.own_file is not None and not any(entry != "_self_" for entry in _entries(source) if isinstance(entry, str))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != MISSING and "${" not in value


def _entries(source: Source) -> list[Any]:
    """The entries of the defaults list as written; empty if there is none, or the file cannot be read."""
    listed = source.own_values.get("defaults")
    return listed if isinstance(listed, list) else []


def _selections(source: Source) -> Iterator[tuple[str, str, bool]]:
    """(group, option, whether it says override) of each entry that selects one option."""
    for entry in _entries(source):
        for key, option in entry.items() if isinstance(entry, dict) else ():
            group = str(key).removeprefix("optional ").removeprefix("override ").lstrip("/")
            if isinstance(option, str) and "${" not in option:
                yield group, option, "override " in str(key)


def _line(source: Source, selected: Mapping[str, str]) -> str:
    """The whole defaults list with these options selected, as it stands in YAML."""
    names = [str(entry) for entry in _entries(source) if isinstance(entry, str)] or list(_BASE)
    others = {group: option for group, option, _ in _selections(source) if group not in selected}
    overrides = [f"{{override {group}: {option}}}" for group, option in {**others, **selected}.items()]
    return f"[{', '.join([*names, *overrides])}]"
