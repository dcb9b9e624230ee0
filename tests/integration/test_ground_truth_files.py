"""Ground truth files whose axes are in another order, and the noise ceiling that a file can or cannot tell."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from fresh_process import fresh_python
from safetensors.numpy import save_file
from tiny_project import ROWS, TARGETS, Project

from trak_cli.attribution.lds.lds import lds
from trak_cli.store.virtual import read_scores

SUBSETS, MODELS = 20, 3
INPUT, NONE = 4, "lds.bootstrap=0"


def make_truth(subsets: int = SUBSETS, models: int = MODELS) -> dict[str, np.ndarray]:
    """Masks (subsets, rows), and outputs (subsets, models, targets) of which two thirds is the same for all models."""
    generator = np.random.default_rng(0)
    masks = np.stack([generator.permutation(ROWS) < ROWS // 2 for _ in range(subsets)])
    common = generator.normal(size=(subsets, 1, TARGETS))
    return {"masks": masks, "outputs": common + 0.5 * generator.normal(size=(subsets, models, TARGETS))}


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a file of the kind that its suffix says."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.update(arrays)
    elif path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)


def evaluate(project: Project, file: str) -> dict:
    return json.loads(project.done("eval-lds", f"lds.ground_truth={file}", NONE, "--json").stdout)


@pytest.mark.parametrize(
    ("order", "axes"),
    [
        ((1, 0, 2), "(models, subsets, targets)"),
        ((0, 2, 1), "(subsets, targets, models)"),
        ((1, 2, 0), "(models, targets, subsets)"),
        ((2, 0, 1), "(targets, subsets, models)"),
    ],
)
def test_axes_in_any_order_that_the_sizes_tell_give_the_same_evaluation(
    scored: Project, order: tuple[int, ...], axes: str
) -> None:
    truth = make_truth()
    write(scored.folder / "truth.npz", truth)
    write(scored.folder / "swapped.npz", truth | {"outputs": truth["outputs"].transpose(order)})
    expected = evaluate(scored, "truth.npz")
    outcome = scored.done("eval-lds", "lds.ground_truth=swapped.npz", NONE, "--json")
    found = json.loads(outcome.stdout)
    assert f"its outputs are read as {axes}" in outcome.stderr
    assert found["ceiling"] == pytest.approx(expected["ceiling"])
    assert found["score_sets"][0]["lds"] == pytest.approx(expected["score_sets"][0]["lds"])


def test_the_documented_order_is_taken_if_sizes_fit_it(scored: Project) -> None:
    write(scored.folder / "truth.npz", make_truth(models=SUBSETS))
    assert evaluate(scored, "truth.npz")["models"] == SUBSETS


def paste(project: Project, refusal: str) -> str:
    """Run the first command of a remedy, and return the file that it says to use. A shell runs it, unless it imports torch."""
    line = next(line for line in refusal.splitlines() if "python -c" in line)
    command = line[line.index("python -c") :].partition("; or give")[0]
    if "torch" in command:
        done = fresh_python(project.folder, *shlex.split(command)[1:])
        assert done.returncode == 0, done.stderr
    else:
        folders = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        subprocess.run(command, shell=True, check=True, cwd=project.folder, env=os.environ | {"PATH": folders})
    return line.partition("lds.ground_truth=")[2].partition(",")[0]


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".safetensors", ".pt"])
@pytest.mark.parametrize("name", ["masks", "outputs"])
def test_the_command_for_a_transposed_array_makes_a_file_that_works(scored: Project, name: str, suffix: str) -> None:
    truth = make_truth()
    truth["outputs"] = truth["outputs"].mean(axis=1)
    write(scored.folder / f"it's{suffix}", truth | {name: truth[name].T})
    refusal = scored.refused(INPUT, "eval-lds", f'lds.ground_truth="it\'s{suffix}"', says=(name, "transposed copy"))
    copy = paste(scored, refusal)
    with np.load(scored.folder / copy) as arrays:
        np.testing.assert_array_equal(arrays["outputs"], truth["outputs"])
        np.testing.assert_array_equal(arrays["masks"], truth["masks"])
    write(scored.folder / "truth.npz", truth)
    assert evaluate(scored, f'"{copy}"')["score_sets"] == evaluate(scored, "truth.npz")["score_sets"]


def test_if_sizes_do_not_tell_the_axes_apart_there_is_a_command_for_each_order(scored: Project) -> None:
    truth = make_truth(subsets=TARGETS)
    write(scored.folder / "truth.npz", truth | {"outputs": truth["outputs"].transpose(1, 0, 2)})
    refusal = scored.refused(INPUT, "eval-lds", "lds.ground_truth=truth.npz", says=("outputs", "transpose(1, 0, 2)"))
    assert "transpose(2, 0, 1)" in refusal
    with np.load(scored.folder / paste(scored, refusal)) as arrays:
        np.testing.assert_array_equal(arrays["outputs"], truth["outputs"])


def reason(project: Project, file: str) -> str:
    """The line that says why there is no noise ceiling."""
    shown = project.done("eval-lds", f"lds.ground_truth={file}", NONE).stdout
    (line,) = (line for line in shown.splitlines() if line.startswith("no noise ceiling"))
    assert "perfect predictor would reach" not in shown
    assert line in json.loads((project.store / "lds" / "test.json").read_text())["no_ceiling"]
    return line


def test_why_there_is_no_noise_ceiling_is_said_with_what_to_do(scored: Project) -> None:
    truth = make_truth()
    write(scored.folder / "mean.npz", truth | {"outputs": truth["outputs"].mean(axis=1)})
    assert "one output per subset and target; store outputs as (subsets, models, targets)" in reason(scored, "mean.npz")
    write(scored.folder / "one.npz", truth | {"outputs": truth["outputs"][:, :1]})
    assert "one model per subset; store two or more" in reason(scored, "one.npz")
    constant = truth["outputs"].copy()
    constant[:] = np.arange(MODELS)[:, None]
    constant[0, 0] += 1e-3 * np.arange(TARGETS)
    constant[:, 1:] = constant[:1, 1:]
    write(scored.folder / "constant.npz", truth | {"outputs": constant})
    assert "no output changes with the subset" in reason(scored, "constant.npz")


def test_the_remedy_for_one_retrained_model_per_subset_is_the_command(scored: Project) -> None:
    trainer = ("trainer=sgd", "trainer.epochs=1", "trainer.batch_size=20", "retrain.subsets=4")
    scored.done("retrain", "task=classification", *trainer)
    line = next(line for line in scored.done("eval-lds", NONE).stdout.splitlines() if line.startswith("no noise ceiling"))
    assert "run trak retrain retrain.models_per_subset=2" in line
    retrained = scored.store / "lds" / "retrained"
    assert str(retrained.relative_to(scored.folder)) in line
    retrained.rename(scored.folder / "away")
    scored.done("retrain", "task=classification", *trainer, "retrain.models_per_subset=2")
    assert "perfect predictor" in scored.done("eval-lds", NONE).stdout


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".safetensors", ".pt"])
def test_weights_of_zero_and_one_are_the_same_ground_truth_as_masks(scored: Project, suffix: str) -> None:
    truth = make_truth()
    write(scored.folder / f"masks{suffix}", truth)
    write(scored.folder / f"weights{suffix}", {"weights": truth["masks"].astype(np.float32), "outputs": truth["outputs"]})
    both = [evaluate(scored, f"{name}{suffix}") for name in ("masks", "weights")]
    for found in both:
        del found["ground_truth"]
    assert both[0] == both[1]


def test_real_weights_weight_the_scores(scored: Project) -> None:
    weights = np.random.default_rng(4).uniform(0.5, 2.0, (SUBSETS, ROWS))
    truth = make_truth()["outputs"]
    write(scored.folder / "truth.npz", {"weights": weights, "outputs": truth})
    (path,) = (scored.store / "scores").rglob("test.h5")
    by_hand = lds(read_scores(path), weights.astype(np.float32), truth.mean(axis=1))
    found = evaluate(scored, "truth.npz")
    np.testing.assert_allclose(found["score_sets"][0]["per_target"], by_hand.per_target)
    scored.done("eval-lds", "lds.ground_truth=truth.npz", NONE, "lds.baselines=[datamodel]")
    scored.done("tune", "lds.ground_truth=truth.npz", NONE, "tune.grid={soft_threshold: [0.5], shrinkage: [0.1]}")
    says = ("lds.baselines", "empirical_influence", "datamodel takes weights")
    asked = ("lds.ground_truth=truth.npz", "lds.baselines=[empirical_influence]")
    scored.refused(INPUT, "eval-lds", *asked, says=says)


def test_weights_that_cannot_be_used_are_refused(scored: Project) -> None:
    truth = make_truth()
    weights = truth["masks"].astype(np.float64)
    both = truth | {"weights": weights}
    for arrays, says in (
        (both, ("both of masks and weights",)),
        ({"outputs": truth["outputs"]}, ("neither masks nor weights",)),
        ({"weights": np.ones_like(weights) / 2, "outputs": truth["outputs"]}, ("weights", "the same weights 20 times")),
        ({"weights": np.where(weights == 1, np.nan, 1.0), "outputs": truth["outputs"]}, ("weights", "NaN or infinite")),
        ({"weights": weights[:, :-1], "outputs": truth["outputs"]}, ("weights", f"{ROWS} training samples")),
        ({"weights": weights.astype(complex), "outputs": truth["outputs"]}, ("weights", "real numbers")),
    ):
        write(scored.folder / "truth.npz", arrays)
        scored.refused(INPUT, "eval-lds", "lds.ground_truth=truth.npz", says=says)


def test_the_command_for_transposed_weights_makes_a_file_that_works(scored: Project) -> None:
    weights = np.random.default_rng(4).uniform(0.5, 2.0, (SUBSETS, ROWS))
    truth = make_truth()
    write(scored.folder / "truth.npz", {"weights": weights.T, "outputs": truth["outputs"].mean(axis=1)})
    refusal = scored.refused(INPUT, "eval-lds", "lds.ground_truth=truth.npz", says=("weights", "transposed copy"))
    assert evaluate(scored, paste(scored, refusal))["subsets"] == SUBSETS
