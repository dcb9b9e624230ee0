"""``trak select``: which samples it chooses, what it writes, and which stores it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_project import ROWS, TARGETS, Project

from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

CONFIG, STORE = 2, 3


def chosen(project: Project, *arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(project.done("select", "--json", *arguments).stdout)
    return found


def scores_of(project: Project, split: str = "test") -> np.ndarray:
    return read_scores(Layout(project.store).scores("early_training", split)).astype(np.float64)


def test_the_highest_mean_over_all_targets_is_chosen_and_compared_with_a_random_choice(scored: Project) -> None:
    found, mean = chosen(scored, "--share", "0.2"), scores_of(scored).mean(0)
    assert found["rows"] == np.argsort(-mean, kind="stable")[: ROWS // 5].tolist()
    assert found["scores"] == pytest.approx(np.sort(mean)[::-1][: ROWS // 5], rel=1e-5)
    assert found["expected_overlap"] == pytest.approx(12 * 12 / ROWS)
    assert found["mean_of_all"] == pytest.approx(mean.mean(), rel=1e-4)
    assert found["targets"] == {"test": TARGETS}


def test_chosen_targets_their_maximum_and_the_most_harmful_samples(scored: Project) -> None:
    some = scores_of(scored)[[2, 7]]
    found = chosen(scored, "-k", "5", "--target", "2", "--target", "7", "--group", "max", "--bottom")
    assert found["rows"] == np.argsort(some.min(0), kind="stable")[:5].tolist()
    assert "most harmful for 2 targets of test" in scored.done("select", "-k", "2", "-t", "2", "-t", "7", "--bottom").stdout


def test_with_several_splits_a_sample_counts_by_its_best_one(scored: Project) -> None:
    other = "dataset.targets.other={_target_: tiny_plugin.Data, rows: 5, seed: 3}"
    scored.done("featurize", other)
    scored.done("score", other)
    best = np.maximum(scores_of(scored).mean(0), scores_of(scored, "other").mean(0))
    found = chosen(scored, other, "--split", "test", "--split", "other", "-k", "9")
    assert found["rows"] == np.argsort(-best, kind="stable")[:9].tolist()
    scored.refused(CONFIG, "select", other, "-s", "test", "-s", "other", "-t", "1", says=("leave out --target",))


def test_balanced_samples_are_written_with_their_labels(scored: Project) -> None:
    scored.done("select", "-k", "9", "--balance", "--out", "chosen.jsonl")
    records = [json.loads(line) for line in (scored.folder / "chosen.jsonl").read_text().splitlines()]
    assert sorted(record["label"] for record in records) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [record["score"] for record in records] == sorted((record["score"] for record in records), reverse=True)
    scored.done("select", "-k", "3", "--out", "chosen.txt")
    assert (scored.folder / "chosen.txt").read_text().split() == [str(row) for row in chosen(scored, "-k", "3")["rows"]]


def test_a_folder_for_the_package_datasets_is_written_and_not_overwritten(scored: Project) -> None:
    datasets = pytest.importorskip("datasets")
    scored.done("select", "-k", "4", "--out", "chosen")
    table = datasets.load_from_disk(str(scored.folder / "chosen"))
    assert table["row"][:] == chosen(scored, "-k", "4")["rows"]
    assert set(table.column_names) == {"row", "score", "label"}
    scored.refused(CONFIG, "select", "-k", "4", "--out", "chosen", says=("which exists",))


def test_stored_extremes_give_a_maximum_but_no_mean(finalized: Project) -> None:
    finalized.done("score")
    whole = chosen(finalized, "-k", "4", "--group", "max")["rows"]
    finalized.done("score", "score.top_k=4", "estimator.name=ends")
    ends = ("estimator.name=ends", "-k", "4")
    assert chosen(finalized, *ends, "--group", "max")["rows"] == whole
    assert chosen(finalized, *ends, "--target", "3")["rows"] == chosen(finalized, "-k", "4", "--target", "3")["rows"]
    finalized.refused(STORE, "select", *ends, says=("score.top_k=null",))
    finalized.refused(CONFIG, "select", *ends[:1], "-k", "5", "--group", "max", says=("give -k 4",))


def test_wrong_options_are_refused_before_any_work(scored: Project) -> None:
    scored.refused(CONFIG, "select", "--group", "median", "--share", "0", says=("mean, sum, max", "--share 0.05"))
    scored.refused(CONFIG, "select", "-k", "61", says=("at most 60",))
    scored.refused(CONFIG, "select", "--out", "chosen.csv", says=("--out chosen.jsonl",))
    scored.refused(STORE, "select", "estimator=trak", says=("trak score",))
