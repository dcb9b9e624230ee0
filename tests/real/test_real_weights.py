"""Weights that packages ship, after a brief training: features equal those of the loop, and scores find related samples."""

from __future__ import annotations

import json

import numpy as np
from real_project import RealProject, differences, milliseconds

from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

TOP = 8

Figures = dict[tuple[str, str], float]


def test_features_equal_those_of_the_loop(project: RealProject, figures: Figures) -> None:
    loop = project.featurized("loop", "gradients.engine=loop")
    for engine in ("hooks", "vmap"):
        found = project.featurized(engine, f"gradients.engine={engine}")
        _check(figures, project, f"{engine} against loop", differences(found, loop))
        for split, rows in loop.items():
            np.testing.assert_allclose(found[split].outputs, rows.outputs, rtol=1e-3, atol=1e-4)


def test_features_do_not_depend_on_the_batch(project: RealProject, figures: Figures) -> None:
    """Samples of a batch of 16 are padded to its longest text, those of a batch of one are not padded."""
    alone = project.featurized("alone", "gradients.engine=hooks", "gradients.microbatch=1")
    together = project.featurized("together", "gradients.engine=hooks", "gradients.microbatch=16")
    _check(figures, project, "batch of 16 against 1", differences(together, alone))


def test_the_shipped_file_is_a_checkpoint(project: RealProject) -> None:
    if project.shipped is None:
        return  # the training began with a new last layer
    shipped = project.featurized("shipped", "gradients.engine=hooks", "gradients.optimizer=sgd", checkpoint=project.shipped)
    trained = project.featurized("hooks", "gradients.engine=hooks")  # stored by the test of the engines
    assert shipped["train"].outputs.mean() < trained["train"].outputs.mean()
    assert all(np.isfinite(rows.features).all() for rows in shipped.values())


def test_the_best_samples_of_a_target_are_of_its_kind(project: RealProject, figures: Figures) -> None:
    log = project.trak("featurize")
    for engine, time in milliseconds(log).items():
        figures[project.name, f"{engine} ms"] = time
    for stage in ("finalize", "score"):
        project.trak(stage)
    scores = read_scores(Layout(project.store).scores("early_training", "test"))
    train, test = _kinds(project, scores.shape[1]), _kinds(project, scores.shape[0], "test")
    best = np.argsort(-scores, axis=1)[:, :TOP]
    share = float((train[best] == test[:, None]).mean())
    chance = float((train[None, :] == test[:, None]).mean())
    figures[project.name, f"same kind among the best {TOP}"], figures[project.name, "same kind by chance"] = share, chance
    assert share > 1.5 * chance


def _check(figures: Figures, project: RealProject, name: str, found: np.ndarray) -> None:
    """Rounding can move a sample over the kink of a ReLU or change the winner of a maximum: few rows may differ by more."""
    figures[project.name, name], figures[project.name, f"{name}, worst"] = float(np.median(found)), float(found.max())
    assert np.median(found) < 1e-4, name
    assert (found > 1e-3).mean() < 0.05, name
    assert found.max() < 0.05, name


def _kinds(project: RealProject, rows: int, split: str = "train") -> np.ndarray:
    """What tells related samples: the pitch of a tone, the speaker of a voice, the kind of a reaction."""
    if project.name == "reactions":
        lines = (project.folder / f"{split}.jsonl").read_text().splitlines()
        return np.array([json.loads(line)["kind"] for line in lines])
    return np.arange(rows) % {"tones": 12, "voices": 8}[project.name]
