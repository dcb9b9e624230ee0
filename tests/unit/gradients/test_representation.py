"""Representations against a plain forward hook, and what is refused."""

import pytest
import torch
from torch import nn

from trak_cli.errors import ConfigError, InputError
from trak_cli.gradients.engines.representation import Place, RepresentationEngine, represented
from trak_cli.tasks import Classification


class Net(nn.Module):
    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.conv, self.mix, self.head = nn.Conv2d(1, 4, 3), nn.Linear(9, 9), nn.Linear(4, 3)
        self.unused, self.twice = nn.Linear(2, 2), twice

    def forward(self, x):
        x = self.conv(x).relu().flatten(2)  # (B, 4, 9)
        x = self.mix(x)
        x = self.mix(x) if self.twice else x
        return self.head(x.mean(2))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 1, 5, 5, generator=generator), torch.arange(5) % 3


def engine(place: Place, model: nn.Module | None = None) -> RepresentationEngine:
    torch.manual_seed(0)
    return RepresentationEngine((model or Net()).eval(), Classification(), place)


@pytest.mark.parametrize(
    ("place", "pool"),
    [
        (Place("head", "input"), lambda inputs, output: inputs[0]),
        (Place("head"), lambda inputs, output: output),
        (Place(""), lambda inputs, output: output),
        (Place("mix"), lambda inputs, output: output.mean(1)),
        (Place("conv"), lambda inputs, output: output.mean((2, 3))),
    ],
    ids=["input of head", "output of head", "output of the model", "output of mix", "output of conv"],
)
def test_a_plain_forward_hook_sees_the_same(batch, place, pool):
    torch.manual_seed(0)
    model = Net().eval()
    kept = []
    module = dict(model.named_modules())[place.module]
    handle = module.register_forward_hook(lambda _, inputs, output: kept.append(pool(inputs, output)))
    logits = model(batch[0])
    handle.remove()
    found = RepresentationEngine(model, Classification(), place).per_sample(batch)
    (block,) = found.blocks
    assert block.name == str(place)
    torch.testing.assert_close(block.gradient, kept[0], rtol=0, atol=0)
    torch.testing.assert_close(found.outputs, Classification().output(model, batch).detach())
    p = logits.softmax(1).gather(1, batch[1][:, None])[:, 0]
    torch.testing.assert_close(found.out_to_loss, 1 - p.detach())
    assert not any(one._forward_hooks for one in model.modules())  # none is left behind


def test_the_coordinates_take_the_place_of_parameters(batch):
    torch.manual_seed(0)
    ((name, values),) = represented(
        Net().eval(), Classification(), (batch[0][:1], batch[1][:1]), Place("head", "input")
    ).items()
    assert (name, values.shape) == ("input of head", (4,))


def test_a_name_that_is_not_a_module_is_named(batch):
    with pytest.raises(ConfigError, match="conv, mix, head"):
        engine(Place("haed")).per_sample(batch)


@pytest.mark.parametrize(
    ("place", "model", "found"),
    [(Place("unused"), Net(), "0 calls"), (Place("mix"), Net(twice=True), "2 calls")],
    ids=["never called", "called twice"],
)
def test_a_module_is_called_exactly_once(batch, place, model, found):
    with pytest.raises(InputError, match=found):
        engine(place, model).per_sample(batch)


def test_an_activation_has_one_row_for_each_sample(batch):
    class Folded(Net):
        def __init__(self) -> None:
            super().__init__()
            self.fold = nn.Flatten(0)

        def forward(self, x):
            return self.head(self.fold(self.conv(x).mean((2, 3))).unflatten(0, (-1, 4)))

    with pytest.raises(InputError, match="for a batch of 5"):
        engine(Place("fold"), Folded()).per_sample(batch)


@pytest.mark.parametrize(
    ("place", "expected"),
    [(Place("0"), lambda net, x: net[0](x)), (Place("1", "input"), lambda net, x: net[0](x)), (Place("1"), None)],
    ids=["output", "input of what overwrites it", "output of what overwrites"],
)
def test_activations_overwritten_in_place_are_recorded_before_the_change(place, expected):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)).eval()
    x = torch.randn(5, 6)
    (block,) = RepresentationEngine(model, Classification(), place).per_sample((x, torch.arange(5) % 3)).blocks
    values = (expected or (lambda net, x: net[0](x).relu()))(model, x).detach()
    assert (values < 0).any() == (expected is not None)
    torch.testing.assert_close(block.gradient, values, rtol=0, atol=0)


def test_an_input_may_come_by_keyword(batch):
    class Keyword(Net):
        def forward(self, x):
            return self.head(input=self.conv(x).relu().mean((2, 3)))

    torch.manual_seed(0)
    model = Keyword().eval()
    (block,) = RepresentationEngine(model, Classification(), Place("head", "input")).per_sample(batch).blocks
    torch.testing.assert_close(block.gradient, model.conv(batch[0]).relu().mean((2, 3)).detach(), rtol=0, atol=0)
