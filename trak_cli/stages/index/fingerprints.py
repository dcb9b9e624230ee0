"""Fingerprints: what determines the values in a file. Two files with equal fingerprints hold the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trak_cli.attribution.estimator.simulated_training import FLOW_ROWS, FLOW_VERSION, WINDOW
from trak_cli.attribution.estimator.spec import EstimatorSpec, choices, gram_key
from trak_cli.attribution.estimator.threshold import REFERENCE_ROWS
from trak_cli.stages.index.fingerprint_differences import stored_differences
from trak_cli.store.dtypes import FEATURE_DTYPES
from trak_cli.store.failures import ForeignError
from trak_cli.store.fingerprint import digest, require_same
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.store.json_files import read_json, write_json_once
from trak_cli.store.layout import Layout
from trak_cli.store.safety.records import is_count, require_fields
from trak_cli.types import Json

#: What training rows may have besides features, in fingerprints: per-token terms, or other classes.
CURVATURE = ("terms", "classes")

#: Fields of a fingerprint of features that are used, besides being compared.
_FEATURES = {"dtype": lambda value: value in FEATURE_DTYPES, "projection.dim": is_count}


def curvature_of(features: Json) -> str | None:
    """Which of :data:`CURVATURE` the training shards with this fingerprint have."""
    return next((name for name in CURVATURE if name in features), None)


def shard_fingerprint(features: Json, split: str) -> Json:
    """The fingerprint of one shard of features."""
    return {**features, "split": split}


def gram_fingerprint(features: Json, estimator: EstimatorSpec, rows: int) -> Json:
    """The fingerprint of a finalised Gram matrix: the features it sums, their number, and their weights."""
    key = gram_key(estimator, curvature_of(features))
    gram: Json = {"kind": "gram", "format": FORMAT_VERSION, "gram": key, "features": features, "rows": rows}
    if estimator.simulates_training:
        gram["simulated_training"] = {"version": FLOW_VERSION, "window": WINDOW, "rows": FLOW_ROWS}
    return gram


def scores_fingerprint(
    estimator: EstimatorSpec, features: Sequence[Json], rows: int, split: str, targets: int, top_k: int | None
) -> Json:
    """The fingerprint of the scores of one split: the estimator and the features of every checkpoint it averages."""
    return {
        "kind": "scores" if top_k is None else "top-k",
        "format": FORMAT_VERSION,
        "estimator": _estimator(estimator, features),
        "checkpoints": [digest(one) for one in features],
        "rows": rows,
        "split": split,
        "targets": targets,
        "top_k": top_k,
    }


def _estimator(estimator: EstimatorSpec, features: Sequence[Json]) -> Json:
    """The choices of an estimator, and the versions of what computes them.

    Choices at their default are left out: a new field with a default of no effect leaves older scores valid. An automatic ridge
    is written out, because a later version may choose by another rule.
    """
    written: Json = {"metric": estimator.metric, **choices(estimator)}
    if estimator.needs_gram:
        ridge = estimator.ridge_rule((estimator.uses_curvature and curvature_of(features[0])) or "samples")
        written |= {"ridge": ridge.value, "ridge_unit": ridge.unit, "ridge_floor": ridge.floor}
        written |= {"ridge_explained": ridge.explained} if ridge.explained else {}
    written["metric_version"] = estimator.metric_rule.version
    if estimator.simulates_training:
        written["simulated_training_version"] = FLOW_VERSION
    if estimator.soft_threshold:
        written["reference_rows"] = REFERENCE_ROWS
    return written


def read_fingerprint(layout: Layout, checkpoint: str) -> Json:
    """The expected fingerprint of a checkpoint's features.

    Raises:
        StoreError, MachineError: there is none, it cannot be read, or it is not one of features.
    """
    path = layout.fingerprint(checkpoint)
    return require_fields(path, read_json(path), _FEATURES, "a fingerprint of features")


def record_fingerprint(layout: Layout, checkpoint: str, fingerprint: Json) -> None:
    """Write the expected fingerprint of a checkpoint's features beside its shards.

    Raises:
        StoreError: something else is noted there already; each differing key is named.
    """
    path = layout.fingerprint(checkpoint)
    write_json_once(path, fingerprint)
    require_same(path, read_json(path), fingerprint)


def check_fingerprints(layout: Layout, fingerprints: Mapping[str, Json]) -> None:
    """Like :func:`record_fingerprint` for several checkpoints, without writing anything. A difference is reported once.

    Raises:
        StoreError: features of another run are stored under some of the names.
    """
    ForeignError.raise_for(stored_differences(layout, fingerprints))
