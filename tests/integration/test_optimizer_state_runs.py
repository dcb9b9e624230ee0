"""Checkpoints with the state of the optimizer that trained them, through the command line."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from small_project import assert_close, assert_identical, elsewhere, read_store
from tiny_project import Project, weights
from torch import Tensor, nn, optim
from torch.distributed.checkpoint.state_dict import get_state_dict

from trak_cli.store.json_files import read_json
from trak_cli.store.layout import Layout

ADAM = "gradients.optimizer=adam"
OWN = "gradients are scaled by its own second moments"
ESTIMATED = "gradients are scaled by second moments of training samples"
NO_PROJECTION = "projection.kind=none"


class Net(nn.Module):
    """The names and shapes of ``tiny_plugin.Net``."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 3)
        self.load_state_dict(weights(seed))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(x)))
        return out


def trained(seed: int, kind: Any = optim.AdamW, **settings: Any) -> tuple[Net, optim.Optimizer]:
    """A model and its optimizer after a few steps."""
    model = Net(seed)
    optimizer = kind(model.parameters(), lr=1e-3, **settings)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(8):
        optimizer.zero_grad()
        x, y = torch.randn(16, 8, generator=generator), torch.randint(3, (16,), generator=generator)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, optimizer


def write(project: Project, **checkpoints: tuple[nn.Module, optim.Optimizer] | nn.Module) -> None:
    """Replace the checkpoints of the project: ``{'model': …, 'optimizer': …}``, or weights alone."""
    folder = project.folder / "checkpoints"
    for old in folder.iterdir():
        old.unlink()
    for name, content in checkpoints.items():
        if isinstance(content, nn.Module):
            torch.save(content.state_dict(), folder / f"{name}.pt")
        else:
            model, optimizer = content
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / f"{name}.pt")


def expected_scales(model: nn.Module, optimizer: optim.Optimizer) -> np.ndarray[Any, Any]:
    """v^(-1/4) of every coordinate by Adam's formula, over the mean of v, in float64."""
    group = optimizer.param_groups[0]
    second = []
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        moment = state["exp_avg_sq"].double() / (1 - group["betas"][1] ** float(state["step"]))
        moment = moment + (1 - group["betas"][1]) * moment.mean()  # the step that a sample takes part in
        second.append(((moment.sqrt() + group["eps"]) ** 2).flatten())
    flat = torch.cat(second).numpy()
    return np.asarray((flat / flat.mean()) ** -0.25)


def fingerprints(project: Project, store: str = "tiny") -> list[Any]:
    layout = Layout(project.folder / "runs" / store)
    return [read_json(layout.fingerprint(name)) for name in layout.checkpoints()]


