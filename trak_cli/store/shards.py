"""Feature shards: rows [a, b) of one split under one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trak_cli.errors import Problem
from trak_cli.store.container import Image, decode_features, read_image
from trak_cli.store.dtypes import FEATURE_DTYPES, encode_features
from trak_cli.store.failures import DamagedError, ForeignError, MissingError, foreign
from trak_cli.store.fingerprint import problems_between
from trak_cli.store.publish import write_image
from trak_cli.types import Float32, Json, Rows

#: The datasets of a shard, those that it has besides where there are terms, and those that are rounded to its dtype.
_COLUMNS = ("features", "out_to_loss", "outputs", "sample_ids", "rows")
_TERMS = ("term_features", "terms")
_NARROWED = ("features", "term_features")


@dataclass(frozen=True)
class FeatureRows:
    """The values of one shard.

    Attributes:
        rows: which rows of the split.
        features: (rows, k) float32, φ.
        out_to_loss: (rows,) float32, q.
        outputs: (rows,) float32, f.
        sample_ids: (rows,) uint64, a hash of each sample.
        term_features: (rows, k) float32, features of the sums of terms with random signs, where there are such; else None.
        terms: (rows,) float32, how many terms each sample has, likewise.
    """

    rows: Rows
    features: Float32
    out_to_loss: Float32
    outputs: Float32
    sample_ids: npt.NDArray[np.uint64]
    term_features: Float32 | None = None
    terms: Float32 | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureShard(FeatureRows):
    """One shard as it was read.

    Attributes:
        fingerprint: what determines the values.
        digest: sha256 of the file.
        content: digest of values and fingerprint; the same whoever wrote the shard.
        dtype: what the features are stored as.
    """

    fingerprint: Json
    digest: str
    content: str
    dtype: str


class Condition(Enum):
    """What a look at a shard's place finds."""

    MISSING = "missing"
    WHOLE = "whole"
    SHORTER = "shorter"
    DAMAGED = "damaged"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class State:
    """What a look at a shard's place found.

    Attributes:
        condition: ``SHORTER``: whole and ours, but written when the split had fewer rows; it is to be replaced.
        rows: the rows that it holds, when it could be read.
        sample_ids: the hashes of their samples, likewise.
        problems: what is wrong, when something is.
    """

    condition: Condition
    rows: Rows | None = None
    sample_ids: npt.NDArray[np.uint64] | None = None
    problems: tuple[Problem, ...] = ()


def write_features(
    path: Path,
    values: FeatureRows,
    fingerprint: Json,
    provenance: Json,
    dtype: str = "float32",
    *,
    overwrite: bool = False,
) -> bool:
    """Store one shard, its features as ``dtype`` (float32, float16 or bfloat16).

    Args:
        path: the shard's place, from the layout.
        values: what to store.
        fingerprint, provenance: see :func:`~trak_cli.store.container.build_image`; the rows are kept apart from them.
        dtype: what the features are rounded to.
        overwrite: take the place of a shard that is there (one that is ``SHORTER``).

    Returns:
        True: ours was written. False: another writer's whole shard was already there.

    Raises:
        InputError: a value is not finite, overflows, or too many underflow (names the sample).
        DamagedError, ForeignError: another file was already there.
        MachineError: no room, read-only, no permission, ...
        ValueError: shapes that do not fit together.
    """
    count = len(values.rows)
    columns = (values.features, values.out_to_loss, values.outputs, values.sample_ids)
    if values.features.ndim != 2 or any(len(column) != count for column in columns):
        raise ValueError(f"rows {values.rows} with arrays of other lengths")
    first = values.rows.start
    arrays = {
        "features": encode_features(values.features, dtype, first),
        "out_to_loss": encode_features(values.out_to_loss, "float32", first, "out_to_loss"),
        "outputs": encode_features(values.outputs, "float32", first, "outputs"),
        "sample_ids": np.asarray(values.sample_ids, dtype=np.uint64),
        "rows": np.array([values.rows.start, values.rows.stop], dtype=np.int64),
    }
    if values.term_features is not None and values.terms is not None:
        if values.term_features.shape != values.features.shape or len(values.terms) != count:
            raise ValueError(f"terms {values.term_features.shape}, {len(values.terms)} for features {values.features.shape}")
        arrays["term_features"] = encode_features(values.term_features, dtype, first, "term_features")
        arrays["terms"] = encode_features(values.terms, "float32", first, "terms")
    bfloat16 = [name for name in _NARROWED if name in arrays] if dtype == "bfloat16" else []
    if write_image(path, arrays, fingerprint, provenance, bfloat16=bfloat16, overwrite=overwrite):
        return True
    rows = _rows_of(read_image(path, only=("rows",)))
    if rows != values.rows:
        raise ForeignError(_other_rows(path, rows, values.rows))
    return False


def read_features(path: Path, with_terms: bool = True) -> FeatureShard:
    """Read and check one shard; its fingerprint is for the caller to compare. ``with_terms``: also those, where it has them.

    Raises:
        MissingError, DamagedError, ForeignError, MachineError.
    """
    image = read_image(path, None if with_terms else _COLUMNS)
    rows = _rows_of(image)
    return FeatureShard(
        rows=rows,
        features=decode_features(image),
        out_to_loss=image.arrays["out_to_loss"],
        outputs=image.arrays["outputs"],
        sample_ids=image.arrays["sample_ids"],
        term_features=decode_features(image, "term_features") if "terms" in image.arrays else None,
        terms=image.arrays.get("terms"),
        fingerprint=image.fingerprint,
        digest=image.digest,
        content=image.content,
        dtype=image.dtypes["features"],
    )


def inspect_features(path: Path, expected_rows: Rows | None, expected_fingerprint: Json | None) -> State:
    """Look at a shard's place, checking every byte of what is there; None stands for anything.

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
    """The rows of a feature shard, once its shapes and dtypes are found to fit together."""
    shapes, dtypes = image.shapes, image.dtypes
    with_terms = set(shapes) == {*_COLUMNS, *_TERMS}
    if (set(shapes) != set(_COLUMNS) and not with_terms) or shapes["rows"] != (2,):
        raise foreign(image.path, f"the datasets {sorted(shapes)}", "a feature shard")
    rows = Rows(*(int(bound) for bound in image.arrays["rows"]))
    fits = (
        0 <= rows.start < rows.stop
        and len(shapes["features"]) == 2
        and shapes["out_to_loss"] == shapes["outputs"] == shapes["sample_ids"] == (len(rows),) == shapes["features"][:1]
        and dtypes["features"] in FEATURE_DTYPES
        and [dtypes[name] for name in ("out_to_loss", "outputs", "sample_ids", "rows")]
        == ["float32", "float32", "uint64", "int64"]
    )
    if fits and with_terms:
        alike = all(of["term_features"] == of["features"] for of in (shapes, dtypes))
        fits = alike and shapes["terms"] == (len(rows),) and dtypes["terms"] == "float32"
    if not fits:
        raise foreign(image.path, f"rows {rows} with shapes {shapes} and dtypes {dtypes}", "a feature shard")
    return rows


def _other_rows(path: Path, found: Rows, expected: Rows) -> Problem:
    return Problem(
        where=f"{path}: rows",
        found=str(found),
        expected=str(expected),
        remedy="go back to the shard_rows and the dataset that wrote it, or choose another store folder",
    )
