"""Feature shards: rows [a, b) of one split under one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trak_cli.errors import Problem
from trak_cli.store.container import Image, read_image
from trak_cli.store.dtypes import FEATURE_DTYPES, SCALED_DTYPES, EncodedRows, check_values, decode_rows, encode_rows
from trak_cli.store.failures import DamagedError, ForeignError, MissingError, foreign
from trak_cli.store.fingerprint import problems_between
from trak_cli.store.partial.single_rows import PlaceInFile
from trak_cli.store.publish import write_image
from trak_cli.types import AnyArray, Float32, Json, Rows

#: Datasets of every shard.
_COLUMNS = ("features", "out_to_loss", "outputs", "sample_ids", "rows")

#: What training rows may have besides features -> its datasets: features, and a number for each row.
CURVATURE_COLUMNS = {"terms": ("term_features", "terms"), "classes": ("class_features", "residuals")}
_CURVATURE = tuple(CURVATURE_COLUMNS.values())

#: Datasets of a shard whose task predicts classes, and their dtypes.
PREDICTED = {"predicted": "int32", "predicted_probability": "float32"}

#: Datasets that are stored as the dtype of the features; each has a dataset of scales where this dtype has scales.
_ENCODED = ("features", *(features for features, _ in _CURVATURE))


def _scales_of(name: str) -> str:
    """The name of the dataset with the scales (rows,) of an encoded dataset."""
    return f"{name}_scale"


@dataclass(frozen=True)
class FeatureRows:
    """The values of one shard.

    Attributes:
        rows: which rows of the split.
        features: (rows, k) float32, φ.
        out_to_loss: (rows,) float32, q.
        outputs: (rows,) float32, f.
        sample_ids: (rows,) uint64, hash of each sample.
        term_features: (rows, k) float32, features of the sums of per-token terms with random signs; None without terms.
        terms: (rows,) float32, number of per-token terms of each sample, likewise.
        class_features: (rows, k) float32, features of a random combination of the other classes; None without them.
        residuals: (rows,) float32, the mean of 1 − p of the label near the beginning of training, likewise.
        predicted: (rows,) int32, the most probable class; None if the task has no classes or an earlier version wrote it.
        predicted_probability: (rows,) float32, its probability, likewise.
    """

    rows: Rows
    features: Float32
    out_to_loss: Float32
    outputs: Float32
    sample_ids: npt.NDArray[np.uint64]
    term_features: Float32 | None = None
    terms: Float32 | None = None
    class_features: Float32 | None = None
    residuals: Float32 | None = None
    predicted: npt.NDArray[np.int32] | None = None
    predicted_probability: Float32 | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureShard(FeatureRows):
    """One shard as it was read.

    Attributes:
        fingerprint: what determines the values.
        place: where its features lie.
    """

    fingerprint: Json
    place: PlaceInFile

    def cut(self, rows: Rows) -> FeatureShard:
        """The rows of the shard that are in ``rows``."""
        start, stop = max(rows.start, self.rows.start), min(rows.stop, self.rows.stop)
        if (start, stop) == (self.rows.start, self.rows.stop):
            return self
        arrays = {field.name: getattr(self, field.name) for field in fields(FeatureRows) if field.name != "rows"}
        within = slice(start - self.rows.start, stop - self.rows.start)
        cut: dict[str, Any] = {name: None if array is None else array[within] for name, array in arrays.items()}
        return replace(self, rows=Rows(start, stop), **cut)


class Condition(Enum):
    """The condition of a shard's file."""

    MISSING = "missing"
    WHOLE = "whole"
    SHORTER = "shorter"
    DAMAGED = "damaged"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class State:
    """The state of a shard's file.

    Attributes:
        condition: ``SHORTER`` is an intact shard that was written when the split had fewer rows, and has to be replaced.
        rows: its rows, if it could be read.
        sample_ids: the hashes of its samples, likewise.
        problems: what is wrong, if anything.
    """

    condition: Condition
    rows: Rows | None = None
    sample_ids: npt.NDArray[np.uint64] | None = None
    problems: tuple[Problem, ...] = ()


