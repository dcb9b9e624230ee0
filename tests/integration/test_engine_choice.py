"""Which engines a run may take: none that gives other gradients than the loop, or refuses the batches that will come."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest
from fresh_process import fresh_trak
from tiny_project import MICROBATCH, SHARD_ROWS, Project

from trak_cli.store.container import read_image
from trak_cli.store.json_files import read_json, write_json_once

INPUT = 4


def featurize(project: Project, forward: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Features of the tiny model with another ``forward``, in a process of its own: plugins are imported once in each."""
    path = project.folder / "tiny_plugin.py"
    text = path.read_text()
    old = "        return self.second(torch.tanh(self.first(x)))\n"
    assert old in text
    path.write_text(text.replace(old, forward))
    return fresh_trak(project.folder, "featurize", *overrides, "-d", ".")


#: The first layer's weight is used a second time, by way of a list of the model, in which vmap replaces nothing.
HELD = """        weight = self.__dict__.setdefault("held", [self.first.weight])[0]
        return self.second(torch.tanh(torch.tanh(self.first(x)) @ weight @ weight.T))
"""


def test_vmap_that_is_wrong_is_refused_when_asked_for(project: Project) -> None:
    outcome = featurize(project, HELD, "gradients.engine=vmap")
    assert outcome.returncode == INPUT, outcome.stderr
    assert "gradients of first.weight" in outcome.stderr


def test_vmap_that_is_wrong_is_not_among_those_that_auto_chooses_from(project: Project) -> None:
    outcome = featurize(project, HELD, "gradients.engine=auto")
    assert outcome.returncode == 0, outcome.stderr
    assert "gradients=vmap does not accept this model: other gradients of first.weight" in outcome.stderr


def test_auto_continues_without_an_engine_that_refuses_larger_microbatches(project: Project) -> None:
    """The layers are called once for every four samples: by as many calls as the search for ways through the model saw."""
    forward = "        return torch.cat([self.second(torch.tanh(self.first(c))) for c in x.split(4)])\n"
    outcome = featurize(project, forward, "gradients.engine=auto", "gradients.microbatch=8")
    assert outcome.returncode == 0, outcome.stderr
    assert "gradients=hooks does not accept 8 samples at a time" in outcome.stderr


def plan_of(project: Project) -> dict[str, Any]:
    return read_json(project.store / "plan.json")


def test_the_plan_holds_the_measurements_of_every_engine(project: Project) -> None:
    project.done("featurize", "gradients.engine=auto", "gradients.microbatch=4")
    plan = plan_of(project)
    assert {trial["engine"] for trial in plan["measured"]} == {"hooks", "vmap", "loop"}
    assert {trial["microbatch"] for trial in plan["measured"]} == {4}


def test_every_shard_says_which_engine_computed_it_though_no_fingerprint_does(project: Project) -> None:
    project.done("featurize", "gradients.engine=loop")
    image = read_image(project.shard())
    assert (image.provenance["engine"], image.provenance["microbatch"]) == ("loop", MICROBATCH)
    assert "engine" not in json.dumps(image.fingerprint)


def chosen_while_busy(project: Project, engine: str, *overrides: str) -> None:
    """A store without shards whose plan has this engine, measured as faster than it is."""
    project.done("featurize", f"gradients.engine={engine}", *overrides)
    shutil.rmtree(project.store / "features")
    plan = plan_of(project)
    names = ("hooks", "vmap", "loop")
    plan["measured"] = [{"engine": name, "microbatch": MICROBATCH, "seconds": 1e-7 * (name != engine) + 1e-9} for name in names]
    (project.store / "plan.json").unlink()
    write_json_once(project.store / "plan.json", plan)


def test_a_slow_first_shard_names_the_faster_engine_and_the_store_keeps_its_own(project: Project) -> None:
    chosen_while_busy(project, "loop")
    before = plan_of(project)
    outcome = project.done("featurize", "gradients.engine=auto")
    assert "warning: the first shard took" in outcome.stderr
    assert "use another store: name=NAME gradients=hooks" in outcome.stderr
    assert plan_of(project) == before
    assert read_image(project.shard(index=1)).provenance["engine"] == "loop"


def test_engines_are_not_timed_again_for_fewer_samples_than_that_takes(project: Project) -> None:
    overrides = ("checkpoints=checkpoints/a*", "dataset.train.rows=24")
    chosen_while_busy(project, "loop", *overrides)
    assert "the first shard took" not in project.done("featurize", "gradients.engine=auto", *overrides).stderr


@pytest.mark.parametrize("engine", ["auto", "hooks"])
def test_nothing_is_said_of_the_fastest_engine_or_of_one_that_the_config_names(project: Project, engine: str) -> None:
    chosen_while_busy(project, "hooks")
    outcome = project.done("featurize", f"gradients.engine={engine}")
    assert "the first shard took" not in outcome.stderr


def test_without_a_shard_length_the_first_worker_fixes_one_in_the_plan(project: Project) -> None:
    project.done("featurize", "features.shard_rows=null")
    plan = plan_of(project)
    assert plan["shard_rows"] == 1024  # a sample takes far less than a tenth of a second
    assert [trial["engine"] for trial in plan["measured"]] == ["hooks"]


def test_an_engine_and_a_shard_length_that_the_config_names_need_no_measurement(project: Project) -> None:
    project.done("featurize")
    assert plan_of(project)["measured"] == []


def test_the_shard_length_of_the_plan_holds_for_a_config_that_has_none(project: Project) -> None:
    project.done("featurize")
    project.done(
        "featurize", "features.shard_rows=null", "+dataset.targets.more={_target_: tiny_plugin.Data, rows: 20, seed: 5}"
    )
    assert plan_of(project)["shard_rows"] == SHARD_ROWS
    assert project.shard("more", 1).exists()
