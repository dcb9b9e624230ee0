"""Samples have an identity, data sets must repeat themselves, and the digits are always the same ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trak_cli.errors import InputError
from trak_cli.plugins import Digits, SampleFile, SGDTrainer, SmallCNN
from trak_cli.plugins.samples import check_length, check_repeatable, collate, sample_id
from trak_cli.tasks import Classification


def test_equal_samples_have_equal_ids_and_different_ones_do_not() -> None:
    sample = {"x": torch.arange(3.0), "y": (1, "text")}
    assert sample_id(sample) == sample_id({"y": (1, "text"), "x": torch.arange(3.0)})
    others = [
        {"x": torch.arange(3.0), "y": (2, "text")},
        {"x": torch.arange(3), "y": (1, "text")},
        {"x": torch.arange(3.0)[None], "y": (1, "text")},
        (torch.arange(3.0), 1, "text"),
    ]
    assert len({sample_id(one) for one in [sample, *others]}) == 5
    assert 0 <= sample_id(sample) < 2**64


def test_a_sample_that_cannot_be_identified_is_refused() -> None:
    with pytest.raises(InputError, match="object"):
        sample_id((1, object()))


def test_a_data_set_that_gives_another_value_the_second_time_is_refused() -> None:
    class Augmented:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.rand(3)

    with pytest.raises(InputError, match="2"):
        check_repeatable(Augmented(), [2])
    check_repeatable(Digits("test"), [0, 3])


def test_a_slow_data_set_is_read_twice_for_a_few_samples_only() -> None:
    reads: list[int] = []

    class Slow:
        def __len__(self) -> int:
            return 1000

        def __getitem__(self, index: int) -> int:
            time.sleep(0.01)
            reads.append(index)
            return index

    check_repeatable(Slow(), range(100), "train", seconds=0.02)
    assert reads == [*range(9)] * 2


@pytest.mark.parametrize("dataset", [[], object()])
def test_an_empty_or_lengthless_data_set_is_refused_by_name(dataset: Any) -> None:
    with pytest.raises(InputError, match=r"dataset\.train"):
        check_length(dataset, "dataset.train")


def test_training_digits_and_targets_are_disjoint_and_fixed() -> None:
    train, test = Digits("train"), Digits("test")
    assert (len(train), len(test)) == (1200, 200)
    ids = {sample_id(train[i]) for i in range(len(train))}
    assert len(ids & {sample_id(test[i]) for i in range(len(test))}) <= 2  # two images may be alike to the pixel
    image, label = train[7]
    assert image.shape == (1, 8, 8)
    assert image.dtype == torch.float32
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert train.describe(7)["label"] == int(label)


def test_a_file_of_samples_is_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, x=np.arange(6.0).reshape(3, 2), y=np.array([4, 5, 6]))
    dataset = SampleFile(str(path))
    assert len(dataset) == 3
    x, y = dataset[1]
    assert x.dtype == torch.float32
    assert (x.tolist(), int(y)) == ([2.0, 3.0], 5)
    one = SampleFile(str(path), names=["x"], single=True)
    assert len(one) == 1
    with pytest.raises(InputError, match="'z'"):
        SampleFile(str(path), names=["x", "z"])


def test_training_learns_and_repeats_itself() -> None:
    data = Digits("train")

    def trained(seed: int) -> SmallCNN:
        torch.manual_seed(seed)
        model = SmallCNN()
        SGDTrainer(epochs=12, batch_size=16).train(
            model, Classification(), data, range(300), seed, collate, torch.device("cpu")
        )
        return model

    one, again, other = trained(1), trained(1), trained(2)
    torch.testing.assert_close(one.f2.weight, again.f2.weight, rtol=0, atol=0)
    assert not torch.equal(one.f2.weight, other.f2.weight)
    x, y = collate([data[i] for i in range(300)])
    with torch.no_grad():
        assert float((one(x).argmax(1) == y).float().mean()) > 0.8