def write_features(
    path: Path, values: FeatureRows, fingerprint: Json, provenance: Json, dtype: str = "float32", *, overwrite: bool = False
) -> bool:
    """Store one shard, its features as ``dtype``.

    Args:
        path: the file, from the layout.
        values: what to store.
        fingerprint, provenance: see :func:`~trak_cli.store.container.build_image`; they do not include the rows.
        dtype: what the features are rounded to, one of :data:`~trak_cli.store.dtypes.FEATURE_DTYPES`.
        overwrite: replace an existing shard (one that is ``SHORTER``).

    Returns:
        True if the shard was written, False if an intact one existed already.

    Raises:
        InputError: a value is not finite, or too large for bfloat16 (names the sample).
        DamagedError, ForeignError: an existing file is damaged or not this shard.
        MachineError: disk full, read-only, no permission, ...
        ValueError: shapes that do not fit together.
    """
    arrays = _arrays_of(values, dtype)
    bfloat16 = [name for name in _ENCODED if name in arrays] if dtype == "bfloat16" else []
    if write_image(path, arrays, fingerprint, provenance, bfloat16=bfloat16, overwrite=overwrite):
        return True
    rows = _rows_of(read_image(path, only=("rows",)))
    if rows != values.rows:
        raise ForeignError(_other_rows(path, rows, values.rows))
    return False


def _arrays_of(values: FeatureRows, dtype: str) -> dict[str, AnyArray]:
    """The datasets of a shard."""
    columns = {"out_to_loss": values.out_to_loss, "outputs": values.outputs}
    encoded = {"features": values.features}
    for name, of_rows in _CURVATURE:
        features, numbers = getattr(values, name), getattr(values, of_rows)
        if features is not None and numbers is not None:
            if features.shape != values.features.shape:
                raise ValueError(f"{name.replace('_', ' ')} {features.shape} for features {values.features.shape}")
            columns[of_rows] = numbers
            encoded[name] = features
    count, first = len(values.rows), values.rows.start
    predicted = {name: array for name in PREDICTED if (array := getattr(values, name)) is not None}
    every: list[AnyArray] = [*columns.values(), *encoded.values(), *predicted.values(), values.sample_ids]
    lengths = {len(array) for array in every}
    if values.features.ndim != 2 or lengths != {count}:
        raise ValueError(f"rows {values.rows} with arrays of other lengths: {sorted(lengths)}")
    arrays: dict[str, AnyArray] = {
        "sample_ids": np.asarray(values.sample_ids, dtype=np.uint64),
        "rows": np.array([values.rows.start, values.rows.stop], dtype=np.int64),
    }
    for name, array in predicted.items():
        arrays[name] = np.asarray(array, dtype=PREDICTED[name])
    for name, column in columns.items():
        check_values(column, first, name)
        arrays[name] = np.asarray(column, dtype=np.float32)
    for name, features in encoded.items():
        stored = encode_rows(features, dtype, first, name)
        arrays[name] = stored.values
        if stored.scales is not None:
            arrays[_scales_of(name)] = stored.scales
    return arrays


def read_features(path: Path, with_curvature: bool = True) -> FeatureShard:
    """Read and check one shard; the caller compares its fingerprint.

    ``with_curvature``: include per-token terms or other classes, if it has them.

    Raises:
        MissingError, DamagedError, ForeignError, MachineError.
    """
    image = read_image(
        path,
        skip=() if with_curvature else [part for name, numbers in _CURVATURE for part in (name, numbers, _scales_of(name))],
    )
    rows = _rows_of(image)
    columns = [*(numbers for _, numbers in _CURVATURE), *PREDICTED]
    optional: dict[str, Any] = {name: image.arrays[name] for name in columns if name in image.arrays}
    optional |= {name: _decoded(image, name) for name, numbers in _CURVATURE if numbers in image.arrays}
    return FeatureShard(
        rows=rows,
        features=_decoded(image, "features"),
        out_to_loss=image.arrays["out_to_loss"],
        outputs=image.arrays["outputs"],
        sample_ids=image.arrays["sample_ids"],
        **optional,
        fingerprint=image.fingerprint,
        place=PlaceInFile(image.digest, image.starts["features"], image.starts.get(_scales_of("features"), 0)),
    )


