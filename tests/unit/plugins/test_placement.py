"""Models whose parts lie on several devices, and weights that are read from their file without a second copy."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trak_cli.errors import ConfigError, InputError, MachineError
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.plugins.placement import Placement, auto_map, empty_parameters
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.device import choose_device
from trak_cli.stages.inputs.microbatches import TrainingBatches
from trak_cli.stages.inputs.models import Models
from trak_cli.tasks import Classification

CPU = torch.device("cpu")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


class Net(nn.Module):
    """Blocks between layers, a weight that two layers share, a buffer that no file holds and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.blocks, self.last = nn.Linear(8, 8), nn.ModuleList(Block() for _ in range(3)), nn.Linear(8, 8)
        self.last.weight = self.first.weight
        self.bias = nn.Parameter(torch.randn(8))
        self.register_buffer("ramp", torch.arange(1.0, 9.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) + self.bias
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.last(x / self.ramp)
        return out


@pytest.fixture
def sharded(tmp_path: Path) -> tuple[Path, Net]:
    """An index with two files, and the model that they were saved from."""
    torch.manual_seed(0)
    model = Net().eval()
    state = {name: value for name, value in model.state_dict().items() if name != "last.weight"}  # as save_pretrained does
    files = {name: f"part_{'blocks' in name}.safetensors" for name in state}
    for file in set(files.values()):
        save_file({name: state[name] for name in state if files[name] == file}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    return index, model


def loaded(path: Path, device_map: Any, plugin: Any = Net) -> nn.Module:
    placement = Placement(device_map, CPU, partial(choose_device, key="device_map"))
    models = Models(plugin, Classification(), TrainingBatches(lambda rows: None, 0), CPU, placement)
    checkpoint = Checkpoint(path, "0" * 64, "a")
    models.check([checkpoint])
    models.load(checkpoint)
    return models.current


@pytest.mark.parametrize("device_map", ["auto", {}, {"blocks": "offload"}, {"blocks.1": "cpu", "last": "offload"}])
def test_a_placed_model_computes_what_the_model_computes(sharded: tuple[Path, Net], device_map: Any) -> None:
    path, model = sharded
    placed, x = loaded(path, device_map), torch.randn(3, 8)
    assert torch.equal(placed(x), model(x))
    assert [name for name, _ in placed.named_parameters()] == [name for name, _ in model.named_parameters()]
    for one, other in zip(placed.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the list of mapped files of Linux")
def test_the_weights_are_those_of_the_mapped_files(sharded: tuple[Path, Net]) -> None:
    placed = loaded(sharded[0], "auto")
    mapped = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(".safetensors") and str(sharded[0].parent) in line:
            start, stop = line.split()[0].split("-")
            mapped.append(range(int(start, 16), int(stop, 16)))
    assert all(any(value.data_ptr() in part for part in mapped) for value in placed.parameters())


def test_weights_in_another_dtype_than_the_model_are_converted(sharded: tuple[Path, Net]) -> None:
    path, model = sharded
    placed = loaded(path, "auto", lambda: Net().bfloat16())
    assert {value.dtype for value in placed.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(placed.first.weight.float(), model.first.weight, atol=0.01, rtol=0.01)


def test_a_model_with_empty_parameters_has_buffers_and_shared_weights() -> None:
    with empty_parameters():
        model = Net()
    assert all(value.is_meta for value in model.parameters())
    assert model.last.weight is model.first.weight
    assert float(model.ramp[3]) == 4
    assert not any(value.is_meta for value in Net().parameters())


def test_tied_weights_stay_tied_when_tensors_are_assigned(sharded: tuple[Path, Net]) -> None:
    path, model = sharded
    other = Net()
    apply(other, load(path), path, assign=True)
    assert other.last.weight is other.first.weight
    assert torch.equal(other.last.weight, model.first.weight)


def test_a_file_without_all_weights_is_refused(tmp_path: Path) -> None:
    class Partial(nn.Linear):
        def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:
            return super().load_state_dict({name: state[name] for name in state if name == "bias"}, *args, **kwargs)

    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="weight, without values in the checkpoint"):
        loaded(tmp_path / "a.safetensors", "auto", lambda: Partial(2, 2))


@pytest.mark.parametrize(
    ("device_map", "error", "says"),
    [
        ({"block": "cpu", "blocks.1": "cpu"}, ConfigError, "did you mean blocks"),
        ({"blocks": "cpu", "blocks.1": "cpu"}, ConfigError, "blocks.1 inside blocks"),
        ({"": "cpu"}, ConfigError, "found '' *"),
        ({"blocks": "cuda:77"}, MachineError, "device_map: found cuda:77"),
    ],
)
def test_what_the_model_or_the_machine_does_not_have_is_refused(
    sharded: tuple[Path, Net], device_map: dict[str, str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        loaded(sharded[0], device_map)


def test_lazy_modules_are_refused(tmp_path: Path) -> None:
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="a model with lazy modules"):
        loaded(tmp_path / "a.safetensors", "auto", lambda: nn.LazyLinear(2))


def test_gpus_are_filled_in_order_with_whole_blocks_and_the_rest_is_offloaded() -> None:
    block = 4 * (64 + 8)
    assert auto_map(Net(), [("cuda:0", 2 * block), ("cuda:1", block + 8)]) == {
        "first": "cuda:0",
        "blocks.0": "cuda:0",
        "blocks.1": "cuda:1",
        "blocks.2": "offload",
        "last": "offload",
    }
    assert set(auto_map(Net(), [("cuda:0", 10**6)]).values()) == {"cuda:0"}
    assert set(auto_map(Net(), []).values()) == {"offload"}
