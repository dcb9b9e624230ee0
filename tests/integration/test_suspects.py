"""``trak suspects``: what it computes, against the scores of the training set on itself, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_project import read_store
from tiny_project import ROWS, TARGETS, Project

from trak_cli.config.load import load
from trak_cli.results.suspicion.ranking import Ranking, rank
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import Silent

CONFIG, STORE = 2, 3

#: The training set as a target split.
TWIN = ("dataset.targets.twin={_target_: tiny_plugin.Data, rows: 60, seed: 1}",)

ESTIMATORS = {"early_training": ("estimator=early_training",), "cosine": ("estimator=cosine",)}


def ranking(project: Project, *overrides: str, split: str | None = None) -> Ranking:
    with project.monkeypatch.context() as context:
        context.chdir(project.folder)
        return rank(load("suspects", None, Path("."), list(overrides)), Silent(), split)


@pytest.fixture
def twin(featurized: Project) -> Project:
    featurized.done("featurize", *TWIN)
    return featurized


def test_self_influence_is_the_diagonal_of_the_scores_of_the_training_set(twin: Project) -> None:
    for name, estimator in ESTIMATORS.items():
        twin.done("finalize", *estimator)
        twin.done("score", *estimator, "score.splits=[twin]")
        diagonal = np.diagonal(read_scores(Layout(twin.store).scores(name, "twin")))
        found = ranking(twin, *estimator).values["self_influence"]
        assert found == pytest.approx(diagonal, rel=2e-5, abs=1e-6 * float(np.abs(diagonal).max())), name


def test_loss_margin_and_harm_are_what_the_store_holds(scored: Project) -> None:
    found = ranking(scored)
    assert list(found.values) == ["left_out", "loss", "margin", "self_influence", "harm", "harm_count"]
    training = [rows for (_, split), rows in read_store(scored.store).items() if split == "train"]
    assert found.values["loss"] == pytest.approx(np.mean([rows.out_to_loss for rows in training], axis=0), rel=1e-5)
    assert found.values["margin"] == pytest.approx(np.mean([rows.outputs for rows in training], axis=0), rel=1e-5)
    scores = read_scores(Layout(scored.store).scores("early_training", "test"))
    assert found.values["harm"] == pytest.approx(-np.where(scores < 0, scores, 0).sum(0) / TARGETS, rel=1e-5)
    lowest = np.argsort(scores, axis=1)[:, :20]
    expected = [sum(i in lowest[j] and scores[j, i] < 0 for j in range(TARGETS)) for i in range(ROWS)]
    assert found.values["harm_count"].tolist() == expected


def test_stored_extremes_give_the_harm_that_they_hold(finalized: Project) -> None:
    finalized.done("score", "score.top_k=60", "estimator.name=early_training")
    everything = ranking(finalized).values
    finalized.done("score", "score.overwrite=true")
    dense = ranking(finalized).values
    assert everything["harm"] == pytest.approx(dense["harm"], rel=1e-5)
    assert (everything["harm_count"] == dense["harm_count"]).all()


def test_the_list_is_printed_and_written_with_labels_and_descriptions(scored: Project) -> None:
    summary = json.loads(scored.done("suspects", "-k", "7", "--out", "found.csv", "--json").stdout)
    assert {name: summary[name] for name in ("by", "rows", "split")} == {"by": "left_out", "rows": ROWS, "split": "test"}
    values = [one["values"]["left_out"] for one in summary["suspects"]]
    assert len(values) == 7
    assert values == sorted(values, reverse=True)
    with (scored.folder / "found.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == [one["row"] for one in summary["suspects"]]
    assert [row["label"] for row in rows] == [str(one["label"]) for one in summary["suspects"]]
    assert [row["predicted"] for row in rows] == [str(one["predicted"]["label"]) for one in summary["suspects"]]
    for one in summary["suspects"]:
        assert (one["proposed"] is None) or (one["values"]["left_out"] > 1 and one["proposed"] != one["label"])
        assert len(set(one["neighbours"]) - {one["row"]}) == 20
    assert "harm on test" in scored.done("suspects", "-k", "3").stdout


def test_the_margin_is_suspicious_where_it_is_small(scored: Project) -> None:
    order = ranking(scored).order("margin")
    assert (np.diff(ranking(scored).values["margin"][order]) >= 0).all()


def test_a_store_without_scores_has_no_harm_and_says_so(finalized: Project) -> None:
    assert "trak score" in finalized.done("suspects", "-k", "2").stdout
    finalized.refused(CONFIG, "suspects", "--by", "harm", says=("which this store cannot give", "run trak score first"))
    finalized.refused(STORE, "suspects", "--split", "test", says=("trak score",))


def test_a_store_without_gram_matrices_is_refused_with_the_command_that_computes_them(featurized: Project) -> None:
    featurized.refused(STORE, "suspects", says=("run trak finalize",))


def test_a_store_of_scores_alone_gives_the_harm(scored: Project) -> None:
    whole = ranking(scored)
    for folder in ("features", "finalized"):
        shutil.rmtree(scored.store / folder)
    found = ranking(scored)
    assert list(found.values) == ["harm", "harm_count"]
    assert (found.values["harm"] == whole.values["harm"]).all()
    assert "no features of the training set" in scored.done("suspects", "-k", "3").stdout
    scored.refused(STORE, "suspects", "estimator=trak", says=("trak score",))


def test_wrong_options_are_refused_before_any_work(scored: Project) -> None:
    scored.refused(CONFIG, "suspects", "--by", "size", says=("left_out, loss, margin",))
    scored.refused(CONFIG, "suspects", "--out", "found.xlsx", says=("--out found.csv",))


def test_scores_of_an_older_training_set_are_refused(scored: Project) -> None:
    more = ("dataset.train.rows=64",)
    scored.done("featurize", *more)
    scored.done("finalize", *more)
    scored.refused(STORE, "suspects", *more, says=("score.overwrite=true",))


def test_an_unknown_criterion_is_refused_with_the_nearest_one(scored: Project) -> None:
    for given, meant in (("los", "loss"), ("self", "self_influence"), ("harm_cuont", "harm_count")):
        scored.refused(CONFIG, "suspects", "--by", given, says=(f"did you mean --by {meant}?", "left_out, loss, margin"))
    scored.refused(CONFIG, "select", "--group", "mena", "-k", "3", says=("did you mean --group mean?",))
    scored.refused(CONFIG, "ask", "--row", "1,2", "--split", "tets", says=("did you mean --split test?",))