def check_features(project: Project, scales: np.ndarray[Any, Any], *arguments: str) -> None:
    """The features in the store are the gradients times the scales, coordinate by coordinate."""
    plain = elsewhere(project, NO_PROJECTION, "gradients.optimizer=sgd", *arguments)
    found = read_store(project.store)
    assert found
    for key, features in found.items():
        np.testing.assert_allclose(features.features, plain[key].features * scales, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("eps", [1e-8, 1e-3])
def test_features_are_gradients_over_the_root_of_the_optimizers_own_moments(project: Project, eps: float) -> None:
    """Nothing is set: the state says that it is Adam, and has the moments."""
    model, optimizer = trained(3, eps=eps)
    write(project, a=(model, optimizer))
    outcome = project.done("featurize", NO_PROJECTION)
    assert "Adam or AdamW" in outcome.stderr
    assert OWN in outcome.stderr
    scales = expected_scales(model, optimizer)
    assert scales.std() > 0.1
    check_features(project, scales)


def test_the_sparse_projection_gets_gradients_with_a_scale_for_each_coordinate(project: Project) -> None:
    """They are no outer products any more, as the gradients of these layers are."""
    write(project, a=trained(3))
    sparse = ("projection.kind=sjlt", "projection.dim=64", "projection.nonzeros=1")
    project.done("featurize", *sparse, "gradients.engine=hooks")
    assert_close(elsewhere(project, *sparse, "gradients.engine=loop"), read_store(project.store), 1e-4)


def layout_trainer(folder: Path, model: nn.Module, optimizer: optim.Optimizer) -> str:
    target = folder / "out" / "checkpoint-8"
    target.mkdir(parents=True)
    save_file(model.state_dict(), target / "model.safetensors")
    torch.save(optimizer.state_dict(), target / "optimizer.pt")
    return "out/checkpoint-*/model.safetensors"


def layout_lightning(folder: Path, model: nn.Module, optimizer: optim.Optimizer) -> str:
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    content = {"epoch": 2, "global_step": 8, "state_dict": state, "optimizer_states": [optimizer.state_dict()]}
    torch.save({**content, "lr_schedulers": [], "loops": {}}, folder / "last.ckpt")
    return "last.ckpt"


def layout_state_dict_keys(folder: Path, model: nn.Module, optimizer: optim.Optimizer) -> str:
    content = {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "epoch": 3}
    torch.save(content, folder / "c.pth")
    return "c.pth"


def layout_names(folder: Path, model: nn.Module, optimizer: optim.Optimizer) -> str:
    """By name instead of number, behind the wrapper of data parallelism."""
    names = [f"module.{name}" for name, _ in model.named_parameters()]
    content = optimizer.state_dict()
    state = {name: content["state"][i] for i, name in enumerate(names)}
    groups = [{**content["param_groups"][0], "params": names}]
    weights_ = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"model": weights_, "optim": {"state": state, "param_groups": groups}}, folder / "n.pt")
    return "n.pt"


def layout_folder(folder: Path, model: nn.Module, optimizer: optim.Optimizer) -> str:
    layout_trainer(folder, model, optimizer)
    return "out/checkpoint-*"


def layout_distributed(folder: Path, model: nn.Module, optimizer: optim.Optimizer) -> str:
    """As torch.distributed.checkpoint writes both states, by names."""
    own, state = get_state_dict(model, optimizer)
    dcp.save({"model": own, "optim": state}, checkpoint_id=folder / "dcp", no_dist=True)
    return "dcp"


@pytest.mark.parametrize(
    "layout", [layout_trainer, layout_folder, layout_lightning, layout_state_dict_keys, layout_names, layout_distributed]
)
def test_every_layout_gives_the_same_scales(project: Project, layout: Any) -> None:
    model, optimizer = trained(4)
    pattern = f"checkpoints={layout(project.folder, model, optimizer)}"
    outcome = project.done("featurize", NO_PROJECTION, pattern, ADAM)
    assert OWN in outcome.stderr
    check_features(project, expected_scales(model, optimizer), pattern)


def test_factored_features_use_the_moments_too(words: Project) -> None:
    """Weights whose gradients stay outer products have one scale for each row and column, with every engine."""
    factored = ("projection.kind=factored", "projection.dim=64", "projection.factors=[4, 4]")
    optimized = with_state(words)
    outcome = words.done("featurize", *factored, optimized)
    assert OWN in outcome.stderr
    assert_close(elsewhere(words, *factored, optimized, "gradients.engine=loop"), read_store(words.store), 1e-4)


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_engines_differ_by_rounding_only(words: Project, engine: str) -> None:
    optimized = with_state(words)
    assert OWN in words.done("featurize", optimized).stderr
    found = elsewhere(words, optimized, f"gradients.engine={engine}", "gradients.microbatch=5")
    assert_close(found, read_store(words.store), 1e-4)


