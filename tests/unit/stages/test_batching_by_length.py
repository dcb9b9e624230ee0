"""Sentences of similar length are computed together, which changes no value."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentences import Sentences, columns, featurizer, padded, split_of
from torch import Tensor

from trak_cli.errors import InputError
from trak_cli.stages.inputs import microbatches as by_length
from trak_cli.stages.inputs.microbatches import microbatches, typical
from trak_cli.stages.inputs.split import SIZE_SAMPLES, Split
from trak_cli.types import Rows

#: Odd on purpose: long ones next to short ones, some twice, a number that no microbatch divides.
LENGTHS = (2, 31, 7, 7, 19, 3, 2, 5, 23, 11, 31, 2, 13, 4, 29, 3, 17)

ALIKE = (6,) * 17


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    """Plain autograd, one sentence after another, which needs no padding."""
    return columns(featurizer("loop", 1), split_of(LENGTHS))


# Values


@pytest.mark.parametrize("engine", ["hooks", "vmap", "loop"])
@pytest.mark.parametrize("microbatch", [1, 4, 64])
def test_rows_are_in_the_order_of_the_data_and_have_the_values_of_plain_autograd(
    engine: str, microbatch: int, alone: dict[str, Tensor]
) -> None:
    """Also the terms, whose signs depend on the number of the row."""
    assert_close(columns(featurizer(engine, microbatch), split_of(LENGTHS)), alone)


@pytest.mark.parametrize("shard_rows", [1, 3, 5, 16])
def test_shards_do_not_change_results(shard_rows: int, alone: dict[str, Tensor]) -> None:
    assert_close(columns(featurizer("hooks", 4), split_of(LENGTHS), shard_rows), alone)


def test_the_same_shard_has_the_same_bits_whenever_it_is_computed() -> None:
    made = featurizer("hooks", 4)
    first, second = columns(made, split_of(LENGTHS), 7), columns(made, split_of(LENGTHS), 7)
    assert all(torch.equal(first[name], second[name]) for name in first)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(2, 24), min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 30))
def test_results_hold_for_any_lengths(lengths: list[int], microbatch: int, shard_rows: int) -> None:
    found = columns(featurizer("hooks", microbatch, terms=False), split_of(lengths), shard_rows)
    assert_close(found, columns(featurizer("loop", 1, terms=False), split_of(lengths)))


# Which samples are computed together


@given(st.lists(st.integers(1, 40), min_size=2, max_size=200), st.integers(1, 9), st.data())
def test_every_row_is_in_one_microbatch_among_neighbours_in_length(lengths: list[int], size: int, data: st.DataObject) -> None:
    split = split_of([*lengths, 41])  # so that lengths do differ, and the last of evenly spread ones may not tell
    start = data.draw(st.integers(0, len(lengths) - 1))
    stop = data.draw(st.integers(start + 1, len(lengths)))
    found = list(microbatches(split, Rows(start, stop), size))
    if not split.varies:
        return
    assert sorted(row for one in found for row in one.rows) == list(range(start, stop))
    assert [len(one.rows) for one in found[:-1]] == [size] * (len(found) - 1)
    ordered = [(-lengths[row], row) for one in found for row in one.rows]
    assert ordered == sorted(ordered), "the longest first; of equal ones the first row first"
    assert all(len(one.samples) == len(one.rows) for one in found), "nothing is computed twice to fill up"


@pytest.mark.parametrize("shard_rows", [17, 6])
def test_positions_that_are_computed_are_those_of_sorted_lengths(shard_rows: int) -> None:
    made = featurizer("hooks", 4, terms=False)
    columns(made, split_of(LENGTHS))  # what task and engine ask of the model once, they have asked now
    made.model.positions = 0  # type: ignore[assignment]
    columns(made, split_of(LENGTHS), shard_rows)
    expected = 0
    for start in range(0, 17, shard_rows):
        shard = sorted(LENGTHS[start : start + shard_rows], reverse=True)
        expected += sum(len(shard[i : i + 4]) * shard[i] for i in range(0, len(shard), 4))
    assert made.model.positions == expected
    in_row_order = sum(4 * max(LENGTHS[i : i + 4]) for i in range(0, 17, 4))
    assert shard_rows < 17 or expected < 0.7 * in_row_order


def test_memory_held_ahead_is_limited(monkeypatch: pytest.MonkeyPatch, alone: dict[str, Tensor]) -> None:
    """A shard of more is ordered piece by piece, each of whole microbatches."""
    monkeypatch.setattr(by_length, "HELD_NUMBERS", 60)
    split = split_of(LENGTHS)
    assert split.varies
    reads = split.dataset.read
    reads.clear()
    found = microbatches(split, Rows(0, 17), 4)
    assert next(found).rows == [1, 2, 3, 0]
    assert reads == [0, 1, 2, 3], "2 × (2 + 31) numbers are more than enough"
    assert [len(one.rows) for one in found] == [4, 4, 4, 1]
    assert_close(columns(featurizer("hooks", 4), split), alone)


# Samples of one size


@pytest.mark.parametrize("shard_rows", [1, 5, 8, 17])
def test_samples_of_one_size_stay_on_the_grid_of_absolute_rows(shard_rows: int) -> None:
    """The same bits whatever the shards are; the last microbatch is filled up."""
    made = featurizer("hooks", 4)
    expected, found = columns(made, split_of(ALIKE)), columns(made, split_of(ALIKE), shard_rows)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    grid = list(microbatches(split_of(ALIKE), Rows(6, 17), 4))
    assert [one.rows for one in grid] == [[4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16]]
    assert all(len(one.samples) == 4 for one in grid)


def test_samples_of_one_size_are_read_when_they_are_computed() -> None:
    """Apart from a few that show that all have one size."""
    split = split_of((6,) * 1000)
    assert not split.varies
    reads = split.dataset.read
    assert len(reads) <= SIZE_SAMPLES
    reads.clear()
    grid = microbatches(split, Rows(0, 1000), 8)
    next(grid)
    assert reads == list(range(8))
    assert sum(len(one.rows) for one in grid) == 992
    assert reads == list(range(1000))


# What is reported about them


@pytest.mark.parametrize("wrong", range(len(LENGTHS)))
def test_a_sample_that_the_task_refuses_is_named_by_its_row(wrong: int) -> None:
    with pytest.raises(InputError, match=f"sample {wrong} of test: found the label"):
        columns(featurizer("hooks", 4, terms=False), split_of(LENGTHS, "test", wrong))


@pytest.mark.parametrize("row", [1, 5, 16])
def test_a_number_that_is_not_finite_is_named_by_its_row(row: int) -> None:
    def spoiled(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        lengths = torch.tensor([[float("nan") if len(one["input_ids"]) == LENGTHS[row] else 0.0] for one in samples])
        return {**padded(samples), "noise": lengths}

    made = featurizer("hooks", 4, terms=False)
    embed = made.model.forward
    made.model.forward = lambda input_ids, noise: embed(input_ids) + noise[:, :, None]  # type: ignore[method-assign]
    split = Split("train", Sentences(LENGTHS), 17, spoiled, torch.device("cpu"))
    first = LENGTHS.index(LENGTHS[row])
    with pytest.raises(InputError, match=f"sample {first} of train"):
        columns(made, split)


def test_the_time_estimate_uses_samples_of_mean_size() -> None:
    """As a microbatch holds samples of one length, or nearly so; where all have one size, the first ones tell it."""
    assert 12 < sum(LENGTHS) / 17 < 13
    middle = typical(split_of(LENGTHS), 5)
    assert [len(one["input_ids"]) for one in middle.samples] == [13] * 5
    assert typical(split_of(ALIKE), 5).rows == [0, 1, 2, 3, 4]
    assert len(typical(split_of(ALIKE[:3]), 5).samples) == 5
