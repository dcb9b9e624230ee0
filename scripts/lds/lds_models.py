"""Small models of the benchmark that are not part of the package."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trak_cli.tasks import Task


class Layer(nn.Module):
    """A pre-norm transformer layer; ``mask`` (B or 1, 1, T, T) is True where attention is allowed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = self.mix(self.first(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).masked_fill(~mask, -1e9).softmax(-1)
        x = x + self.out((weights @ value).transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(F.gelu(self.up(self.second(x))))
        return out


class TextEncoder(nn.Module):
    """A transformer encoder with mean pooling: word ids (B, T), 0 for padding, to logits (B, classes)."""

    def __init__(self, classes: int, words: int, length: int, width: int = 32, layers: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(words, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = tokens != 0
        x = self.word(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :])
        x = (self.norm(x) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        logits: Tensor = self.head(x)
        return logits


class CharacterModel(nn.Module):
    """A causal transformer over characters: (B, T) to logits (B, T, 96) of the next character."""

    def __init__(self, length: int, width: int = 48, layers: int = 2, heads: int = 3) -> None:
        super().__init__()
        self.character, self.place = nn.Embedding(96, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 96)

    def forward(self, tokens: Tensor) -> Tensor:
        T = tokens.shape[1]
        x = self.character(tokens) + self.place(torch.arange(T, device=tokens.device))
        mask = torch.ones(1, 1, T, T, dtype=torch.bool, device=tokens.device).tril()
        for layer in self.layers:
            x = layer(x, mask)
        logits: Tensor = self.head(self.norm(x))
        return logits


class SmallViT(nn.Module):
    """A ViT with patches of 2 × 2 pixels and mean pooling: images (B, 1, 8, 8) to logits (B, classes)."""

    def __init__(self, classes: int, width: int = 32, layers: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.square, self.place = nn.Conv2d(1, width, 2, 2), nn.Parameter(torch.randn(16, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.square(x).flatten(2).transpose(1, 2) + self.place
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=x.device)
        for layer in self.layers:
            x = layer(x, mask)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


class NextCharacter(Task):
    """f = sum over characters of the log-odds of the right one; q = mean over characters of 1 − p (TRAK, section 5.2)."""

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        return self._log_odds(model, batch[0]).sum(1)

    def terms(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        odds = self._log_odds(model, batch[0])
        return odds, torch.ones_like(odds, dtype=torch.bool)

    def predictions(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        tokens = batch[0]
        return model(tokens)[:, :-1], tokens[:, 1:]

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        del output
        return torch.sigmoid(-self._log_odds(model, batch[0])).mean(1)

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        tokens = batch[0]
        return F.cross_entropy(model(tokens)[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)

    def _log_odds(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """Return the log-odds of the right characters, (B, T − 1)."""
        logits, right = model(tokens)[:, :-1], tokens[:, 1:, None]
        others = logits.masked_fill(torch.arange(96, device=tokens.device) == right, -torch.inf)
        return logits.gather(-1, right)[..., 0] - others.logsumexp(-1)


class SmallResNet(nn.Module):
    """A ResNet with BatchNorm: images (B, 3, 16, 16) to logits (B, classes)."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(nn.Conv2d(3, w, 3, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(w, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(w, 4 * w, 3, 2, 1, bias=False), nn.BatchNorm2d(4 * w), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(4 * w, 4 * w, 3, 1, 1, bias=False), nn.BatchNorm2d(4 * w), nn.ReLU())
        self.head = nn.Linear(4 * w, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.down(x + self.inner(x))
        logits: Tensor = self.head((x + self.deep(x)).mean((2, 3)))
        return logits


class DropoutMLP(nn.Module):
    """The MLP of dattri's MNIST benchmark: images (B, 1, 28, 28) to logits (B, 10), with dropout of 0.1."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(784, 128), nn.Linear(128, 64), nn.Linear(64, 10)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.first(x.flatten(1)).relu())
        logits: Tensor = self.head(self.drop(self.second(x).relu()))
        return logits


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling: images (B, 1, 28, 28) to logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.third, self.fourth, self.head = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.first(x).relu(), 2)
        x = F.max_pool2d(self.second(x).relu(), 2).flatten(1)
        logits: Tensor = self.head(self.fourth(self.third(x).relu()).relu())
        return logits
