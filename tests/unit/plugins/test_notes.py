"""The note of a checkpoint that trak train made from random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trak_cli.plugins.checkpoints.identity import name_of
from trak_cli.plugins.checkpoints.member import KINDS, Member, checkpoint_of, is_blended
from trak_cli.plugins.checkpoints.notes import CAN_BE_BLENDED, can_be_blended
from trak_cli.plugins.checkpoints.state import dump, load


def test_the_note_is_read_from_the_file_it_was_written_to(tmp_path: Path) -> None:
    model, path = nn.Linear(3, 2), tmp_path / "noted.safetensors"
    path.write_bytes(dump(model, CAN_BE_BLENDED))
    assert can_be_blended(path)
    assert all(torch.equal(torch.as_tensor(tensor), model.state_dict()[name]) for name, tensor in load(path).items())
    path.write_bytes(dump(model))
    assert not can_be_blended(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"trak.ensemble.kind": "mask"}])
def test_files_of_others_have_no_note(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "a.safetensors", metadata)
    assert not can_be_blended(tmp_path / "a.safetensors")


def test_other_formats_and_damaged_files_have_no_note(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "a.pt")
    (tmp_path / "short.safetensors").write_bytes(dump(nn.Linear(3, 2), CAN_BE_BLENDED)[:40])
    (tmp_path / "empty.safetensors").touch()
    for path in (
        tmp_path / "a.pt",
        tmp_path / "short.safetensors",
        tmp_path / "empty.safetensors",
        tmp_path,
        tmp_path / "gone",
    ):
        assert not can_be_blended(path)


@pytest.mark.parametrize("file", ["full_0.safetensors", "a+fresh.pt", "a-12345678+fresh0.25.0.1.pt"])
def test_folders_of_members_are_known_by_their_names(file: str) -> None:
    folder = name_of(Path(file), "0a1b2c3d" * 8)
    assert (is_blended(folder), checkpoint_of(folder)) == (False, folder)
    for kind in KINDS:
        member = folder + Member(kind, 0.1, 7, 2).suffix
        assert (is_blended(member), checkpoint_of(member)) == (kind == "fresh", folder)
