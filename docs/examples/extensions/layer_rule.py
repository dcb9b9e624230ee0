"""A gradient rule: per-sample gradients of a layer of your own in closed form, for the hooks engine.

Put this file beside your YAML, and write into the YAML:

    extensions: [layer_rule]
    model: {_target_: layer_rule.ScaledNet}

Without the rule, the gradients of ``ScaledChannels`` are computed by vmap over the layer. The rule is compared with plain
autograd on the first samples of a run; `trak featurize` logs what was found.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from trak_cli.gradients.rules import register_gradient_rule
from trak_cli.types import Block


class ScaledChannels(nn.Module):
    """y = x · gain: one number per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


@register_gradient_rule(ScaledChannels, parameters=("gain",))
def scaled_channels(layer: nn.Module, x: Tensor, g: Tensor, names: Mapping[str, str]) -> Iterator[Block]:
    """x and g = ∂f/∂y are (B, …, channels); the gradient of ``gain`` for a sample is the sum of g · x over the rest."""
    yield Block(names["gain"], (g * x).reshape(len(g), -1, g.shape[-1]).sum(1))


def ScaledNet() -> nn.Module:  # noqa: N802
    return nn.Sequential(nn.Linear(8, 6), ScaledChannels(6), nn.Tanh(), nn.Linear(6, 3))
