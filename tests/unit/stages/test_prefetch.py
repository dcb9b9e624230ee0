"""Samples are read ahead of the computation, by one thread or several, and nothing else changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from sentences import Sentences, columns, featurizer, padded

from trak_cli.stages.inputs.reading_ahead import ahead
from trak_cli.stages.inputs.split import Split

CPU = torch.device("cpu")
SOON = 20.0  # seconds after which a test fails that would wait for ever


def test_the_next_item_is_made_while_the_caller_works() -> None:
    begun = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    for number in ahead(items()):
        if number + 1 < len(begun):
            assert begun[number + 1].wait(SOON), "the next one waits to be asked for"


def test_an_exception_of_an_item_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    reading = ahead(items())
    assert [next(reading) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(reading)


def test_no_item_is_made_after_the_caller_stops() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            yield number

    reading = ahead(items())
    assert next(reading) == 0
    reading.close()  # type: ignore[attr-defined]
    assert len(asked) <= 2


@pytest.mark.parametrize("lengths", [[5] * 23, [2, 9, 4, 4, 7, 3, 8, 2, 5, 6, 9, 3, 2]])
def test_features_do_not_depend_on_the_number_of_readers(lengths: list[int]) -> None:
    def features(readers: int) -> dict[str, torch.Tensor]:
        return columns(featurizer("hooks", 4), Split("train", Sentences(lengths), len(lengths), padded, CPU, readers), 8)

    alone = features(0)
    for readers in (1, 3):
        found = features(readers)
        assert found.keys() == alone.keys()
        assert all(torch.equal(found[name], alone[name]) for name in alone)


def test_several_readers_ask_at_the_same_time() -> None:
    class Slow(Sentences):
        """Returns a sample only once two are requested."""

        both = threading.Barrier(2)

        def __getitem__(self, row: int) -> Any:
            self.both.wait(SOON)
            return super().__getitem__(row)

    split = Split("test", Slow([3] * 8), 8, padded, CPU, 2)
    assert len(split.samples(range(8))) == 8
