"""Differences between the features that a run would compute and those that are stored, each with the key that sets it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from trak_cli.errors import Problem
from trak_cli.store.fingerprint import ABSENT, differences, shown
from trak_cli.store.json_files import read_json
from trak_cli.store.layout import Layout
from trak_cli.types import Json

#: Key of the digest of the file with the state of the optimizer, whose second moments scale gradients.
OPTIMIZER_STATE = "optimizer_state"

#: Keys of the fingerprint of features that belong to one checkpoint; all others are the same for all checkpoints of a store.
OF_CHECKPOINT = ("checkpoint", OPTIMIZER_STATE)

#: Part of a fingerprint -> the configuration key that sets it, where their names differ.
_KEYS = {
    "dtype": "features.dtype",
    "autocast": "gradients.autocast",
    "collate": "dataset.collate",
    "optimizer.moments": "gradients.moments",
}

#: Part of a fingerprint -> what gives it back, if it is stored, and if it is not.
_SWITCHES = {
    "optimizer": ("gradients.optimizer=adam", "gradients.optimizer=sgd"),
    "optimizer.moments": (None, "gradients.moments=samples"),
    "terms": ("gradients.terms=true", "gradients.terms=false"),
    "classes": ("gradients.classes=true", "gradients.classes=false"),
    "autocast": (None, "gradients.autocast=null"),
    "collate": (None, "dataset.collate=null"),
}


def stored_differences(layout: Layout, fingerprints: Mapping[str, Json]) -> Iterator[Problem]:
    """One problem for each value that differs from what is stored, however many checkpoints it concerns.

    Args:
        fingerprints: checkpoint -> the fingerprint of the features that the run would compute.

    Raises:
        StoreError, MachineError: a stored fingerprint cannot be read.
    """
    differing: dict[tuple[str, str, str], tuple[Any, list[str]]] = {}
    for checkpoint, wanted in fingerprints.items():
        path = layout.fingerprint(checkpoint)
        for key, stored, ours in differences(read_json(path), wanted) if path.exists() else ():
            if key != OPTIMIZER_STATE or ABSENT not in (stored, ours):  # otherwise the moments differ too
                differing.setdefault((key, shown(stored), shown(ours)), (stored, []))[1].append(checkpoint)
    for (key, found, expected), (stored, (first, *others)) in differing.items():
        more = f", and those of {len(others)} more checkpoints" if others else ""
        remedy = f"{_remedy(key, stored, first)}; or choose another store folder: store=FOLDER"
        yield Problem(f"{layout.fingerprint(first)}: fingerprint {key}{more}", found, expected, remedy)


def _remedy(key: str, stored: Any, checkpoint: str) -> str:
    part = key.partition(".")[0]
    if key == "checkpoint":
        return f"restore the file of {checkpoint} that was featurized, or rename the new file"
    if key == OPTIMIZER_STATE:
        return "restore the files with the optimizer state that were read for the features"
    if part == "parameters":
        return "restore the model, parameters.include and parameters.exclude of the features"
    if part in ("format", "kind") or key.endswith(("_version", ".scales", ".signs", ".version", "_sha256")):
        return "use the version of trak that wrote the features"
    value = _SWITCHES.get(key, (None, None))[stored == ABSENT]
    if value is None and stored == ABSENT:
        return f"leave {_KEYS.get(key, key)} out"
    if value is None:
        value = f"{_KEYS.get(key, key)}={_written(stored)}"
    return f"to keep the features, give {quote(value)}"


def _written(value: Any) -> str:
    """A value in the form of an override."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_written(item)}" for name, item in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value)
