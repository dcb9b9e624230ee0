"""Scores as a labelled array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trak_cli.api.scores import Scores
from trak_cli.errors import ConfigError

VALUES = np.random.default_rng(0).normal(size=(7, 11)).astype(np.float32)
ROWS = [0, 2, 3, 5, 8, 13, 21]


def scores(**about: Any) -> Scores:
    values = VALUES[:1] if about.get("group") else VALUES
    return Scores(("trak", "test"), ROWS, 11, lambda targets, train: values[np.ix_(targets, train)], **about)


@pytest.mark.parametrize(
    "index",
    [
        3,
        -1,
        slice(None),
        slice(5, 1, -2),
        (2, 4),
        (slice(2), slice(3, None)),
        (slice(None), 3),
        (0, [1, 1, 5]),
        np.arange(7) % 2 == 0,
        (..., 2),
        [],
    ],
)
def test_indexing_one_axis_at_a_time_is_that_of_numpy(index: Any) -> None:
    found = scores()[index]
    assert np.shape(found) == VALUES[index].shape
    assert np.array_equal(found, VALUES[index])


def test_each_axis_is_indexed_on_its_own() -> None:
    assert np.array_equal(scores()[[0, 2], [1, 3, 5]], VALUES[np.ix_([0, 2], [1, 3, 5])])


@pytest.mark.parametrize("index", [7, (0, 11), (0, 0, 0)])
def test_what_is_outside_is_an_index_error(index: Any) -> None:
    with pytest.raises(IndexError):
        scores()[index]


def test_the_whole_array_rows_in_turn_and_rows_by_label_agree() -> None:
    assert np.array_equal(np.asarray(scores()), VALUES)
    assert np.array_equal(list(scores()), VALUES)
    assert np.array_equal(scores().of(13), VALUES[5])
    with pytest.raises(ConfigError, match="choose one of target_rows"):
        scores().of(1)


def test_a_group_has_one_row() -> None:
    grouped = scores(group=True)
    assert grouped.shape == (1, 11)
    assert "the mean over 7 targets" in repr(grouped)
    with pytest.raises(ConfigError):
        grouped.of(0)


def test_xarray_has_the_rows_as_labels() -> None:
    pytest.importorskip("xarray")
    array = scores(warnings=["noisy"]).to_xarray([1, 4], slice(0, 11, 3))
    assert array.dims == ("target", "train")
    assert array["target"].values.tolist() == [2, 8]
    assert array["train"].values.tolist() == [0, 3, 6, 9]
    assert np.array_equal(array.sel(target=8, train=[9, 0]), VALUES[4, [9, 0]])
    assert array.attrs["warnings"] == ["noisy"]
    assert scores(group=True).to_xarray().shape == (1, 11)


def test_warnings_and_names_are_shown_and_escaped() -> None:
    shown = scores(warnings=["<script>x</script>"])
    assert "<script>x</script>" in repr(shown)
    html = shown._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
