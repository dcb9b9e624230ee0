"""Projection of blocks on several devices; the second device here is "meta", whose projector knows what it stands for."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.placed import PlacedProjector
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import AnyBlock, Block, RowBlock

SIZES = {"a": 30, "b": 17, "table": 12}
JOB = ProjectionJob(ProjectionSpec("sjlt", 32, nonzeros=2), "00" * 32, SIZES)
CPU, OTHER = torch.device("cpu"), torch.device("meta")


def blocks() -> dict[str, AnyBlock]:
    torch.manual_seed(0)
    rows = RowBlock("table", 3, torch.tensor([0, 2]), torch.tensor([1, 3]), torch.randn(2, 3))
    return {"a": Block("a", torch.randn(3, 30)), "b": Block("b", torch.randn(3, 17)), "table": rows}


class Elsewhere:
    """Projects the block of the same name, whose values a tensor on "meta" does not have."""

    kernel, dim = "elsewhere", 32

    def __init__(self, runs: list[list[str]]) -> None:
        self.runs = runs

    def project(self, run: Iterable[AnyBlock]) -> torch.Tensor:
        names = [block.name for block in run]
        self.runs.append(names)
        return make_projector(JOB).project(blocks()[name] for name in names)


def on_meta(block: AnyBlock) -> AnyBlock:
    if isinstance(block, RowBlock):
        return RowBlock(block.name, 3, block.sample, block.row, block.values.to(OTHER))
    assert isinstance(block, Block)
    return Block(block.name, block.gradient.to(OTHER))


@pytest.mark.parametrize("moved", [(), ("a",), ("b", "table"), ("a", "b", "table")])
def test_the_features_are_those_of_one_device(moved: tuple[str, ...]) -> None:
    runs: list[list[str]] = []

    def build(device: torch.device) -> Projector:
        return make_projector(JOB) if device == CPU else Elsewhere(runs)

    placed = [on_meta(block) if name in moved else block for name, block in blocks().items()]
    expected = make_projector(JOB).project(blocks().values())
    torch.testing.assert_close(PlacedProjector(build, CPU).project(iter(placed)), expected)
    assert runs == ([list(moved)] if moved else [])  # neighbouring blocks of one device are projected together


def test_no_block_is_refused() -> None:
    with pytest.raises(ValueError, match="no gradient block"):
        PlacedProjector(lambda _: make_projector(JOB), CPU).project([])
