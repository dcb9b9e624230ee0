"""Opening a store that a run has left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trak_cli.api.live import is_object, node_of, same
from trak_cli.api.store import Store
from trak_cli.config.compose.plugin_import import use_folder
from trak_cli.config.stored import read_stored
from trak_cli.config.validate.plugins import instantiate_repeatable
from trak_cli.errors import ConfigError, InputError, Problem, StoreError
from trak_cli.results.samples import dataset_key
from trak_cli.store.layout import Layout
from trak_cli.types import TRAIN


def open_store(path: str | Path, *, datasets: bool | Mapping[str, Any] = False, config_dir: str | Path | None = None) -> Store:
    """A finished store. Opening it reads files as data and runs no code that the store names.

    A store may come from somebody else, and its configuration names the classes of its data sets. They describe rows by text,
    label and image, but building them imports and runs code, so this is done only if you ask for it.

    Args:
        path: the folder (``store`` of the configuration).
        datasets: the samples that describe rows. False: none, so that rows have numbers and scores only. True: build the
            data sets that the store's config.yaml names, which runs their code: for stores that you trust. Or your own
            objects: split name -> data set, ``{"train": train_set, "test": test_set}``.
        config_dir: folder with the modules of these plugins (``-d`` of the command line).

    Raises:
        StoreError: there is no store.
        ConfigError, InputError: a data set cannot be built.
    """
    root = Path(path).expanduser().absolute()
    layout = Layout(root)
    splits = layout.described_splits()
    if not splits and not layout.config.is_file():
        found = "a folder without config.yaml and splits" if root.is_dir() else "no such folder"
        remedy = "correct the path, or make the store with trak.attribute(…, store=PATH)"
        raise StoreError(Problem(str(root), found, "the store of a run", remedy))
    if config_dir is not None:
        use_folder(Path(config_dir))
    if isinstance(datasets, Mapping):
        given = dict(datasets)
    else:
        section = read_stored(layout.config).get("dataset", {}) if datasets else {}
        nodes = {TRAIN: section.get("train"), **(section.get("targets") or {})}
        nodes = {split: node for split, node in nodes.items() if node is not None}
        _refuse_objects(nodes)
        given = {split: instantiate_repeatable(node, dataset_key(split)) for split, node in nodes.items()}
    ConfigError.raise_for(
        Problem("datasets", f"the split {split!r}", f"splits of the store: {', '.join(splits)}", "correct the name")
        for split in given
        if split not in splits
    )
    nodes = {split: node_of(dataset_key(split)) for split in given}
    values = {"store": root, "dataset.train": nodes.pop(TRAIN, None), "dataset.targets": nodes}
    if estimator := read_stored(layout.config).get("estimator"):
        values["estimator"] = estimator
    return Store(root, values, {dataset_key(split): same(data) for split, data in given.items()})


def _refuse_objects(nodes: Mapping[str, Any]) -> None:
    """Refuse to build data sets that were objects in the memory of a process, as those of :func:`trak_cli.attribute` are."""
    objects = {split: node for split, node in nodes.items() if is_object(node)}
    if objects:
        expected, remedy = "data sets that config.yaml names as plugins", ", ".join(f"{split!r}: DATA" for split in nodes)
        found = f"objects of the process that made the store: {', '.join(objects)}"
        raise InputError(Problem("datasets", found, expected, f"give your own objects: datasets={{{remedy}}}"))
