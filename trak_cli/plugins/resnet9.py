"""ResNet-9, a small network for CIFAR, common in papers on data attribution."""

from __future__ import annotations

from torch import Tensor, nn


class ResNet9(nn.Module):
    """Eight convolutions, two of them in each of two residual blocks, and a linear layer: (B, 3, 32, 32) to (B, classes).

    With the defaults, 2,274,880 parameters. Every convolution is followed by BatchNorm and ReLU.

    Args:
        classes: number of classes.
        width: channels of the first convolution; all other widths are proportional.
    """

    def __init__(self, classes: int = 10, width: int = 64) -> None:
        super().__init__()
        w = width
        self.layers = nn.Sequential(
            _convolution(3, w),
            _convolution(w, 2 * w, kernel=5, stride=2, padding=2),
            _Residual(2 * w),
            _convolution(2 * w, 4 * w),
            nn.MaxPool2d(2),
            _Residual(4 * w),
            _convolution(4 * w, 2 * w, padding=0),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * w, classes, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.layers(x)
        return logits


class _Residual(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_convolution(width, width), _convolution(width, width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
