"""How the scores of a report were made, as names and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trak_cli import __version__
from trak_cli.results.scored import Scored
from trak_cli.store.container import read_image
from trak_cli.store.failures import MissingError, reading
from trak_cli.store.layout import Layout
from trak_cli.types import Json, by_numbers, listed

#: Entries of a fingerprint that say nothing to a reader.
_TECHNICAL = (
    "format",
    "kind",
    "checkpoint",
    "checkpoints",
    "shapes_sha256",
    "target_block",
    "chosen",
    "split",
    "samples",
    "rows",
)

#: Number of checkpoints that are named.
_NAMED = 8

Fact = tuple[str, str]


def facts_of(scored: Scored, checkpoints: Mapping[str, Json]) -> list[Fact]:
    """The store, the estimator, the checkpoints, the features and the versions.

    Args:
        checkpoints: those of the scores, with their fingerprints.
    """
    facts = [
        ("store", str(scored.layout.root)),
        ("targets", f"{len(scored.target_rows):,} of split {scored.split}"),
        ("training samples", f"{scored.rows:,}"),
        ("estimator", scored.estimator),
        (
            "settings of the estimator",
            ", ".join(f"{key} {text}" for key, text in _flat(scored.fingerprint.get("estimator", {}))),
        ),
        ("scores", "of every training sample" if scored.dense else "the highest and lowest of each target only"),
    ]
    if not checkpoints:
        facts += list(_flat({key: value for key, value in scored.fingerprint.items() if key not in ("estimator", "targets")}))
    return [*facts, *facts_of_features(scored.layout, checkpoints)]


def facts_of_features(layout: Layout, checkpoints: Mapping[str, Json]) -> list[Fact]:
    """The checkpoints, how their features were computed, and the versions."""
    facts: list[Fact] = []
    if checkpoints:
        names = sorted(checkpoints, key=by_numbers)
        facts += [("checkpoints", f"{len(names)}: {listed(names, _NAMED)}"), *_flat(next(iter(checkpoints.values())))]
    return [*facts, *_versions(layout, list(checkpoints)), ("this page", f"trak {__version__}")]


def config_text(layout: Layout) -> str | None:
    """The configuration of the first ``trak featurize``; None if the store has none."""
    try:
        with reading(layout.config):
            return layout.config.read_text(encoding="utf-8", errors="replace")
    except MissingError:
        return None


def _versions(layout: Layout, checkpoints: list[str]) -> Iterator[Fact]:
    """What computed the features, from the provenance of their first shard, without the name of the machine."""
    for checkpoint in checkpoints[:1]:
        for shard in layout.shards(checkpoint, "train")[:1]:
            made = read_image(layout.features(checkpoint, "train", shard), only=()).provenance
            yield "features computed by", ", ".join(f"{key} {value}" for key, value in made.items() if key != "host")


def _flat(values: Json, prefix: str = "") -> Iterator[Fact]:
    """Nested entries as dotted names and texts; the class of a plugin is the value of the plugin's own name."""
    for key, value in values.items():
        if key in _TECHNICAL or key.endswith("_version"):
            continue
        name = prefix + key.removeprefix("_target_") if key != "_target_" else prefix.rstrip(".")
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif value is not None:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return listed([str(item) for item in value], _NAMED)
    return f"{value:g}" if isinstance(value, float) else str(value)
