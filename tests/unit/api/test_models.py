"""Models and weights in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trak_cli.api.models import factory_of, weight_files
from trak_cli.errors import InputError


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))


def files(checkpoints: Any, model: Any, folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in weight_files(checkpoints, model, factory_of(model), folder)]


def test_the_model_of_the_caller_is_copied_and_never_changed() -> None:
    model = net().train()
    model(torch.ones(1, 3)).sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    built = factory_of(model)().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(1)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in factory_of(model)().parameters())


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_a_wrapped_model_is_unwrapped(wrap: Any) -> None:
    assert list(factory_of(wrap(net()))().state_dict()) == list(net().state_dict())


def test_equal_weights_give_equal_files_whatever_holds_them(tmp_path: Path) -> None:
    model = net()
    expected = files(None, model, tmp_path / "model")
    assert files(model.state_dict(), model, tmp_path / "state") == expected
    assert files(model, net, tmp_path / "other") == expected
    prefixed = {f"module.{name}": value for name, value in model.state_dict().items()}
    assert files([prefixed], net, tmp_path / "wrapped") == expected
    torch.save(model.state_dict(), tmp_path / "given.pt")
    assert weight_files(tmp_path / "given.pt", model, factory_of(model), tmp_path) == [tmp_path / "given.pt"]


SHARED = net()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("resnet18", "an object of type str"),
        (lambda: SHARED, "the same model each time"),
        (lambda: None, "a function that returns NoneType"),
        (nn.Linear, "TypeError"),
        (nn.LazyLinear(2), "call the model once"),
    ],
)
def test_what_builds_no_model_is_refused(model: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        factory_of(model)


@pytest.mark.parametrize(
    ("checkpoints", "says"),
    [
        (None, "other weights each time"),
        ([], "an empty list"),
        (3, "an object of type int"),
        ({"state_dict": net().state_dict(), "epoch": 3}, "CHECKPOINT['state_dict']"),
        ([net().state_dict(), {"other": torch.ones(2)}], "checkpoints[1]"),
    ],
)
def test_what_is_no_weights_of_the_model_is_refused(checkpoints: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        files(checkpoints, net, tmp_path)
    assert says in str(refused.value)


def test_weights_of_an_earlier_call_are_not_replaced(tmp_path: Path) -> None:
    first = files(None, net(), tmp_path)
    with pytest.raises(InputError, match="give another store"):
        files(None, net(), tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == first
