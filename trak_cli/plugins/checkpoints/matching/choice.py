"""Choosing the weights in a checkpoint file, or saying why none fit."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor
from torch.nn.parameter import is_lazy

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.formats.tensors import Entry, NamedTensors
from trak_cli.plugins.checkpoints.matching.places import Matcher, Place, same_values, within
from trak_cli.plugins.checkpoints.matching.tolerance import Tolerance

#: Number of names that a message lists.
SHOWN = 4

#: Number of missing names for which a counterpart under another prefix is searched.
_TRIED = 20

_REMEDY = "load it into the model that it was saved from"


def choose(own: Mapping[str, Tensor], tensors: NamedTensors, path: Path, key: str | None, tolerance: Tolerance) -> Place:
    """The place of the model's weights in the file.

    Args:
        own: the model's names and tensors.
        tensors: the tensors of the file.
        path: the file, for messages.
        key: ``checkpoints.key``: only tensors under this name are considered; None: all of them.

    Raises:
        InputError: no place fits, or several do that hold different values, or there is nothing under the key.
    """
    if key is not None and key != ".":
        chosen = within(tensors, key)
        if not chosen:
            raise InputError(_no_such_key(tensors, key, path))
        tensors = chosen
    places = Matcher(own, tensors, tolerance).places()
    if any(place.key == key for place in places):
        places = [place for place in places if place.key == key]
    fitting = [place for place in places if place.complete and not place.extra]
    if len(fitting) > 1 and not same_values(fitting, tensors):
        raise InputError(_several(fitting, path))
    if fitting:
        return fitting[0]
    best = max(places, key=_score, default=None) or _nothing_alike(own, tensors)
    raise InputError(_misfits(best, own, tensors, path))


def override(key: str) -> str:
    """``checkpoints.key=KEY`` as it is pasted into a shell."""
    if re.fullmatch(r"[A-Za-z_][\w./-]*", key) and key.lower() not in ("true", "false", "null", "nan", "inf"):
        return f"checkpoints.key={key}"
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return shlex.quote(f'checkpoints.key="{escaped}"')


def _score(place: Place) -> tuple[int, int, int]:
    return len(place.names) - len(place.misshapen), len(place.names), -len(place.extra)


def _nothing_alike(own: Mapping[str, Tensor], tensors: NamedTensors) -> Place:
    """The largest mapping of the file, none of whose names the model has."""
    sizes: dict[str, list[str]] = {}
    for name in tensors:
        sizes.setdefault(tensors.holders[name], []).append(name)
    holder, extra = max(sizes.items(), key=lambda item: len(item[1]))
    return Place(tuple(holder.split(".")) if holder else (), holder or ".", {}, list(own), extra)


def _several(places: list[Place], path: Path) -> Problem:
    keys = [place.key for place in places]
    found = f"several weights that fit the model and differ, under {', '.join(keys)}"
    remedy = "give " + " or ".join(map(override, keys[:SHOWN]))
    return Problem(str(path), found, "one set of weights, or checkpoints.key to select one", remedy)


def _no_such_key(tensors: NamedTensors, key: str, path: Path) -> Problem:
    known = sorted(
        {".".join(parts[:length]) for parts in (name.split(".") for name in tensors) for length in range(1, len(parts))}
    )
    close = difflib.get_close_matches(key, known, n=1)
    tops = sorted({name.partition(".")[0] for name in tensors})
    expected = f"a name with tensors under it: {_listed(tops, len(tops))}"
    remedy = f"did you mean {override(close[0])}?" if close else "leave checkpoints.key out, or give one of these"
    return Problem(str(path), f"nothing under checkpoints.key={key}", expected, remedy)


def _misfits(place: Place, own: Mapping[str, Tensor], tensors: NamedTensors, path: Path) -> Iterator[Problem]:
    """One problem for each kind of difference, at the place that fits best."""
    where = str(path) if place.key == "." else f"{path} ({place.key})"
    renamed, missing, extra = _renamed(place, own, tensors)
    if renamed and not missing and not extra:
        found = ", ".join(f"{new or 'names without a prefix'} ({count} tensors)" for new, _, count in renamed)
        expected = ", ".join(old or "no prefix" for _, old, _ in renamed)
        yield Problem(where, found, f"{expected}, as in the model", "rename the parts of the model as in the file")
    else:
        missing, extra = place.missing, place.extra
    if place.misshapen:
        there = [f"{name} {tuple(tensors[place.names[name]].shape)}" for name in place.misshapen]
        wanted = [f"{name} {tuple(own[name].shape)}" for name in place.misshapen]
        remedy = "build the model with the sizes that it was trained with"
        yield Problem(where, _listed(there, len(own)), _listed(wanted, len(own)), remedy)
    if missing:
        wanted = [name if is_lazy(own[name]) else f"{name} {tuple(own[name].shape)}" for name in missing]
        yield Problem(where, f"no {_listed(missing, len(own))}", _listed(wanted, len(own)), _REMEDY)
    if extra:
        there = [f"{name} {tuple(tensors[name].shape)}" for name in extra]
        yield Problem(where, _listed(there, len(tensors)), "no such names: the model does not have them", _REMEDY)


def _renamed(
    place: Place, own: Mapping[str, Tensor], tensors: NamedTensors
) -> tuple[list[tuple[str, str, int]], list[str], list[str]]:
    """Prefixes that differ between file and model, each with its number of tensors; then the other missing and extra names."""
    missing, extra = [name for name in own if name not in place.names], list(place.extra)
    renamed: list[tuple[str, str, int]] = []
    for name in place.missing[:_TRIED]:
        if name in missing:
            for candidate in extra:
                old, new = _ends(name, candidate)
                pairs = {own_name: new + own_name.removeprefix(old) for own_name in missing if own_name.startswith(old)}
                if old != new and all(
                    file_name in extra and _alike(own[own_name], tensors[file_name]) for own_name, file_name in pairs.items()
                ):
                    renamed.append((f"{new}*", f"{old}*", len(pairs)))
                    missing = [own_name for own_name in missing if own_name not in pairs]
                    extra = [own_name for own_name in extra if own_name not in pairs.values()]
                    break
    return renamed, [name for name in missing if name in place.missing], extra


def _ends(first: str, second: str) -> tuple[str, str]:
    """The prefixes before the longest common suffix of two dotted names."""
    ours, theirs = first.split("."), second.split(".")
    same = 0
    while same < min(len(ours), len(theirs)) and ours[-1 - same] == theirs[-1 - same]:
        same += 1
    if not same:
        return first, first
    heads = [".".join(parts[: len(parts) - same]) for parts in (ours, theirs)]
    return tuple(f"{head}." if head else "" for head in heads)  # type: ignore[return-value]


def _alike(own: Tensor, entry: Entry) -> bool:
    return is_lazy(own) or own.shape == entry.shape


def _listed(texts: list[str], total: int) -> str:
    if len(texts) <= SHOWN:
        return ", ".join(texts)
    return f"{', '.join(texts[:SHOWN])} and {len(texts) - SHOWN} more (of {total})"
