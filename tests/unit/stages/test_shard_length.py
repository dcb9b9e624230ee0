"""The rows of a shard, if the config does not say: one to two minutes of work."""

from __future__ import annotations

import pytest

from trak_cli.stages.index.run_plan import rows_of_a_shard


@pytest.mark.parametrize(
    ("seconds", "length"), [(1e-6, 1024), (0.1, 1024), (0.13, 512), (0.31, 256), (1.0, 64), (1.9, 32), (4.0, 16), (1000.0, 16)]
)
def test_a_shard_takes_a_minute_or_two(seconds: float, length: int) -> None:
    assert rows_of_a_shard(seconds, 8, 10_000) == length


@pytest.mark.parametrize("seconds", [0.12, 0.2, 0.5, 1.3, 3.7])
def test_never_more_than_two_minutes_nor_less_than_one(seconds: float) -> None:
    assert 60 < seconds * rows_of_a_shard(seconds, 8, 10_000) <= 120


def test_a_shard_has_whole_microbatches() -> None:
    assert rows_of_a_shard(10.0, 128, 10_000) == 128
    assert rows_of_a_shard(10.0, 100, 10_000) == 128


def test_there_are_not_millions_of_shards() -> None:
    assert rows_of_a_shard(100.0, 8, 16 * 2**14) == 16
    assert rows_of_a_shard(100.0, 8, 16 * 2**14 + 1) == 32
    assert rows_of_a_shard(100.0, 8, 10**9) == 1024
