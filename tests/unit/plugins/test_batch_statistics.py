"""Statistics of batch normalisation under other weights than those they were collected with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trak_cli.plugins.checkpoints.batch_statistics import recompute_statistics
from trak_cli.weight_copies import compute_on

CPU = torch.device("cpu")


def batches(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(size, 2, 5, 5, generator=generator) + 1 for size in sizes]


def mean_over(given: list[Tensor]) -> Tensor:
    return torch.stack([batch.mean(dim=(0, 2, 3)) for batch in given]).mean(dim=0)


def variance_over(given: list[Tensor]) -> Tensor:
    return torch.stack([batch.transpose(0, 1).flatten(1).var(dim=1) for batch in given]).mean(dim=0)


def assert_collected(layer: nn.BatchNorm2d, given: list[Tensor]) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    torch.testing.assert_close(layer.running_mean, mean_over(given))
    torch.testing.assert_close(layer.running_var, variance_over(given))


def test_statistics_are_the_means_over_the_batches() -> None:
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(3, momentum=0.3)
    convolution = nn.Conv2d(2, 3, 3)
    model = nn.Sequential(first, nn.Dropout(0.5), convolution, second).eval()
    first.running_mean += 7  # type: ignore[operator]
    given = batches(7, 5, 6)
    recompute_statistics(model, model, given)

    assert_collected(first, given)
    assert second.running_var is not None
    passed = [
        convolution(
            (batch - batch.mean(dim=(0, 2, 3), keepdim=True)) / (batch.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt()
        )
        for batch in given
    ]
    torch.testing.assert_close(second.running_var, variance_over(passed), rtol=1e-4, atol=1e-6)


class Twice(nn.Module):
    """Calls one layer on two views of a batch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) + self.layer(2 * x + 1)
        return out


@pytest.mark.parametrize("momentum", [0.1, None])
def test_every_call_of_a_layer_counts(momentum: float | None) -> None:
    layer = nn.BatchNorm2d(2, momentum=momentum)
    model, given = Twice(layer).eval(), batches(4, 5)
    recompute_statistics(model, model, given)
    assert_collected(layer, [*given, *(2 * batch + 1 for batch in given)])


class ChannelsLast(nn.BatchNorm1d):
    """Normalises the last axis."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


def test_a_layer_chooses_its_own_axis() -> None:
    layer = ChannelsLast(5)
    model, given = nn.Sequential(layer).eval(), [batch.flatten(1, 2) for batch in batches(3, 4)]
    recompute_statistics(model, model, given)
    assert layer.running_mean is not None
    torch.testing.assert_close(layer.running_mean, torch.stack([batch.mean(dim=(0, 1)) for batch in given]).mean(dim=0))


def test_instance_normalisation_that_keeps_statistics_has_them_anew() -> None:
    layer = nn.InstanceNorm2d(2, track_running_stats=True)
    model, given = nn.Sequential(layer).eval(), batches(3, 4)
    recompute_statistics(model, model, given)
    assert layer.running_var is not None
    within = torch.stack([batch.flatten(2).var(dim=2).mean(dim=0) for batch in given]).mean(dim=0)
    torch.testing.assert_close(layer.running_var, within)


@pytest.mark.parametrize("part", ["the layer", "a module around it"])
def test_a_layer_that_computes_with_copies_of_its_buffers_has_them_anew(part: str) -> None:
    """As one does whose weights are offloaded from the device that computes."""
    layer = nn.BatchNorm2d(2)
    model, given = nn.Sequential(nn.Sequential(layer)).eval(), batches(4, 3)
    compute_on(layer if part == "the layer" else model[0], CPU, lambda tensor, device: tensor.to(device, copy=True))
    recompute_statistics(model, model, given)
    assert_collected(layer, given)


class Counting(nn.Module):
    """Counts its calls, and has a layer that it calls in training mode only."""

    calls: Tensor
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.extra = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("table", torch.ones(2, 1, 1).expand(2, 5, 5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.layer(x) * self.table
        return self.extra(out) if self.training else out


def test_nothing_but_the_statistics_of_called_layers_changes() -> None:
    model = Counting()
    model(batches(6)[0])
    before = {name: value.clone() for name, value in model.eval().state_dict().items()}
    given = batches(3, 4)
    recompute_statistics(model, model, given)
    assert_collected(model.layer, given)
    after = model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"layer.running_mean", "layer.running_var"}


def test_without_a_batch_the_statistics_stay() -> None:
    layer = nn.BatchNorm2d(2)
    layer(batches(6)[0])
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    recompute_statistics(layer.eval(), layer, [])
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_layers_with_frozen_weights_can_be_left_out() -> None:
    frozen, trained, weightless = nn.BatchNorm2d(2).requires_grad_(False), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False)
    model, given = nn.Sequential(frozen, trained, weightless).eval(), batches(4)
    recompute_statistics(model, model, given, frozen=False)
    assert frozen.running_mean is not None
    assert frozen.running_mean.tolist() == [0, 0]
    assert weightless.running_var is not None
    assert weightless.running_var.tolist() != [1, 1]
    assert_collected(trained, [batch / (1 + 1e-5) ** 0.5 for batch in given])
    recompute_statistics(model, model, given)
    assert_collected(frozen, given)


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
