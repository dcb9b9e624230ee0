"""The note of a checkpoint that trak train made from random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from trak_cli.plugins.checkpoints.identity import name_of
from trak_cli.plugins.checkpoints.member import KINDS, Member, checkpoint_of, leftover_members, member_of
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
@given(kind=st.sampled_from(KINDS), scale=st.floats(1e-9, 1), seed=st.integers(0, 2**40), index=st.integers(1, 10**6))
def test_folders_of_members_are_known_by_their_names(file: str, kind: str, scale: float, seed: int, index: int) -> None:
    folder = name_of(Path(file), "0a1b2c3d" * 8)
    assert (member_of(folder), checkpoint_of(folder)) == (None, folder)
    member = Member(kind, scale, seed, index)
    assert (member_of(folder + member.suffix), checkpoint_of(folder + member.suffix)) == (member, folder)


@pytest.mark.parametrize("suffix", ["+fresh", "+fresh1e.0.1", "+other0.1.0.1", "+fresh0.1.0.1.h5", "+mask-.0.1", "mask0.1.0.1"])
def test_other_names_are_of_no_member(suffix: str) -> None:
    assert member_of(f"full_0-0a1b2c3d{suffix}") is None


def test_leftover_members_are_of_the_files_of_a_run_and_not_in_it() -> None:
    run = ["a-00000000", "a-00000000+mask0.1.0.1"]
    others = ["a-00000000+fresh0.25.0.1", "b-00000000", "b-00000000+mask0.1.0.1"]
    assert leftover_members([*run, *others], run) == others[:1]
