"""Kind none: the flat gradient in the order of the parameters."""

from __future__ import annotations

import pytest
import torch

from trak_cli.projection.contract import ProjectionJob, Projector
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.types import Block

NONE = ProjectionSpec("none", 0)


def concatenator() -> Projector:
    return make_projector(ProjectionJob(NONE, "00" * 32, {"b": 2, "a": 3}))


def test_parameters_come_in_their_order_however_the_blocks_came() -> None:
    a = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    b = torch.tensor([[7.0, 8.0], [9.0, 10.0]])
    blocks = [Block("a", a[:, 2:], 2), Block("b", b), Block("a", a[:, :2])]
    assert concatenator().dim == 5
    assert concatenator().kernel == "concatenate"
    assert torch.equal(concatenator().project(blocks), torch.cat([b, a], dim=1))


def test_coordinates_that_no_block_brings_are_zero() -> None:
    assert concatenator().project([Block("a", torch.ones(1, 1), 1)]).tolist() == [[0, 0, 0, 1, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_gradients_become_float32(dtype: torch.dtype) -> None:
    a = torch.randn(2, 3).to(dtype)
    found = concatenator().project([Block("a", a)])
    assert found.dtype == torch.float32
    assert torch.equal(found[:, 2:], a.float())


def test_float64_is_kept_whichever_block_has_it() -> None:
    a, b = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 2)
    for blocks in ([Block("a", a), Block("b", b)], [Block("b", b), Block("a", a)]):
        found = concatenator().project(blocks)
        assert torch.equal(found, torch.cat([b.double(), a], dim=1))
