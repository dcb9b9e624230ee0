"""Statistics of batch normalisation under other weights than those they were collected with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trak_cli.plugins.checkpoints.batch_statistics import recompute_statistics


def batches(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(size, 2, 5, 5, generator=generator) + 1 for size in sizes]


def test_statistics_are_the_means_over_the_batches() -> None:
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(3, momentum=0.3)
    convolution = nn.Conv2d(2, 3, 3)
    model = nn.Sequential(first, nn.Dropout(0.5), convolution, second).eval()
    first.running_mean += 7  # type: ignore[operator]
    given = batches(7, 5, 6)
    recompute_statistics(model, model, given)

    assert first.running_mean is not None
    assert first.running_var is not None
    assert second.running_var is not None
    means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in given])
    torch.testing.assert_close(first.running_mean, means.mean(dim=0))
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(dim=1) for batch in given])
    torch.testing.assert_close(first.running_var, variances.mean(dim=0))
    passed = [
        convolution(
            (batch - batch.mean(dim=(0, 2, 3), keepdim=True)) / (batch.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt()
        )
        for batch in given
    ]
    expected = torch.stack([batch.transpose(0, 1).flatten(1).var(dim=1) for batch in passed]).mean(dim=0)
    torch.testing.assert_close(second.running_var, expected, rtol=1e-4, atol=1e-6)


def test_the_model_is_in_evaluation_mode_again_and_layers_keep_their_momentum() -> None:
    layer = nn.BatchNorm2d(2, momentum=0.3)
    model = nn.Sequential(layer, nn.Dropout(0.5)).eval()
    recompute_statistics(model, model, batches(4))
    assert not any(module.training for module in model.modules())
    assert layer.momentum == 0.3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(batches(3)[0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_nothing_is_read_for_a_model_without_such_statistics() -> None:
    def never() -> Tensor:
        raise AssertionError

    for layer in (nn.LayerNorm(5), nn.BatchNorm2d(2, track_running_stats=False), nn.GroupNorm(1, 2)):
        model = nn.Sequential(layer).eval()
        recompute_statistics(model, model, (never() for _ in range(1)))
