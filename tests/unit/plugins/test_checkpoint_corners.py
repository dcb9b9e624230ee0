"""Checkpoints in folders with odd names, of models with odd state, and files that hold several or no state_dicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trak_cli.errors import ConfigError, InputError
from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.checkpoints.state import apply, dump, load


@pytest.mark.parametrize("folder", ["run[1]", "what?", "lr=0.1,*"])
def test_the_folder_of_the_config_is_no_pattern(tmp_path: Path, folder: str) -> None:
    base = tmp_path / folder
    base.mkdir()
    (base / "c1.pt").write_bytes(b"x")
    assert find("c*.pt", base) == [base / "c1.pt"]
    assert find(str(base / "c1.pt"), tmp_path) == [base / "c1.pt"]


def test_a_file_is_listed_once_and_may_lie_anywhere(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for name in ("s[1].pt", "s²3.pt", "s10.pt", "s9.pt"):
        (deep / name).write_bytes(b"x")
    assert [path.name for path in find(["**/s9.pt", "a/b/s?*.pt"], tmp_path)][:3] == ["s9.pt", "s10.pt", "s[1].pt"]
    assert find([str(deep / "s*9.pt")], tmp_path / "elsewhere") == [deep / "s9.pt"]


def test_every_pattern_without_a_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        find(["x*", "y*"], tmp_path)
    assert len(refused.value.problems) == 2
    with pytest.raises(ConfigError, match="empty list"):
        find([], tmp_path)


def test_a_model_whose_state_dict_returns_copies_is_loaded() -> None:
    def copy(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
        state.update({name: value.clone() for name, value in state.items()})

    model = nn.Linear(2, 2)
    model._register_state_dict_hook(copy)
    apply(model, {"weight": torch.ones(2, 2), "bias": torch.ones(2)}, Path("c.pt"))
    assert model.weight.tolist() == [[1, 1], [1, 1]]
    assert model.bias.tolist() == [1, 1]


class WithExtraState(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: Any) -> None:
        raise AssertionError("none was stored")


def test_a_module_with_extra_state_is_stored_without_it(tmp_path: Path) -> None:
    saved, model = WithExtraState(2, 2), WithExtraState(2, 2)
    path = tmp_path / "c.safetensors"
    path.write_bytes(dump(saved))
    apply(model, load(path), path)
    assert torch.equal(model.weight, saved.weight)


def test_a_checkpoint_is_cast_to_the_model_and_buffers_come_along() -> None:
    model, saved = nn.BatchNorm1d(3).bfloat16(), nn.BatchNorm1d(3)
    saved.running_mean.fill_(0.5)
    apply(model, saved.state_dict(), Path("c.pt"))
    assert model.running_mean.dtype == torch.bfloat16
    assert model.running_mean.tolist() == [0.5] * 3


def test_tied_weights_with_different_values_are_refused() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight
    with pytest.raises(InputError, match=r"different values for a\.weight and b\.weight"):
        apply(model, {"a.weight": torch.zeros(2, 2), "b.weight": torch.ones(2, 2)}, Path("c.pt"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 3}, "keys epoch"),
        ({}, "an empty mapping"),
        (["weights"], "list"),
    ],
)
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: object, told: str) -> None:
    path = tmp_path / "c.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=told):
        load(path)


def test_a_checkpoint_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"w": torch.ones(100)}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"c\.pt"):
            load(path)


def test_numbers_that_no_file_can_hold_are_refused() -> None:
    model = nn.Module()
    model.register_parameter("phase", nn.Parameter(torch.ones(2, dtype=torch.complex128)))
    with pytest.raises(InputError, match="phase in complex128"):
        dump(model)
    model.to(torch.complex64)
    dump(model)
