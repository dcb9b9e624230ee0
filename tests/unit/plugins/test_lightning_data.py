"""The data sets of a LightningDataModule, by the methods that Lightning documents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from trak_cli.errors import ConfigError, InputError
from trak_cli.plugins import lightning_data


class Module:
    """A data module that only has data after ``setup``, as Lightning's are."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.parts: dict[str, Dataset[Any]] = {}

    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.calls.append(stage)
        names = {"fit": ("train", "val"), "test": ("test",), "predict": ("predict",)}[stage]
        self.parts |= {name: TensorDataset(torch.arange(10) + len(name)) for name in names}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.parts["train"], shuffle=True)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return [DataLoader(self.parts["val"])]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        return [DataLoader(self.parts["test"])] * 2

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.parts["predict"])


@pytest.mark.parametrize(("split", "stage"), [("train", "fit"), ("val", "fit"), ("predict", "predict")])
def test_a_split_is_the_data_set_of_its_loader_in_its_own_order(split: str, stage: str) -> None:
    module = Module()
    dataset = lightning_data(module, split)
    assert module.calls == ["prepare_data", stage]
    assert [int(sample[0]) for sample in dataset] == [row + len(split) for row in range(10)]


def test_several_loaders_of_a_split_are_refused() -> None:
    with pytest.raises(InputError, match="test_dataloader returned 2 loaders"):
        lightning_data(Module(), "test")


@pytest.mark.parametrize(("module", "split"), [(Module(), "training"), (TensorDataset(torch.zeros(2)), "train")])
def test_what_is_no_data_module_or_no_split_is_refused(module: object, split: str) -> None:
    with pytest.raises(ConfigError):
        lightning_data(module, split)