def _decoded(image: Image, name: str) -> Float32:
    """An encoded dataset as float32."""
    return decode_rows(EncodedRows(image.arrays[name], image.arrays.get(_scales_of(name))), image.dtypes[name])


def inspect_features(path: Path, expected_rows: Rows | None, expected_fingerprint: Json | None) -> State:
    """The state of a shard's file, every byte checked; None accepts any rows or fingerprint.

    Raises:
        MachineError: it cannot be read.
    """
    try:
        image = read_image(path, only=("rows", "sample_ids"))
        rows = _rows_of(image)
    except MissingError as error:
        return State(Condition.MISSING, problems=error.problems)
    except DamagedError as error:
        return State(Condition.DAMAGED, problems=error.problems)
    except ForeignError as error:
        return State(Condition.FOREIGN, problems=error.problems)
    problems = problems_between(path, image.fingerprint, expected_fingerprint) if expected_fingerprint is not None else []
    shorter = False
    if expected_rows is not None and rows != expected_rows:
        shorter = rows.start == expected_rows.start and rows.stop < expected_rows.stop
        if not shorter:
            problems.append(_other_rows(path, rows, expected_rows))
    if problems:
        return State(Condition.FOREIGN, rows, problems=tuple(problems))
    return State(Condition.SHORTER if shorter else Condition.WHOLE, rows, image.arrays["sample_ids"])


def _rows_of(image: Image) -> Rows:
    """The rows of a feature shard, once its datasets, shapes and dtypes are found to fit together.

    Raises:
        ForeignError: the file is not a feature shard.
    """
    shapes, dtypes = image.shapes, image.dtypes
    dtype = dtypes.get("features")
    encoded = [name for name in _ENCODED if name in shapes]
    scales = [_scales_of(name) for name in encoded] if dtype in SCALED_DTYPES else []
    curvature = [pair for pair in _CURVATURE if pair[1] in shapes]
    predicted = PREDICTED if "predicted" in shapes else {}
    expected = {*_COLUMNS, *(name for pair in curvature for name in pair), *scales, *predicted}
    if set(shapes) != expected or shapes["rows"] != (2,):
        raise foreign(image.path, f"the datasets {sorted(shapes)}", "a feature shard")
    rows = Rows(*(int(bound) for bound in image.arrays["rows"]))
    columns = {"out_to_loss": "float32", "outputs": "float32", "sample_ids": "uint64", **predicted}
    columns |= dict.fromkeys([*(numbers for _, numbers in curvature), *scales], "float32")
    fits = (
        0 <= rows.start < rows.stop
        and dtype in FEATURE_DTYPES
        and len(shapes["features"]) == 2
        and shapes["features"][0] == len(rows)
        and all(shapes[name] == shapes["features"] and dtypes[name] == dtype for name in encoded)
        and all(shapes[name] == (len(rows),) and dtypes[name] == wanted for name, wanted in columns.items())
        and dtypes["rows"] == "int64"
    )
    if not fits:
        raise foreign(image.path, f"rows {rows} with shapes {shapes} and dtypes {dtypes}", "a feature shard")
    return rows


def _other_rows(path: Path, found: Rows, expected: Rows) -> Problem:
    remedy = "use the original features.shard_rows and dataset, or choose another store folder"
    return Problem(f"{path}: rows", str(found), str(expected), remedy)
