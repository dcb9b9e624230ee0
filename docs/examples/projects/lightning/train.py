"""Trains a LightningModule on handwritten digits: python train.py [--seed 0]."""

import argparse

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy


class DigitsData(lightning.LightningDataModule):
    def __init__(self, batch_size: int = 32, train_images: int = 400):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        images, labels = load_digits(return_X_y=True)
        x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
        self.train_data = TensorDataset(x[: self.hparams.train_images], y[: self.hparams.train_images])
        self.test_data = TensorDataset(x[1500:], y[1500:])

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_data, batch_size=self.hparams.batch_size, shuffle=True)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test_data, batch_size=256)


class DigitsModel(lightning.LightningModule):
    def __init__(self, width: int = 32, learning_rate: float = 3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))
        self.accuracy = MulticlassAccuracy(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        loss = functional.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch: list[torch.Tensor], index: int) -> None:
        x, y = batch
        self.accuracy(self(x), y)
        self.log("test_accuracy", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.learning_rate)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    lightning.seed_everything(seed)
    trainer = lightning.Trainer(max_epochs=8, accelerator="cpu")
    trainer.fit(DigitsModel(), datamodule=DigitsData())
    trainer.test(datamodule=DigitsData())
