"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them: (B, …) inputs, flattened to (B, inputs), to (B, outputs).

    Args:
        inputs: values of one sample.
        outputs: classes, or predicted values.
        hidden: widths of the hidden layers.
    """

    def __init__(self, inputs: int, outputs: int, hidden: Sequence[int] = (64,)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([inputs, *hidden, outputs]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, outputs)."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        out: Tensor = self.layers[-1](x)
        return out
