"""Handwritten digits at 16 × 16 pixels, and two small image classifiers of Hugging Face transformers for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.plugins import Digits, hf_image_classifier

CONFIGS: dict[str, dict[str, Any]] = {
    "resnet": {"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
    "vit": {
        "model_type": "vit",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 16,
        "patch_size": 4,
    },
}


class LargeDigits(Dataset[tuple[Tensor, int]]):
    """Sample i is (image (1, 16, 16) float32, label): every pixel of a digit becomes four.

    Args:
        split, train, targets: see :class:`trak_cli.plugins.Digits`.
    """

    def __init__(self, split: str = "train", train: int = 600, targets: int = 100) -> None:
        self._digits = Digits(split, train, targets)

    def __len__(self) -> int:
        return len(self._digits)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image, label = self._digits[i]
        large = image.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        return (large - 0.3) / 0.4, label


def model(kind: str) -> torch.nn.Module:
    """A ResNet or a ViT with ten classes for (B, 1, 16, 16) images."""
    return hf_image_classifier(config={**CONFIGS[kind], "num_channels": 1}, classes=10)
