"""Scores of chosen targets, or of the mean over a group of them: how they are stored, shown and listed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_project import ROWS, TARGETS, Project

from trak_cli.attribution.lds.lds import lds
from trak_cli.errors import StoreError
from trak_cli.stages.scoring.score_notes import write_notes
from trak_cli.stages.scoring.score_store import ScoreFiles
from trak_cli.store.chosen_targets import ChosenTargets
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import open_scores, read_scores
from trak_cli.types import Json, Rows, shards_of

USAGE, STORE, INPUT = 2, 3, 4
CHOSEN = ChosenTargets((7, 2, 11))
GROUP = ChosenTargets((7, 2, 11), group=True)
NAMED = "estimator.name=mine"


def fingerprint(chosen: ChosenTargets) -> Json:
    sizes = {"rows": ROWS, "targets": TARGETS, "split": "test", "top_k": None}
    return {"kind": "scores", "estimator": {"mine": 1}, "checkpoints": ["one"], **sizes, **chosen.entry()}


def values(chosen: ChosenTargets) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(chosen.count, ROWS)).astype(np.float32)


def write(store: Path, chosen: ChosenTargets, top_k: int | None = None, shards: int = 2, block: int = 2) -> np.ndarray:
    """Scores of estimator "mine" on chosen targets, in several files; returns them."""
    scores = values(chosen)
    rows = list(shards_of(ROWS, -(-ROWS // shards)))
    blocks = list(shards_of(chosen.count, block))
    files = ScoreFiles(Layout(store), "mine", "test", top_k, blocks, rows, fingerprint(chosen) | {"top_k": top_k}, False)
    for unit in files.units():
        files.write(unit, [(unit.rows, scores[unit.targets.start : unit.targets.stop, unit.rows.start : unit.rows.stop])])
    assert files.complete()
    return scores


def shown(project: Project, *options: str) -> Json:
    document: Json = json.loads(project.done("top", NAMED, "--json", *options).stdout)
    return document


@pytest.mark.parametrize("chosen", [CHOSEN, GROUP, ChosenTargets((0,))], ids=str)
def test_a_score_file_says_which_targets_its_rows_are(tmp_path: Path, chosen: ChosenTargets) -> None:
    scores = write(tmp_path, chosen)
    whole = open_scores(Layout(tmp_path).scores("mine", "test"))
    assert whole.target_rows is not None
    assert (whole.target_rows.tolist(), whole.target_rows.dtype, whole.group) == (list(chosen.rows), np.int64, chosen.group)
    np.testing.assert_array_equal(read_scores(whole.path), scores)


def test_scores_of_every_row_name_no_targets(scored: Project) -> None:
    (path,) = (scored.store / "scores").rglob("test.h5")
    whole = open_scores(path)
    assert (whole.target_rows, whole.group) == (None, False)


@pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"shards": 1, "block": 3}])
def test_top_takes_and_shows_row_numbers_of_the_split(featurized: Project, options: dict[str, int]) -> None:
    scores = write(featurized.store, CHOSEN, **options)
    found = shown(featurized, "--target", "11", "--target", "7", "-k", "3")["targets"]
    assert [target["row"] for target in found] == [11, 7]
    for target, position in zip(found, (2, 0), strict=True):
        helpful = np.argsort(-scores[position])[:3]
        assert [one["row"] for one in target["helpful"]] == helpful.tolist()
        np.testing.assert_allclose([one["score"] for one in target["helpful"]], scores[position][helpful], rtol=1e-6)
    assert [target["row"] for target in shown(featurized, "-k", "1")["targets"]] == [7]


def test_top_refuses_a_target_without_scores_and_names_those_that_there_are(featurized: Project) -> None:
    write(featurized.store, CHOSEN)
    targets = ("--target", "3", "--target", "7", "--target", "5")
    featurized.refused(USAGE, "top", NAMED, *targets, says=("(2 problems)", "found:    3", "rows 7, 2, 11", "found:    5"))
    featurized.refused(USAGE, "top", NAMED, "--target", str(TARGETS), says=(f"0 to {TARGETS - 1}",))


@pytest.mark.parametrize("top_k", [None, 4])
def test_top_shows_the_scores_of_a_group(featurized: Project, top_k: int | None) -> None:
    scores = write(featurized.store, GROUP, top_k)
    document = shown(featurized, "-k", "2")
    assert document["group"] == [7, 2, 11]
    (target,) = document["targets"]
    assert target["row"] is None
    assert [one["row"] for one in target["harmful"]] == np.argsort(scores[0])[:2].tolist()
    assert "the mean over 3 targets of test" in featurized.done("top", NAMED, "-k", "2").stdout
    featurized.refused(USAGE, "top", NAMED, "--target", "7", says=("the mean of f over 3 targets", "leave out --target"))


def test_top_repeats_the_warnings_stored_with_scores(featurized: Project) -> None:
    write(featurized.store, CHOSEN)
    assert "warning" not in featurized.done("top", NAMED, "-k", "2").stdout
    write_notes(Layout(featurized.store), "mine", "test", ["do not trust them"], {"steps": 3})
    assert "warning: do not trust them" in featurized.done("top", NAMED, "-k", "2").stdout
    assert shown(featurized)["warnings"] == ["do not trust them"]


@pytest.mark.parametrize("options", [(), ("--verify",)])
@pytest.mark.parametrize("chosen", [CHOSEN, GROUP], ids=str)
def test_status_lists_chosen_targets(featurized: Project, chosen: ChosenTargets, options: tuple[str, ...]) -> None:
    write(featurized.store, chosen, shards=1)
    (found,) = json.loads(featurized.done("status", "--json", *options).stdout)["scores"]
    assert (found["complete"], found["targets"], found["group"]) == (True, [7, 2, 11], chosen.group)
    assert "rows 7, 2, 11" in featurized.done("status", *options).stdout


def test_scores_are_refused_where_others_are_stored(featurized: Project) -> None:
    write(featurized.store, CHOSEN)
    other = ScoreFiles(
        Layout(featurized.store), "mine", "test", None, [Rows(0, 1)], [Rows(0, ROWS)], fingerprint(GROUP), overwrite=False
    )
    with pytest.raises(StoreError, match=r"chosen\.group"):
        other.require_ours()


def test_a_fingerprint_with_another_number_of_targets_is_refused(tmp_path: Path) -> None:
    files = ScoreFiles(
        Layout(tmp_path), "mine", "test", None, [Rows(0, 2)], [Rows(0, ROWS)], fingerprint(CHOSEN), overwrite=False
    )
    files.write(files.units()[0], [(Rows(0, ROWS), np.zeros((2, ROWS), np.float32))])
    with pytest.raises(StoreError, match="2 rows of scores"):
        files.complete()


@pytest.mark.parametrize("rows", [(), (3, 3), (-1,)])
def test_chosen_targets_are_different_row_numbers(rows: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="different row numbers"):
        ChosenTargets(rows)


def evaluated(project: Project, *options: str) -> Json:
    """`trak eval-lds` of "mine" and the default against random outputs."""
    generator = np.random.default_rng(0)
    masks = np.stack([generator.permutation(ROWS) < ROWS // 2 for _ in range(12)])
    np.savez(project.folder / "truth.npz", masks=masks, outputs=generator.normal(size=(12, TARGETS)))
    asked = ("lds.ground_truth=truth.npz", "lds.estimators=[mine]", "lds.bootstrap=0", *options, "--json")
    document: Json = json.loads(project.done("eval-lds", *asked).stdout)
    return document


def test_chosen_targets_are_evaluated_on_their_own_rows_together_with_other_scores(scored: Project) -> None:
    scores = write(scored.store, CHOSEN)
    found = evaluated(scored)
    with np.load(scored.folder / "truth.npz") as truth:
        own = lds(scores[[1, 0, 2]], truth["masks"], truth["outputs"][:, [2, 7, 11]])
        every = lds(read_scores(Layout(scored.store).scores("early_training", "test")), truth["masks"], truth["outputs"])
    assert (found["targets"], found["group"]) == (3, False)
    np.testing.assert_allclose(found["score_sets"][1]["per_target"], own.per_target)
    np.testing.assert_allclose(found["score_sets"][0]["per_target"], every.per_target[[2, 7, 11]])
    assert evaluated(scored, "lds.targets=[11]")["score_sets"][1]["per_target"] == [own.per_target[2]]


def test_scores_of_a_group_are_evaluated_against_the_mean_output(scored: Project) -> None:
    scores = write(scored.store, GROUP)
    write_notes(Layout(scored.store), "mine", "test", ["not smooth"], {})
    found = evaluated(scored, "lds.group=true")
    with np.load(scored.folder / "truth.npz") as truth:
        own = lds(scores, truth["masks"], truth["outputs"][:, [2, 7, 11]].mean(axis=1, keepdims=True))
    assert (found["targets"], found["group"]) == (3, True)
    assert found["score_sets"][1]["per_target"] == pytest.approx(own.per_target.tolist())
    asked = ("lds.ground_truth=truth.npz", "lds.estimators=[mine]")
    assert "not smooth" in scored.done("eval-lds", *asked, "lds.group=true").stderr
    scored.refused(INPUT, "eval-lds", *asked, says=("mine/test.h5", "mean output over 3 targets", "lds.group=true"))
    says = ("mine/test.h5", "the group that is evaluated: 2 targets")
    scored.refused(INPUT, "eval-lds", *asked, "lds.group=true", "lds.targets=[2, 7]", says=says)


@pytest.mark.parametrize("chosen", [CHOSEN, GROUP], ids=str)
@pytest.mark.parametrize("top_k", [None, 9])
def test_select_and_suspects_read_them(finalized: Project, chosen: ChosenTargets, top_k: int | None) -> None:
    scores = write(finalized.store, chosen, top_k)
    group = ("--target", "11") if chosen is CHOSEN else ("--group", "sum")
    found = json.loads(finalized.done("select", NAMED, "--json", "-k", "9", *group).stdout)
    row = scores[-1].astype(np.float64) * (1 if chosen is CHOSEN else 3)
    assert found["rows"] == np.argsort(-row, kind="stable")[:9].tolist()
    assert found["scores"] == pytest.approx(np.sort(row)[::-1][:9])
    listed = json.loads(
        finalized.done("suspects", NAMED, "--json", "--by", "harm_count", "-k", "60", "--neighbours", "0").stdout
    )
    lowest = np.argsort(scores, axis=1)[:, : 20 if top_k is None else top_k]
    expected = np.bincount(lowest[np.take_along_axis(scores, lowest, axis=1) < 0], minlength=ROWS)
    assert {one["row"]: one["values"]["harm_count"] for one in listed["suspects"]} == dict(enumerate(expected))


def test_a_group_has_no_maximum_and_no_targets(finalized: Project) -> None:
    write(finalized.store, GROUP)
    finalized.refused(USAGE, "select", NAMED, "--group", "max", says=("give --group mean",))
    finalized.refused(USAGE, "select", NAMED, "--target", "2", says=("leave out --target",))
