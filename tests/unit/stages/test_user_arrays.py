"""Arrays that users bring, as other tools save them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trak_cli.errors import InputError
from trak_cli.stages.evaluation.user_arrays import read_array_file


@pytest.mark.parametrize(
    "scores",
    [torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(2, 3, requires_grad=True), torch.ones(2, 3, dtype=torch.float8_e5m2)],
)
def test_tensors_that_numpy_cannot_hold(tmp_path: Path, scores: torch.Tensor) -> None:
    torch.save({"scores": scores}, tmp_path / "theirs.pt")
    found = read_array_file(tmp_path / "theirs.pt", ("scores",))["scores"]
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 1, 1]] * 2


def test_a_tensor_without_an_array_is_refused(tmp_path: Path) -> None:
    torch.save({"scores": torch.eye(3).to_sparse()}, tmp_path / "theirs.pt")
    with pytest.raises(InputError, match=r"theirs.pt: scores.*sparse"):
        read_array_file(tmp_path / "theirs.pt", ("scores",))
