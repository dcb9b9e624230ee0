"""Trains a GRU that predicts the next year's number of sunspots from the years before: python train.py [--seed 0]."""

import argparse

import torch
from statsmodels.datasets import sunspots
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence


class Years(torch.utils.data.Dataset):
    """Stretches of 6 to 24 years, and the year that follows."""

    def __init__(self, first: int = 1700, last: int = 1949):
        numbers = torch.tensor(sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(), dtype=torch.float32) / 100
        self.numbers = numbers[first - 1700 : last - 1699]

    def __len__(self) -> int:
        return len(self.numbers) - 24

    def __getitem__(self, index: int) -> dict:
        end = index + 24
        length = 6 + (index * 7) % 19
        return {"series": self.numbers[end - length : end, None], "next": self.numbers[end]}


def collate(samples: list[dict]) -> dict:
    series = [sample["series"] for sample in samples]
    return {
        "series": pad_sequence(series, batch_first=True),
        "lengths": torch.tensor([len(one) for one in series]),
        "next": torch.stack([sample["next"] for sample in samples]),
    }


class Forecaster(nn.Module):
    def __init__(self, hidden: int = 24):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, series: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(series, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed)
        return self.head(last[-1]).squeeze(-1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    model = nn.DataParallel(Forecaster())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    loader = torch.utils.data.DataLoader(Years(), batch_size=32, shuffle=True, collate_fn=collate)
    for epoch in range(arguments.epochs):
        total = 0.0
        for batch in loader:
            loss = nn.functional.mse_loss(model(batch["series"], batch["lengths"]), batch["next"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {total / len(loader):.4f}")
    torch.save(
        {
            "epoch": arguments.epochs,
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "loss": total / len(loader),
        },
        f"forecaster_{arguments.seed}.pth",
    )


if __name__ == "__main__":
    main()
