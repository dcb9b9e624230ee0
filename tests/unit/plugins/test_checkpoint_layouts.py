"""Every layout of checkpoints gives the model that the plain state_dict gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoint_layouts import LAYOUTS, Layout
from torch import nn

from trak_cli.plugins.checkpoints.files import find
from trak_cli.plugins.checkpoints.state import apply, load


def trained(kind: type[nn.Module]) -> nn.Module:
    """A model whose statistics are not the initial ones."""
    torch.manual_seed(0)
    model = kind()
    for _ in range(3):
        model(torch.randn(20, 4) * 2 + 1)
    return model.eval()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_layout_gives_the_outputs_of_the_plain_state_dict(layout: Layout, tmp_path: Path) -> None:
    model = trained(layout.model)
    with torch.no_grad():
        for parameter in model.parameters():  # none has the value that every new model has
            parameter.add_(torch.randn_like(parameter))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    (path,) = find(layout.write(tmp_path, state), tmp_path)
    torch.manual_seed(1)
    x, loaded = torch.randn(7, 4), layout.model()
    assert not torch.equal(loaded.eval()(x), model(x))
    apply(loaded, load(path, layout.allow), path, layout.key)
    assert torch.equal(loaded(x), model(x))
