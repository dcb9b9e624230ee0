"""Which engines a run may take: none that gives other gradients than the loop, or refuses the batches that will come."""

from __future__ import annotations

import os
import subprocess
import sys

from tiny_project import Project

INPUT = 4


def featurize(project: Project, forward: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Features of the tiny model with another ``forward``, in a process of its own: plugins are imported once in each."""
    path = project.folder / "tiny_plugin.py"
    text = path.read_text()
    old = "        return self.second(torch.tanh(self.first(x)))\n"
    assert old in text
    path.write_text(text.replace(old, forward))
    command = [sys.executable, "-m", "trak_cli", "featurize", *overrides, "-d", "."]
    return subprocess.run(command, cwd=project.folder, env=os.environ.copy(), capture_output=True, text=True, check=False)


#: The first layer's weight is used a second time, by way of a list in which nothing replaces it.
HELD = """        weight = HELD[0] if HELD else self.first.weight
        HELD[:] = [weight]
        return self.second(torch.tanh(torch.tanh(self.first(x)) @ weight @ weight.T))


HELD = []
"""


def test_vmap_that_is_wrong_is_refused_when_asked_for(project: Project) -> None:
    outcome = featurize(project, HELD, "gradients.engine=vmap")
    assert outcome.returncode == INPUT, outcome.stderr
    assert "gradients of first.weight" in outcome.stderr


def test_vmap_that_is_wrong_is_not_among_those_that_auto_chooses_from(project: Project) -> None:
    outcome = featurize(project, HELD, "gradients.engine=auto")
    assert outcome.returncode == 0, outcome.stderr
    assert "gradients=vmap does not accept this model: other gradients of first.weight" in outcome.stderr


def test_auto_goes_on_without_an_engine_that_refuses_larger_microbatches(project: Project) -> None:
    """The layers are called once for every four samples: by as many calls as the search for ways through the model saw."""
    forward = "        return torch.cat([self.second(torch.tanh(self.first(c))) for c in x.split(4)])\n"
    outcome = featurize(project, forward, "gradients.engine=auto", "gradients.microbatch=8")
    assert outcome.returncode == 0, outcome.stderr
    assert "gradients=hooks does not accept 8 samples at a time" in outcome.stderr
