"""The device of a process: processes of one node take different GPUs."""

from __future__ import annotations

import pytest
import torch

from trak_cli.stages.inputs.device import choose_device


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(("rank", "number"), [("0", 0), ("3", 3), ("6", 2)])
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_a_node_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch, name: str, rank: str, number: int) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert choose_device(name) == torch.device("cuda", number)


@pytest.mark.usefixtures("four_gpus")
def test_a_device_with_a_number_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu") == torch.device("cpu")


def test_the_only_gpu_is_taken_by_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a scheduler shows each process only its own GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("SLURM_LOCALID", "5")
    assert choose_device("auto") == torch.device("cuda")
