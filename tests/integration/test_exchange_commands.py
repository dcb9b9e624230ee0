"""`trak export`, `trak import` and `trak evaluate` as they are typed, on a store of this program."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_project import DIM, ROWS, TARGETS, Project

from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores


def test_exported_scores_come_back_under_another_name_and_have_the_same_lds(scored: Project) -> None:
    scored.done("export", "--out", "scores.pt")
    assert "lds.estimators=[theirs]" in scored.done("import", "--file", "scores.pt", "--name", "theirs").stdout
    layout = Layout(scored.store)
    (own,) = set(layout.estimators()) - {"theirs"}
    np.testing.assert_array_equal(read_scores(layout.scores("theirs", "test")), read_scores(layout.scores(own, "test")))
    assert scored.done("top", "estimator.name=theirs", "--target", "3").stdout
    masks = np.random.default_rng(0).random((8, ROWS)) < 0.5
    np.savez(scored.folder / "truth.npz", masks=masks, outputs=np.random.default_rng(1).random((8, TARGETS)))
    report = scored.done("eval-lds", "lds.estimators=[theirs]", "lds.ground_truth=truth.npz", "--json").stdout
    first, second = json.loads(report)["score_sets"]
    assert first["per_target"] == second["per_target"]
    assert second["checkpoints"] is None


@pytest.mark.parametrize("suffix", ["npz", "parquet", "zarr"])
def test_features_are_exported_for_one_checkpoint(scored: Project, suffix: str) -> None:
    out = f"features.{suffix}"
    scored.refused(2, "export", "--features", "--out", out, says=("--checkpoint", "2 checkpoints"))
    summary = json.loads(scored.done("export", "--features", "--checkpoint", "a", "--out", out, "--json").stdout)
    assert summary["shape"] == [ROWS, DIM]
    if suffix == "npz":
        with np.load(scored.folder / out) as arrays:
            assert arrays["features"].shape == (ROWS, DIM)
            assert arrays["sample_ids"].all()


def test_class_detection_reads_the_labels_of_the_samples(scored: Project) -> None:
    summary = json.loads(scored.done("evaluate", "--classes", "--top", str(ROWS), "--json").stdout)
    (metric,) = summary["metrics"]
    assert (metric["name"], metric["count"]) == (f"class detection (top {ROWS})", TARGETS)
    assert 0.2 < metric["value"]["estimate"] < 0.5, "among all rows, a third is of the class"


def test_mislabel_detection_reports_every_criterion_of_suspects(scored: Project) -> None:
    (scored.folder / "flipped.txt").write_text("3\n17\n")
    shown = scored.done("evaluate", "--flipped", "flipped.txt").stdout
    for criterion in ("loss", "self_influence", "left_out", "harm"):
        assert f"mislabel detection AUC: {criterion}" in shown
