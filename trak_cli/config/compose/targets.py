"""Arguments that target splits take from the training set."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from trak_cli.config.compose.compose import Source, as_written
from trak_cli.config.compose.overrides import Change
from trak_cli.config.wording import covers, join

_TARGET = "_target_"
_TRAIN, _TARGETS = "dataset.train", "dataset.targets"
_SHIPPED = "trak_cli.plugins."

#: Arguments that say which samples a data set holds. A target split never takes them from the training set.
_SAMPLES = frozenset({"path", "table", "split", "subset", "first", "last", "single", "rows", "indices", "index"})

#: Arguments of a data set of the user's own that a target split of the same class takes: how samples become inputs.
_PREPROCESSING = frozenset(
    {"tokenizer", "max_length", "max_target_length", "size", "image_size", "resize", "mean", "std", "interpolation"}
)

#: Argument -> the arguments that a split may give instead of it.
_INSTEAD = {
    "resize": ("size",),
    "max_target_length": ("max_length",),
    "text": ("prompt", "completion", "messages"),
    "prompt": ("text", "messages"),
    "completion": ("text", "messages"),
    "messages": ("text", "prompt", "completion"),
}


def complete_targets(tree: DictConfig, source: Source, changes: Sequence[Change]) -> None:
    """Complete every target split in the tree.

    - A split without ``_target_`` has that of the training set.
    - A split of the same class takes the arguments of the training set that it does not give: of a class of this program all
      but those that say which samples it holds, of another class those of preprocessing. If the split has no ``_target_``, it
      takes all but those that say which samples. A value of the user's for the training set replaces one that an option of
      the config group gives the split.
    - A split of an option whose samples nobody names is left out if there is another one.
    """
    dataset = as_written(tree, "dataset")
    train, targets = (dataset.get("train"), dataset.get("targets")) if isinstance(dataset, dict) else (None, None)
    if not isinstance(targets, dict):
        return
    written = set(_written(source, changes))
    for name in [name for name, node in targets.items() if _is_open(node) and not _mentions(written, f"{_TARGETS}.{name}")]:
        if len(targets) > 1:
            del targets[name], tree.dataset.targets[name]
    if isinstance(train, dict) and isinstance(train.get(_TARGET), str):
        for name, node in targets.items():
            _complete(tree, f"{_TARGETS}.{name}", node, train, written)


def _complete(tree: DictConfig, key: str, node: Any, train: Mapping[str, Any], written: Collection[str]) -> None:
    """Complete one split, or a data set inside its arguments."""
    if not isinstance(node, dict):
        return
    like = key.count(".") == _TARGETS.count(".") + 1 and _TARGET not in node  # a split, not a mapping among its arguments
    if like or node.get(_TARGET) == train[_TARGET]:
        everything = like or train[_TARGET].startswith(_SHIPPED)
        given = {name for name, value in node.items() if value is not None and not _is_replaced(name, key, written)}
        for name in train:
            wanted = name not in _SAMPLES if everything else name in _PREPROCESSING
            told = (name in node and not _is_replaced(name, key, written)) or given.intersection(_INSTEAD.get(name, ()))
            if (wanted or name == _TARGET) and not told:
                OmegaConf.update(tree, join(key, name), f"${{{_TRAIN}.{name}}}", force_add=True)
    else:
        for name, value in node.items():
            _complete(tree, join(key, name), value, train, written)


def _is_replaced(name: str, key: str, written: Collection[str]) -> bool:
    """Whether the user gave this argument for the training set, and not for the split."""
    return _mentions(written, join(_TRAIN, name)) and not _mentions(written, join(key, name))


def _is_open(node: Any) -> bool:
    """Whether a split has an argument without a value (``???``)."""
    return isinstance(node, dict) and MISSING in node.values()


def _mentions(written: Collection[str], key: str) -> bool:
    return any(covers(key, name) for name in written)


def _written(source: Source, changes: Sequence[Change]) -> Iterator[str]:
    """The dotted keys of every value in the user's own file and on the command line."""
    yield from _keys(source.own_values, "")
    for change in changes:
        yield from _keys(change.value, change.key)


def _keys(value: Any, key: str) -> Iterator[str]:
    yield key
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _keys(item, join(key, name))
