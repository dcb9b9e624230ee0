"""Features that are representations, by the command line: the cosine baseline, against a forward pass of one's own."""

from __future__ import annotations

import sys

import numpy as np
import torch
from safetensors.torch import load_file
from tiny_project import DIM, ROWS, TARGETS, Project

from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

HIDDEN = ["gradients.engine=representation", "gradients.module=second", "gradients.side=input", "store=runs/hidden"]


def hidden(project: Project, rows: int, seed: int) -> np.ndarray:
    """What enters the last layer under checkpoint a, (rows, 6)."""
    from tiny_plugin import Data, Net  # the project's plugin, imported by the stage before

    model = Net()
    model.load_state_dict(load_file(project.folder / "checkpoints" / "a.safetensors"))
    data = Data(rows=rows, seed=seed)
    inputs = torch.stack([data[row][0] for row in range(rows)])
    return torch.tanh(model.first(inputs)).detach().numpy()


def test_cosine_of_representations(project: Project) -> None:
    asked = [*HIDDEN, "projection.kind=none", "checkpoints=checkpoints/a.safetensors"]
    project.done("featurize", *asked)
    project.done("score", *asked, "estimator=cosine")
    sys.path.insert(0, str(project.folder))
    train, targets = hidden(project, ROWS, 1), hidden(project, TARGETS, 2)
    lengths = np.linalg.norm(targets, axis=1)[:, None] * np.linalg.norm(train, axis=1)
    found = read_scores(Layout(project.folder / "runs" / "hidden").scores("cosine", "test"))
    np.testing.assert_allclose(found, targets @ train.T / lengths, atol=1e-5)


def test_a_projection_takes_representations_as_it_takes_gradients(project: Project) -> None:
    project.done("featurize", *HIDDEN)
    project.done("finalize", *HIDDEN)
    project.done("score", *HIDDEN)
    layout = Layout(project.folder / "runs" / "hidden")
    assert read_scores(layout.scores("early_training", "test")).shape == (TARGETS, ROWS)
    assert f'"dim": {DIM}' in layout.fingerprint(layout.checkpoints()[0]).read_text()


def test_a_store_of_representations_refuses_other_representations(featurized: Project) -> None:
    featurized.refused(3, "featurize", *HIDDEN[:-1], says=("parameters",))
    featurized.done("featurize", *HIDDEN)
    featurized.refused(
        3, "featurize", "gradients.engine=representation", "gradients.module=second", HIDDEN[-1], says=("parameters",)
    )


def test_a_name_that_is_not_a_module_is_refused(project: Project) -> None:
    project.refused(2, "featurize", "gradients.engine=representation", "gradients.module=secnod", says=("first, second",))