def with_state(words: Project) -> str:
    """A checkpoint of the project with the state of AdamW, by names, beside its weights."""
    path = sorted((words.folder / "checkpoints").iterdir())[0]
    from trak_cli.plugins.checkpoints.state import load

    state = dict(load(path))
    generator = torch.Generator().manual_seed(0)
    moments = {
        name: {"step": torch.tensor(9.0), "exp_avg": value, "exp_avg_sq": torch.rand(value.shape, generator=generator)}
        for name, value in state.items()
    }
    groups = [{"params": list(moments), "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}]
    torch.save({"model": state, "optimizer": {"state": moments, "param_groups": groups}}, words.folder / "adam.pt")
    return "checkpoints=adam.pt"


def test_moments_are_in_the_fingerprint(project: Project) -> None:
    """Stores of own moments, of estimated ones, and of other own ones, do not go on with each other."""
    model, optimizer = trained(3)
    write(project, a=(model, optimizer))
    project.done("featurize", "gradients.moments=samples")
    project.done("featurize", "store=runs/own")
    (estimated,), (own,) = fingerprints(project), fingerprints(project, "own")
    assert estimated["optimizer"] != own["optimizer"]
    project.refused(3, "featurize", says=("optimizer",))
    project.refused(3, "featurize", "store=runs/own", "gradients.optimizer=sgd", says=("optimizer",))


def test_a_state_beside_the_weights_that_changes_is_another_run(project: Project) -> None:
    model, optimizer = trained(4)
    pattern = f"checkpoints={layout_trainer(project.folder, model, optimizer)}"
    project.done("featurize", pattern)
    state = optimizer.state_dict()
    state["state"][0]["exp_avg_sq"] *= 2
    torch.save(state, project.folder / "out" / "checkpoint-8" / "optimizer.pt")
    project.refused(3, "featurize", pattern, says=("optimizer",))


def test_workers_and_restarts_do_not_change_results(project: Project) -> None:
    write(project, a=trained(3), b=trained(5))
    project.done("featurize", "worker.index=1", "worker.count=3")
    project.done("featurize")
    assert_identical(elsewhere(project), read_store(project.store))


def test_checkpoints_with_states_of_their_own_are_averaged(project: Project) -> None:
    write(project, a=trained(3), b=trained(5))
    for stage in ("featurize", "finalize", "score"):
        project.done(stage)
    assert len({fingerprint["optimizer_state"] for fingerprint in fingerprints(project)}) == 2


@pytest.mark.parametrize("other", ["gradients.optimizer=sgd", "gradients.moments=samples"])
def test_features_by_different_moments_are_not_averaged(project: Project, other: str) -> None:
    """Two runs into one store, each with its own checkpoint."""
    write(project, a=trained(3), b=trained(5))
    project.done("featurize", "checkpoints=checkpoints/a.pt")
    project.done("featurize", "checkpoints=checkpoints/b.pt", other)
    project.refused(3, "finalize", says=("optimizer", "b-"))


def test_a_state_beside_objects_of_allowed_classes_is_read(project: Project) -> None:
    model, optimizer = trained(3)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "args": Namespace(lr=0.1)}
    torch.save(content, project.folder / "with_args.pt")
    outcome = project.done("featurize", "checkpoints.files=with_args.pt", "checkpoints.allow=[argparse.Namespace]")
    assert OWN in outcome.stderr


def test_one_checkpoint_without_a_state_and_all_are_estimated(project: Project) -> None:
    """So that the checkpoints of a run are treated alike; and the log says it."""
    write(project, a=trained(3), b=Net(5))
    outcome = project.done("featurize")
    assert ESTIMATED in outcome.stderr
    assert "1 of 2 checkpoints" in outcome.stderr
    assert "b.pt" in outcome.stderr
    assert_identical(elsewhere(project, ADAM, "gradients.moments=samples"), read_store(project.store))


def test_moments_of_the_checkpoint_are_refused_where_there_are_none(project: Project) -> None:
    """All at once, each with its file."""
    write(project, a=trained(3), b=Net(5), c=trained(6, optim.SGD))
    asked = (ADAM, "gradients.moments=checkpoint")
    told = project.refused(
        4, "featurize", *asked, says=("b.pt", "no optimizer state", "c.pt", "SGD", "gradients.moments=samples")
    )
    assert "a.pt" not in told


def test_a_state_that_fits_in_several_ways_is_told(project: Project) -> None:
    """It is Adam, but whose moments these are is not certain: estimated, or refused if they are asked for."""
    model, optimizer = trained(3)
    content = optimizer.state_dict()
    content["state"] = {0: content["state"][0]}
    content["param_groups"] = [{**content["param_groups"][0], "params": items} for items in ([0, 3], [1, 2])]
    torch.save({"model": model.state_dict(), "optimizer": content}, project.folder / "unclear.pt")
    outcome = project.done("featurize", "checkpoints=unclear.pt")
    assert ESTIMATED in outcome.stderr
    assert "more than one way" in outcome.stderr
    project.refused(4, "featurize", "checkpoints=unclear.pt", "gradients.moments=checkpoint", says=("more than one way",))


def test_sgd_by_its_state_is_not_scaled(project: Project) -> None:
    """Even if the trainer of the config is another one; and nothing is asked."""
    write(project, a=trained(3, optim.SGD, momentum=0.9))
    outcome = project.done("featurize", "trainer._target_=trak_cli.plugins.AdamWTrainer")
    assert "SGD" in outcome.stderr
    assert "optimizer" not in fingerprints(project)[0]
    assert "gradients.optimizer" not in project.done("doctor").stdout


def test_an_unknown_optimizer_is_named(project: Project) -> None:
    write(project, a=trained(3, optim.Rprop))
    outcome = project.done("featurize")
    assert "unknown optimizer" in outcome.stderr
    assert "gradients.optimizer=adam" in outcome.stderr
    assert "optimizer" not in fingerprints(project)[0]


def test_checkpoints_of_different_optimizers_are_refused_until_the_config_says_which(project: Project) -> None:
    write(project, a=trained(3), b=trained(5, optim.SGD))
    project.refused(2, "featurize", says=("SGD", "Adam or AdamW", "gradients.optimizer=sgd"))
    project.done("featurize", "gradients.optimizer=sgd")


QUESTION = "if Adam or AdamW trained"


def test_checkpoints_that_do_not_tell_make_featurize_and_doctor_ask_once(project: Project) -> None:
    for stage in ("featurize", "doctor"):
        outcome = project.done(stage)
        assert (outcome.stdout + outcome.stderr).count(QUESTION) == 1
        assert "gradients.optimizer=adam" in outcome.stdout + outcome.stderr


@pytest.mark.parametrize("said", ["gradients.optimizer=sgd", ADAM, "trainer=adamw"])
def test_nothing_is_asked_where_the_config_says_it(project: Project, said: str) -> None:
    for stage in ("featurize", "doctor"):
        outcome = project.done(stage, said)
        assert QUESTION not in outcome.stdout + outcome.stderr


def test_nothing_is_asked_of_checkpoints_that_trak_trained(project: Project) -> None:
    """Their trainer is that of the config."""
    project.done("train", "train.count=1", "trainer.epochs=1")
    outcome = project.done("featurize", "checkpoints=runs/tiny/checkpoints/*")
    assert QUESTION not in outcome.stderr


def test_doctor_says_what_is_known(project: Project) -> None:
    write(project, a=trained(3))
    assert "own second moments" in " ".join(project.done("doctor").stdout.split())


@pytest.mark.parametrize("moments", ["checkpoint", "samples"])
def test_moments_of_gradients_that_are_not_scaled_are_refused(project: Project, moments: str) -> None:
    unscaled = f"gradients.moments={moments}"
    project.refused(2, "featurize", unscaled, "gradients.optimizer=sgd", says=("gradients.moments",))
    project.refused(2, "featurize", unscaled, "gradients.engine=representation", says=("gradients.moments",))
