"""Feature shards are read back as stored, rounded to their dtype; the state of a shard is reported correctly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as changed
from pathlib import Path

import numpy as np
import pytest

from trak_cli.errors import InputError
from trak_cli.store.container import read_image
from trak_cli.store.dtypes import FEATURE_DTYPES, decode_rows, encode_rows
from trak_cli.store.failures import DamagedError, ForeignError, MissingError
from trak_cli.store.publish import write_image
from trak_cli.store.shards import Condition, FeatureRows, inspect_features, read_features, write_features
from trak_cli.types import Json, Rows

Make = Callable[[Rows], FeatureRows]


def rounded(features: np.ndarray, dtype: str) -> np.ndarray:
    """What a reader gets of features that are stored as ``dtype``."""
    return decode_rows(encode_rows(features, dtype), dtype)


@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
def test_a_shard_reads_back_as_written(tmp_path: Path, values: FeatureRows, fingerprint: Json, dtype: str) -> None:
    path = tmp_path / "00000.h5"
    assert write_features(path, values, fingerprint, {}, dtype)
    shard = read_features(path)
    np.testing.assert_array_equal(shard.features, rounded(values.features, dtype))
    np.testing.assert_array_equal(shard.out_to_loss, values.out_to_loss)
    np.testing.assert_array_equal(shard.outputs, values.outputs)
    np.testing.assert_array_equal(shard.sample_ids, values.sample_ids)
    arrays = (shard.features, shard.out_to_loss, shard.outputs, shard.sample_ids)
    assert [array.dtype for array in arrays] == ["f4", "f4", "f4", "u8"]
    assert (shard.rows, shard.fingerprint) == (values.rows, fingerprint)
    assert read_image(path).dtypes["features"] == dtype
    assert inspect_features(path, values.rows, fingerprint).condition is Condition.WHOLE


def with_terms(values: FeatureRows) -> FeatureRows:
    return changed(values, term_features=values.features[::-1].copy() / 3, terms=np.arange(len(values.rows)).astype(np.float32))


@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
def test_terms_read_back_with_the_other_arrays(tmp_path: Path, values: FeatureRows, dtype: str) -> None:
    assert write_features(tmp_path / "with.h5", with_terms(values), {"terms": 1}, {}, dtype)
    assert write_features(tmp_path / "without.h5", values, {}, {}, dtype)
    shard, plain = read_features(tmp_path / "with.h5"), read_features(tmp_path / "without.h5")
    np.testing.assert_array_equal(shard.features, plain.features)
    expected = rounded(values.features[::-1] / 3, dtype)
    assert shard.term_features is not None
    assert shard.terms is not None
    np.testing.assert_array_equal(shard.term_features, expected)
    np.testing.assert_array_equal(shard.terms, np.arange(len(values.rows)))
    assert (shard.term_features.dtype, shard.terms.dtype) == ("f4", "f4")
    assert (plain.term_features, plain.terms) == (None, None)
    assert read_features(tmp_path / "with.h5", with_curvature=False).term_features is None
    assert inspect_features(tmp_path / "with.h5", values.rows, {"terms": 1}).condition is Condition.WHOLE


def test_predicted_classes_read_back_and_are_unknown_in_shards_without_them(tmp_path: Path, values: FeatureRows) -> None:
    count = len(values.rows)
    classes, chances = np.arange(count, dtype=np.int32), np.linspace(0.3, 1, count).astype(np.float32)
    known = changed(values, predicted=classes, predicted_probability=chances)
    write_features(tmp_path / "with.h5", known, {}, {})
    write_features(tmp_path / "without.h5", values, {}, {})
    shard, plain = read_features(tmp_path / "with.h5"), read_features(tmp_path / "without.h5")
    assert shard.predicted is not None
    assert shard.predicted_probability is not None
    np.testing.assert_array_equal(shard.predicted, classes)
    np.testing.assert_array_equal(shard.predicted_probability, chances)
    assert (shard.predicted.dtype, shard.predicted_probability.dtype) == ("i4", "f4")
    assert (plain.predicted, plain.predicted_probability) == (None, None)
    part = shard.cut(Rows(values.rows.start + 2, values.rows.stop))
    assert part.predicted is not None
    assert part.predicted.tolist() == classes[2:].tolist()


def test_a_shard_with_classes_and_no_probabilities_is_refused(tmp_path: Path, values: FeatureRows) -> None:
    half = changed(values, predicted=np.zeros(len(values.rows), np.int32))
    write_features(tmp_path / "half.h5", half, {}, {})
    with pytest.raises(ForeignError, match="feature shard"):
        read_features(tmp_path / "half.h5")


def test_terms_that_are_not_finite_or_do_not_fit_are_refused(tmp_path: Path, values: FeatureRows) -> None:
    bad = with_terms(values)
    assert bad.term_features is not None
    bad.term_features[3, 1] = np.inf
    with pytest.raises(InputError, match="term_features of sample 11, column 1: found inf"):
        write_features(tmp_path / "00000.h5", bad, {}, {})
    with pytest.raises(ValueError, match="term features"):
        write_features(tmp_path / "00000.h5", changed(bad, term_features=values.features[:, 1:]), {}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["terms", "term_features"])
def test_a_shard_with_half_of_the_terms_is_refused(tmp_path: Path, values: FeatureRows, field: str) -> None:
    write_features(tmp_path / "a.h5", with_terms(values), {}, {})
    arrays = read_image(tmp_path / "a.h5").arrays
    del arrays[field]
    write_image(tmp_path / "b.h5", arrays, {}, {})
    assert inspect_features(tmp_path / "b.h5", None, None).condition is Condition.FOREIGN
    arrays = read_image(tmp_path / "a.h5").arrays
    arrays[field] = arrays[field][1:]
    write_image(tmp_path / "c.h5", arrays, {}, {})
    with pytest.raises(ForeignError, match="a feature shard"):
        read_features(tmp_path / "c.h5")


@pytest.mark.parametrize("field", ["features", "out_to_loss", "outputs"])
def test_nothing_is_written_when_a_value_is_refused(tmp_path: Path, values: FeatureRows, field: str) -> None:
    getattr(values, field)[3] = np.nan
    with pytest.raises(InputError, match=f"{field} of sample 11.*: found nan"):
        write_features(tmp_path / "00000.h5", values, {}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["features", "out_to_loss", "outputs", "sample_ids"])
def test_arrays_of_other_lengths_are_a_bug_of_the_caller(tmp_path: Path, values: FeatureRows, field: str) -> None:
    with pytest.raises(ValueError, match="other lengths"):
        write_features(tmp_path / "x.h5", changed(values, **{field: getattr(values, field)[1:]}), {}, {})


def test_the_state_of_a_path(tmp_path: Path, rows_of_sines: Make, fingerprint: Json) -> None:
    path = tmp_path / "00001.h5"
    state = inspect_features(path, Rows(8, 20), fingerprint)
    assert state.condition is Condition.MISSING
    assert str(path) in str(state.problems[0])

    write_features(path, rows_of_sines(Rows(8, 14)), fingerprint, {})
    assert inspect_features(path, Rows(8, 14), fingerprint).condition is Condition.WHOLE
    assert inspect_features(path, None, None).rows == Rows(8, 14)
    state = inspect_features(path, Rows(8, 20), fingerprint)
    assert (state.condition, state.rows, state.problems) == (Condition.SHORTER, Rows(8, 14), ())
    np.testing.assert_array_equal(state.sample_ids, rows_of_sines(Rows(8, 14)).sample_ids)
    for other in (Rows(8, 12), Rows(9, 14), Rows(0, 20)):
        state = inspect_features(path, other, fingerprint)
        assert state.condition is Condition.FOREIGN
        assert f"rows: found [8, 14); expected {other}" in str(state.problems[0])

    path.write_bytes(path.read_bytes()[:-1])
    assert inspect_features(path, Rows(8, 14), fingerprint).condition is Condition.DAMAGED


def test_another_fingerprint_is_foreign_even_when_shorter(tmp_path: Path, values: FeatureRows, fingerprint: Json) -> None:
    path = tmp_path / "00000.h5"
    write_features(path, values, fingerprint, {})
    expected = {**fingerprint, "projection": {"kind": "sjlt", "dim": 16, "seed": 0}}
    for rows in (values.rows, Rows(8, 21)):
        state = inspect_features(path, rows, expected)
        assert state.condition is Condition.FOREIGN
        assert [str(problem) for problem in state.problems] == [
            f'{path}: fingerprint projection.kind: found "rademacher"; expected "sjlt"; go back to the configuration '
            "that wrote it, or choose another store folder"
        ]


def test_a_shorter_shard_is_replaced_only_when_asked(tmp_path: Path, rows_of_sines: Make) -> None:
    path = tmp_path / "00000.h5"
    write_features(path, rows_of_sines(Rows(0, 4)), {}, {})
    with pytest.raises(ForeignError, match=r"rows: found \[0, 4\); expected \[0, 6\)"):
        write_features(path, rows_of_sines(Rows(0, 6)), {}, {})
    assert write_features(path, rows_of_sines(Rows(0, 6)), {}, {}, overwrite=True)
    assert read_features(path).rows == Rows(0, 6)


def test_the_second_writer_is_warned_of_a_damaged_file(tmp_path: Path, values: FeatureRows) -> None:
    path = tmp_path / "00000.h5"
    write_features(path, values, {}, {})
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedError):
        write_features(path, values, {}, {})


def test_an_image_of_another_kind_is_not_a_shard(tmp_path: Path, values: FeatureRows) -> None:
    path = tmp_path / "gram.h5"
    write_image(path, {"gram": np.eye(2)}, {}, {})
    assert inspect_features(path, None, None).condition is Condition.FOREIGN
    with pytest.raises(ForeignError):
        read_features(path)
    arrays = {
        "features": values.features[1:],
        "out_to_loss": values.out_to_loss,
        "outputs": values.outputs,
        "sample_ids": values.sample_ids,
        "rows": np.array([8, 20]),
    }
    write_image(path, arrays, {}, {}, overwrite=True)
    with pytest.raises(ForeignError, match="a feature shard"):
        read_features(path)
    with pytest.raises(MissingError):
        read_features(tmp_path / "nothing.h5")
