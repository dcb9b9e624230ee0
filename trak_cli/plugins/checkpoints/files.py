"""Checkpoint files: which ones, their identity, what is in them, and putting it into a model."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.checkpoints.adapters import adapter_names
from trak_cli.plugins.checkpoints.archive import read_archive
from trak_cli.plugins.checkpoints.parted import is_index, parts_of

#: Where training programs put the state_dict inside a larger dict.
_NESTS = ("state_dict", "model_state_dict", "model")

#: What wrappers (DataParallel, torch.compile) put before every name.
_PREFIXES = ("module.", "_orig_mod.")


def find(patterns: str | Sequence[str], base: Path) -> list[Path]:
    """The files that the patterns match, relative to ``base``: patterns in their order, matches of one in natural order.

    ``**`` matches any depth; a pattern that is itself the name of a file is that file; a file is listed once.

    Raises:
        ConfigError: no pattern, or patterns that match no file; all of them at once.
    """
    several = [patterns] if isinstance(patterns, str) else list(patterns)
    found: dict[Path, None] = {}
    problems = []
    for pattern in several:
        literal = base / pattern
        matches = [literal] if literal.is_file() else _matches(pattern, base)
        found.update(dict.fromkeys(matches))
        if not matches:
            problems.append(_nothing(f"{pattern!r}, which matches no file in {base.resolve()}"))
    if problems or not several:
        raise ConfigError(problems or _nothing("an empty list"))
    return list(found)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits: the identity of a checkpoint. Of one in several parts, that of theirs.

    Raises:
        InputError: the file, or a part, cannot be read.
    """
    if is_index(path):
        return hashlib.sha256("".join(sha256(part) for part in parts_of(path)).encode()).hexdigest()
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(Problem(str(path), f"{error.strerror}", "a readable checkpoint", "correct the path")) from error


def name_of(path: Path, digest: str) -> str:
    """A checkpoint's folder name: its stem in safe characters, a dash, and the first 8 digits of its SHA-256."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem).strip("._-")[:64]
    return f"{stem or 'checkpoint'}-{digest[:8]}"


def load(path: Path) -> dict[str, Tensor]:
    """The state_dict in a checkpoint file, on the CPU; nothing in the file is executed.

    Taken are .safetensors files and what torch.save writes; a state_dict may lie under one of the keys state_dict,
    model_state_dict and model. An index (``….index.json``) stands for the files that it names.

    Raises:
        InputError: missing, damaged, a pickle that would run code, or no state_dict in it.
    """
    if is_index(path):
        return {name: tensor for part in parts_of(path) for name, tensor in load(part).items()}
    content = read_archive(path)
    state = _as_state(content)
    if state is not None:
        return state
    nested = {key: _as_state(content[key]) for key in _NESTS if isinstance(content, Mapping) and key in content}
    states = {key: inner for key, inner in nested.items() if inner is not None}
    if len(states) == 1:
        return next(iter(states.values()))
    if states:
        found = f"several state_dicts, under the keys {', '.join(states)}"
    elif isinstance(content, Mapping):
        found = f"a mapping with the keys {', '.join(map(str, list(content)[:8]))}"
    else:
        found = type(content).__name__
    expected = f"names and tensors, at the top or under one of the keys {', '.join(_NESTS)}"
    raise InputError(Problem(str(path), found, expected, "save torch.save(model.state_dict(), path)"))


def dump(model: nn.Module) -> bytes:
    """A model's weights as the bytes of a safetensors file; a tensor with several names is stored once, under the first.

    Of a model with a PEFT adapter, the adapter's weights alone, under the names that peft gives them.
    """
    whole, names = _tensors(model), adapter_names(model)
    state = whole if names is None else {name: whole[own] for name, own in names.items()}
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        unique.setdefault(id(tensor), (name, tensor))
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in unique.values()})


def apply(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put a state_dict into a model, in place, in the model's dtypes and on its device.

    Names and shapes must agree exactly, but a tied weight may be there under one of its names only, and a prefix that
    wrappers add ("module.", "_orig_mod.") may stand before all names. A model with a PEFT adapter takes the adapter's
    weights alone, under the names that peft writes.

    Args:
        path: the checkpoint's file, for messages.

    Raises:
        InputError: all missing, unexpected and mis-shaped names, tied weights with different values, and parameters that are
            not finite, at once.
    """
    own = _tensors(model)
    names = adapter_names(model)
    if names is not None:
        own = {name: own[inside] for name, inside in names.items()}
    state = _without_prefix(state, own)
    tied = _aliases(own)
    problems = _problems(own, state, tied, str(path))
    if problems:
        raise InputError(problems)
    if names is not None:
        state = {names[name]: value for name, value in state.items()}
    # Not strict, as names of tied weights may be missing. Copying into ``own`` would be lost where a model's state_dict
    # hooks return copies.
    model.load_state_dict(dict(state), strict=False)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """What of a model's state a checkpoint holds: a module's extra state may be anything, and is no weight."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _problems(own: dict[str, Tensor], state: Mapping[str, Tensor], tied: dict[str, list[str]], path: str) -> list[Problem]:
    remedy = "load it into the model that it was saved from"
    problems = []
    for name, value in own.items():
        others = [other for other in tied[name] if other in state and other != name]
        if name not in state and not others:
            problems.append(Problem(path, f"no {name}", f"{name} {tuple(value.shape)}", remedy))
        elif name in state and state[name].shape != value.shape:
            found = f"{name} {tuple(state[name].shape)}"
            problems.append(Problem(path, found, f"{name} {tuple(value.shape)}", remedy))
        elif name in state and others and name == tied[name][0]:
            problems += [
                Problem(path, f"different values for {name} and {other}", "equal values: the model ties them", remedy)
                for other in others
                if not torch.equal(state[name], state[other])
            ]
        if isinstance(value, nn.Parameter) and name in state and (bad := _not_finite(state[name])):
            found = f"{name}, where {bad:,} of {state[name].numel():,} numbers are NaN or infinite"
            problems.append(Problem(path, found, "finite weights", "take a checkpoint from before training went wrong"))
    unexpected = [name for name in state if name not in own]
    problems += [
        Problem(path, f"{name} {tuple(state[name].shape)}", "no such name in the model", remedy) for name in unexpected
    ]
    return problems


def _not_finite(tensor: Tensor) -> int:
    return int((~tensor.isfinite()).sum()) if tensor.is_floating_point() else 0


def _aliases(own: dict[str, Tensor]) -> dict[str, list[str]]:
    """Name -> all names of the same tensor."""
    groups: dict[int, list[str]] = {}
    for name, value in own.items():
        groups.setdefault(id(value), []).append(name)
    return {name: groups[id(value)] for name, value in own.items()}


def _without_prefix(state: Mapping[str, Tensor], own: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """The state without a wrapper's prefix, where that makes all its names known."""
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) and name.removeprefix(prefix) in own for name in state):
            return {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _as_state(content: object) -> dict[str, Tensor] | None:
    if isinstance(content, Mapping) and content:
        items = dict(content.items())
        if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in items.items()):
            return items
    return None


def _matches(pattern: str, base: Path) -> list[Path]:
    """The files under ``base`` that match; ``base`` itself is no pattern, whatever characters it has."""
    paths = [base / name for name in glob.glob(pattern, root_dir=base, recursive=True)]
    return sorted((path for path in paths if path.is_file()), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key under which step_9 comes before step_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _nothing(found: str) -> Problem:
    return Problem("checkpoints", found, "patterns that match checkpoint files", "correct checkpoints, or run `trak train`")
