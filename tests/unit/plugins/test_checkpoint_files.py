"""Checkpoints are found, identified, read without running anything, and fit exactly or are refused with every reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trak_cli.errors import InputError, TrakError
from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.checkpoints.identity import name_of, sha256
from trak_cli.plugins.checkpoints.state import apply, dump, load


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.embed.weight


def test_patterns_find_files_in_natural_order_and_empty_ones_are_named(tmp_path: Path) -> None:
    for name in ("c10.pt", "c2.pt", "d.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find(["c*.pt", "d*"], tmp_path)] == ["c2.pt", "c10.pt", "d.safetensors"]
    with pytest.raises(TrakError, match=r"nothing\*"):
        find("nothing*", tmp_path)


@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_usual_ways_of_saving_are_read(tmp_path: Path, nest: str | None, prefix: str) -> None:
    saved, model = nn.Linear(3, 2), nn.Linear(3, 2)
    state = {prefix + name: value for name, value in saved.state_dict().items()}
    path = tmp_path / "c.pt"
    torch.save({nest: state, "epoch": 3} if nest else state, path)
    apply(model, load(path), path)
    torch.testing.assert_close(model.weight, saved.weight)


def test_safetensors_and_tied_weights_survive_a_round_trip(tmp_path: Path) -> None:
    saved, model = Tied(), Tied()
    path = tmp_path / "c.safetensors"
    path.write_bytes(dump(saved))
    assert list(load(path)) == ["embed.weight"]
    apply(model, load(path), path)
    torch.testing.assert_close(model.out.weight, saved.embed.weight)
    assert model.out.weight is model.embed.weight


def test_every_key_that_does_not_fit_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"weight": torch.ones(9, 9), "extra": torch.ones(1)}, path)
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(InputError) as refused:
        apply(model, load(path), path)
    text = str(refused.value)
    assert all(name in text for name in ("weight (9, 9)", "no bias", "extra"))
    torch.testing.assert_close(model.weight, before)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {marker}",)

    path = tmp_path / "c.pt"
    torch.save({"weight": Evil()}, path)
    with pytest.raises(InputError, match="could run code"):
        load(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    for name in ("c.pt", "c.safetensors"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=name):
            load(path)


def test_the_name_in_a_store_tells_file_and_content_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "a b.pt", tmp_path / "c.pt"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    names = [name_of(path, sha256(path)) for path in (one, other)]
    assert len(set(names)) == 2
    assert all("/" not in name and " " not in name for name in names)
    assert names[0].endswith(sha256(one)[:8])
