"""`trak evaluate`: what each option reads, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchange_store import Store, store_with

from trak_cli.config.load import load
from trak_cli.errors import ConfigError, InputError, TrakError
from trak_cli.results.evaluate import evaluate
from trak_cli.results.evaluation.contract import Inputs, Metric
from trak_cli.types import Silent

TARGETS, ROWS = 6, 20
SCORES = np.random.default_rng(1).standard_normal((TARGETS, ROWS)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_with(tmp_path / "store", SCORES)


def evaluated(store: Store, *overrides: str, **inputs: Any) -> dict[str, Metric]:
    """The metrics of the estimator ``mine`` by name."""
    loaded = load("evaluate", None, None, [f"store={store.root}", "estimator.name=mine", "lds.bootstrap=50", *overrides])
    summary = evaluate(loaded, Silent(), inputs=Inputs(**inputs))
    return {metric.name: metric for metric in summary.metrics}


@pytest.mark.parametrize("form", ["rows.txt", "rows.json", "rows.npy", "flags.json", "flags.npy"])
def test_flipped_rows_are_found_by_harm(store: Store, tmp_path: Path, form: str) -> None:
    worst = np.argsort(np.minimum(SCORES, 0).sum(axis=0))[:3]
    flags = np.isin(np.arange(ROWS), worst)
    path = tmp_path / form
    if form.endswith(".txt"):
        path.write_text("\n".join(map(str, worst.tolist())))
    elif form.endswith(".json"):
        path.write_text(json.dumps((flags.astype(int) if "flags" in form else worst).tolist()))
    else:
        np.save(path, flags if "flags" in form else worst)
    metrics = evaluated(store, flipped=path)
    assert metrics["mislabel detection AUC: harm"].value.estimate == 1
    area = metrics["mislabel inspection area: harm"]
    assert area.value.estimate == pytest.approx(area.perfect)


@pytest.mark.parametrize("form", ["planted.json", "planted.csv", "lists.json"])
def test_planted_sources_that_have_the_highest_scores_are_perfect(store: Store, tmp_path: Path, form: str) -> None:
    best = np.argsort(-SCORES, axis=1)[:, :2].tolist()
    path = tmp_path / form
    if form == "planted.csv":
        path.write_text("target,row\n" + "\n".join(f"{target},{row}" for target in (1, 4) for row in best[target]))
    else:
        path.write_text(json.dumps(best if form == "lists.json" else {"1": best[1], "4": best[4]}))
    metrics = evaluated(store, planted=path, k=1)
    count = TARGETS if form == "lists.json" else 2
    assert [(name, one.value.estimate, one.count) for name, one in metrics.items()] == [
        ("recall@1", 0.5, count),
        ("hit@1", 1.0, count),
        ("MRR", 1.0, count),
    ]


def test_subclasses_and_shortcuts_are_evaluated_on_the_scored_targets(store: Store, tmp_path: Path) -> None:
    top = SCORES.argmax(axis=1)
    np.savez(tmp_path / "classes.npz", train=np.arange(ROWS), targets=top)
    (tmp_path / "shortcut.txt").write_text(f"{top[2]}\n")
    (tmp_path / "falling.txt").write_text("2\n")
    files = {"subclasses": tmp_path / "classes.npz", "shortcut": tmp_path / "shortcut.txt"}
    metrics = evaluated(store, **files, shortcut_targets=tmp_path / "falling.txt", top=4)
    assert metrics["subclass detection (top 4)"].value.estimate == 0.25
    assert metrics["shortcut detection (AUPRC)"].per_target == {2: 1.0}


def test_scores_of_a_random_model_are_compared_target_by_target(store: Store, tmp_path: Path) -> None:
    other = store_with(tmp_path / "random", -SCORES)
    metric = evaluated(store, randomized=other.root)["model randomization (rank correlation)"]
    assert metric.value.estimate == pytest.approx(-1)
    assert list(metric.per_target) == list(range(TARGETS))
    smaller = store_with(tmp_path / "smaller", SCORES[:, :5])
    with pytest.raises(InputError, match="5 training rows"):
        evaluated(store, randomized=smaller.root)


def test_models_without_one_sample_are_correlated_with_its_score(store: Store, tmp_path: Path) -> None:
    left_out = [3, 0, 19, 7]
    masks = np.array([[row != one for row in range(ROWS)] for one in left_out])
    np.savez(tmp_path / "loo.npz", masks=masks, outputs=5 - SCORES[:, left_out].T)
    metric = evaluated(store, leave_one_out=tmp_path / "loo.npz")["leave-one-out correlation"]
    assert metric.value.estimate == pytest.approx(1)
    np.savez(tmp_path / "two.npz", masks=masks & masks[[1, 2, 3, 0]], outputs=np.zeros((4, TARGETS)))
    with pytest.raises(InputError, match="exactly one"):
        evaluated(store, leave_one_out=tmp_path / "two.npz")


def test_the_smallest_flips_are_read_in_any_order_of_counts(store: Store, tmp_path: Path) -> None:
    outputs = np.array([[-1] * TARGETS, [1, 1, -1, -1, -1, -1]])  # without 20, and without 10
    np.savez(tmp_path / "flips.npz", counts=[20, 10], outputs=outputs)
    metrics = evaluated(store, flips=tmp_path / "flips.npz")
    assert metrics["brittleness (median smallest removal)"].value.estimate == 10
    assert metrics["flipped predictions without the 10 highest"].value.estimate == pytest.approx(4 / 6)
    assert metrics["flipped predictions without the 20 highest"].value.estimate == 1


REFUSED: dict[str, tuple[dict[str, Any], type[TrakError], str]] = {
    "nothing": ({}, ConfigError, "--flipped FILE"),
    "removal": ({"removal": True}, ConfigError, "retrain.same_seed=true"),
    "targets": ({"shortcut_targets": "1\n"}, ConfigError, "--shortcut"),
    "row": ({"flipped": "20\n"}, InputError, "training rows 0 to 19"),
    "words": ({"flipped": "all\n"}, InputError, "no numbers"),
    "empty": ({"flipped": ""}, InputError, "row numbers"),
    "pairs": ({"planted": "target,row\n6,1\n"}, InputError, "rows 0 to 5 of the split"),
    "columns": ({"planted": "a,b\n1,2\n"}, InputError, "columns target and row"),
    "flips": ({"flips": "x"}, InputError, "npz"),
    "store": ({"randomized": "x"}, InputError, "no folder"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_with_what_is_expected(store: Store, tmp_path: Path, kind: str) -> None:
    inputs, error, says = REFUSED[kind]
    given: dict[str, Any] = {}
    for name, content in inputs.items():
        given[name] = content
        if isinstance(content, str):
            given[name] = tmp_path / f"{name}{'.csv' if name == 'planted' else '.txt'}"
            given[name].write_text(content)
    with pytest.raises(error, match=says):
        evaluated(store, **given)


def test_scores_of_a_group_have_no_classes(store: Store, tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", SCORES.mean(axis=0, keepdims=True))
    store.imported(tmp_path / "mean.npy", group=True, overwrite=True)
    with pytest.raises(ConfigError, match="mean over 6 targets"):
        evaluated(store, classes=True)
