"""Derived checkpoints: what each kind does to weights, and that a member is a function of its identity."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from trak_cli.plugins.checkpoints.derived import derive
from trak_cli.plugins.checkpoints.member import Member

DIGEST = "a" * 64
LARGE = 200


def initial() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, LARGE), nn.ReLU(), nn.LayerNorm(LARGE), nn.Linear(LARGE, 3))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return initial()


def derived(member: Member, model: nn.Module | None = None) -> dict[str, torch.Tensor]:
    model = model or net()
    derive(model, member, member.digest(DIGEST), initial)
    return model.state_dict()


def test_noise_is_relative_to_each_tensor():
    before, after = net().state_dict(), derived(Member("noise", 0.1, 0, 1))
    for name, value in before.items():
        if value.square().sum() == 0:  # LayerNorm's bias
            assert torch.equal(after[name], value)
        elif value.numel() > 100:
            assert float((after[name] - value).std() / value.square().mean().sqrt()) == pytest.approx(0.1, rel=0.15)


def test_dropout_takes_whole_units_and_none_of_the_outputs():
    before, after = net().state_dict(), derived(Member("dropout", 0.25, 0, 1))
    gone = (after["0.weight"] == 0).all(1)
    assert 0.15 < float(gone.float().mean()) < 0.35
    assert torch.equal(gone, after["0.bias"] == 0)
    torch.testing.assert_close(after["0.weight"][~gone], before["0.weight"][~gone] / 0.75)
    for name in ("2.weight", "2.bias", "3.weight", "3.bias"):
        assert torch.equal(after[name], before[name])


def test_mask_takes_single_weights_and_no_bias():
    before, after = net().state_dict(), derived(Member("mask", 0.25, 0, 1))
    for name in ("0.weight", "3.weight"):
        gone = after[name] == 0
        assert 0.18 < float(gone.float().mean()) < 0.32
        torch.testing.assert_close(after[name][~gone], before[name][~gone] / 0.75)
    for name in ("0.bias", "2.weight", "2.bias", "3.bias"):
        assert torch.equal(after[name], before[name])


@pytest.mark.parametrize("kind", ["dropout", "mask"])
def test_expected_outputs_of_a_linear_layer_stay(kind):
    """Weights that stay are divided by the probability of staying."""
    model = nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 1))
    expected = model[0].weight.detach().clone()
    total = torch.zeros_like(expected)
    for index in range(1, 401):
        one = nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 1))
        one.load_state_dict(model.state_dict())
        total += derived(Member(kind, 0.3, 0, index), one)["0.weight"]
    assert float((total / 400 - expected).norm() / expected.norm()) < 0.06


@pytest.mark.parametrize("scale", [0.2, 0.5, 0.9])
def test_fresh_keeps_the_variance_of_random_weights_and_a_share_of_the_weights(scale):
    before, after = (weights["0.weight"].flatten() for weights in (net().state_dict(), derived(Member("fresh", scale, 0, 1))))
    assert float(after.std() / before.std()) == pytest.approx(1, rel=0.08)
    assert float(torch.corrcoef(torch.stack([before, after]))[0, 1]) == pytest.approx((1 - scale) ** 0.5, abs=0.08)


@pytest.mark.parametrize("scale", [0.19, 0.75])
def test_fresh_moves_weights_that_start_at_one_value_toward_it(scale):
    model = net()
    with torch.no_grad():
        model[2].weight.fill_(3.0)
        model[2].bias.fill_(-1.0)
    after, kept = derived(Member("fresh", scale, 0, 1), model), (1 - scale) ** 0.5
    torch.testing.assert_close(after["2.weight"], torch.full((LARGE,), 1 + kept * 2))
    torch.testing.assert_close(after["2.bias"], torch.full((LARGE,), -kept))


def test_fresh_leaves_frozen_weights_and_buffers():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    model(torch.randn(16, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    member = Member("fresh", 0.5, 0, 1)
    derive(model, member, member.digest(DIGEST), lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"2.weight", "2.bias"}


def drawn_everywhere():
    """A layer whose initial weights are from all three global generators."""
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight += torch.from_numpy(np.random.randn(2, 3)).float()  # noqa: NPY002
        layer.bias += random.random()
    return layer


def test_fresh_leaves_the_random_numbers_of_the_caller_alone():
    def numbers():
        return torch.rand(4).tolist(), np.random.rand(4).tolist(), random.random()  # noqa: NPY002

    def seed():
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)

    seed()
    expected = numbers()
    model = nn.Linear(3, 2)
    seed()
    derive(model, Member("fresh", 0.5, 0, 1), DIGEST, drawn_everywhere)
    assert numbers() == expected


def test_fresh_weights_are_a_function_of_the_member_whatever_draws_them():
    model = drawn_everywhere()
    again = copy.deepcopy(model)
    for one in (model, again):
        derive(one, Member("fresh", 0.5, 0, 1), DIGEST, drawn_everywhere)
    assert torch.equal(model.weight, again.weight)
    assert torch.equal(model.bias, again.bias)


@pytest.mark.parametrize("kind", ["noise", "dropout", "mask", "fresh"])
def test_a_member_is_a_function_of_its_identity(kind):
    member = Member(kind, 0.2, 0, 1)
    torch.manual_seed(7)  # the state of the global generator does not matter
    again = derived(member)
    for name, value in derived(member).items():
        assert torch.equal(again[name], value)
    others = [Member(kind, 0.2, 0, 2), Member(kind, 0.2, 1, 1), Member(kind, 0.3, 0, 1)]
    for other in others:
        assert not torch.equal(derived(other)["0.weight"], again["0.weight"])
    several = [member, *others]
    assert len({one.digest(DIGEST) for one in several}) == len({one.suffix for one in several}) == 4
    assert member.digest("b" * 64) != member.digest(DIGEST)


@pytest.mark.parametrize("kind", ["noise", "mask", "dropout", "fresh"])
def test_tied_weights_stay_tied_and_are_changed_once(kind):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.second.weight = self.first.weight

    model = Tied()
    before = model.first.weight.detach().clone()
    derive(model, Member(kind, 0.5, 0, 1), Member(kind, 0.5, 0, 1).digest(DIGEST), Tied)
    after = model.state_dict()
    assert model.first.weight is model.second.weight
    assert float(after["first.weight"].abs().max()) <= float(before.abs().max()) * 2 + 3
    if kind in ("mask", "dropout"):
        kept = after["first.weight"] != 0
        torch.testing.assert_close(after["first.weight"][kept], 2 * before[kept])
