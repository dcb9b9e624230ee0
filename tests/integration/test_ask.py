"""``trak ask``: new targets against a finished store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_project import stamps
from test_report import data
from tiny_project import ROWS, TARGETS, Project

from trak_cli.config.load import Loaded, load
from trak_cli.results.new_samples import NewSamples
from trak_cli.results.new_scores import open_new, score_new
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import Float32, Silent


def loaded(project: Project, *overrides: str) -> Loaded:
    with project.monkeypatch.context() as context:
        context.chdir(project.folder)
        return load("ask", None, Path("."), overrides)


def samples_of_the_split(project: Project) -> list[object]:
    with project.monkeypatch.context() as context:
        context.chdir(project.folder)
        context.syspath_prepend(str(project.folder))
        from tiny_plugin import Data

        return [Data(TARGETS, seed=2)[row] for row in range(TARGETS)]


def asked(project: Project, *overrides: str) -> Float32:
    """Every score of the samples of the target split, asked about as new targets."""
    with project.monkeypatch.context() as context:
        context.chdir(project.folder)
        new = open_new(loaded(project, *overrides), Silent(), samples_of_the_split(project))
        return np.concatenate([scores for _, scores in new.scores(None, Silent())], axis=1)


@pytest.mark.parametrize("estimator", ["early_training", "trak", "trak_soft", "cosine", "dot", "balanced"])
def test_scores_of_new_targets_equal_those_of_a_split_with_the_same_samples(finalized: Project, estimator: str) -> None:
    chosen = [f"estimator={estimator}", "estimator.averaging=kernels"]
    finalized.done("finalize", *chosen)
    finalized.done("score", *chosen)
    before = stamps(finalized.store)
    scores = asked(finalized, *chosen)
    expected = read_scores(Layout(finalized.store).scores(estimator, "test"))
    assert scores.shape == (TARGETS, ROWS)
    np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
    assert stamps(finalized.store) == before


CHOICES = [["estimator.averaging=scores"], ["estimator.checkpoint_counts=[1]"], ["score.target_block=5"]]


@pytest.mark.parametrize("choices", CHOICES)
def test_scores_of_new_targets_follow_the_choices_of_the_estimator(finalized: Project, choices: list[str]) -> None:
    finalized.done("finalize", *choices)
    finalized.done("score", *choices)
    (name,) = (path.name for path in (finalized.store / "scores").iterdir())
    expected = read_scores(Layout(finalized.store).scores(name, "test"))
    np.testing.assert_allclose(asked(finalized, *choices), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


def test_new_targets_see_the_batch_statistics_of_the_members(project: Project) -> None:
    model = ("model._target_=tiny_plugin.Normed", "checkpoints=runs/tiny/checkpoints/*")
    chosen = (*model, "ensemble.members=2", "ensemble.kind=fresh")
    project.done("train", model[0], "train.count=1", "trainer.epochs=2")
    for stage in ("featurize", "finalize", "score"):
        project.done(stage, *chosen)
    expected = read_scores(Layout(project.store).scores("early_training", "test"))
    np.testing.assert_allclose(asked(project, *chosen), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float16", "int8", "bfloat16"])
def test_features_of_new_targets_are_rounded_like_stored_ones(project: Project, dtype: str) -> None:
    chosen = [f"features.dtype={dtype}"]
    for stage in ("featurize", "finalize", "score"):
        project.done(stage, *chosen)
    expected = read_scores(Layout(project.store).scores("early_training", "test"))
    np.testing.assert_allclose(asked(project, *chosen), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_only_the_highest_and_lowest_are_kept(scored: Project) -> None:
    with scored.monkeypatch.context() as context:
        context.chdir(scored.folder)
        found = score_new(loaded(scored), Silent(), samples_of_the_split(scored), 4)
    expected = read_scores(Layout(scored.store).scores("early_training", "test"))
    order = np.argsort(-expected, axis=1)
    assert found.extremes.top.indices.tolist() == order[:, :4].tolist()
    assert found.extremes.bottom.indices.tolist() == order[:, :-5:-1].tolist()
    assert found.model.outputs.shape == (2, TARGETS)
    assert found.inventory.rows == ROWS


def rows_of(target: dict[str, list[dict[str, int]]]) -> list[int]:
    return [one["row"] for end in ("helpful", "harmful") for one in target[end]]


def test_the_command_shows_the_rows_of_each_new_target(scored: Project) -> None:
    rows = ["--row", "1,2,3,4,5,6,7,8", "--row", "[0,0,0,0,1,1,1,1]", "--label", "1"]
    text = scored.done("ask", *rows, "-k", "3").stdout
    assert text.count("estimator early_training") == 2
    summary = json.loads(scored.done("ask", *rows, "-k", "3", "--json").stdout)
    assert [len(target["helpful"]) for target in summary["targets"]] == [3, 3]
    one = json.loads(scored.done("ask", "--sample", "[[0,0,0,0,1,1,1,1],1]", "-k", "3", "--json").stdout)
    assert rows_of(one["targets"][0]) == rows_of(summary["targets"][1])


def predictions(project: Project, inputs: list[list[float]]) -> torch.Tensor:
    """(targets, 3) probabilities, the mean over the checkpoints."""
    x, found = torch.tensor(inputs), []
    for weights in (load_file(project.folder / "checkpoints/a.safetensors"), torch.load(project.folder / "checkpoints/b.pt")):
        w = weights.get("state_dict", weights)
        hidden = torch.tanh(x @ w["first.weight"].T + w["first.bias"])
        found.append(torch.softmax(hidden @ w["second.weight"].T + w["second.bias"], 1))
    return torch.stack(found).mean(0)


def test_the_answer_names_the_predicted_class_with_its_probability(scored: Project) -> None:
    rows = ["--row", "1,2,3,4,5,6,7,8", "--row", "[0,0,0,0,1,1,1,1]", "--label", "1"]
    summary = json.loads(scored.done("ask", *rows, "--json").stdout)
    expected = predictions(scored, [[1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 0, 1, 1, 1, 1.0]])
    predicted = [target["predicted"] for target in summary["targets"]]
    assert [one["label"] for one in predicted] == expected.argmax(1).tolist()
    assert [one["correct"] for one in predicted] == (expected.argmax(1) == 1).tolist()
    np.testing.assert_allclose([one["probability"] for one in predicted], expected.max(1).values, rtol=1e-4)
    printed = scored.done("ask", *rows).stdout
    for one in predicted:
        says = f"predicted {'with' if one['correct'] else 'as ' + str(one['label'])}"
        assert says in printed


def test_an_answer_can_be_a_page(scored: Project) -> None:
    pytest.importorskip("jinja2")
    rows = ["--row", "1,2,3,4,5,6,7,8", "--row", "[0,0,0,0,1,1,1,1]", "--label", "1", "-k", "3"]
    summary = json.loads(scored.done("ask", *rows, "--report", "page.html", "--json").stdout)
    page = data(scored, "page.html")
    for number, (shown, target) in enumerate(zip(page["targets"], summary["targets"], strict=True)):
        own = page["samples"][shown["i"]]
        assert (own["s"], own["r"], own["m"][0]) == ("new", number, target["predicted"]["label"])
        assert own["l"] == 1, "a number, as the labels of the training set are"
        assert own["f"] == pytest.approx(summary["outputs"][number], rel=1e-4)
        for end, name in (("a", "helpful"), ("b", "harmful")):
            assert [page["samples"][place]["r"] for place, _ in shown[end]] == [one["row"] for one in target[name]]


@pytest.mark.parametrize(("named", "label"), [("cat", "cat"), ("1", "cat"), ("0", "dog")])
def test_labels_on_the_page_have_the_form_of_those_of_the_training_set(scored: Project, named: str, label: str) -> None:
    pytest.importorskip("jinja2")
    plugin = scored.folder / "tiny_plugin.py"
    more = """
    classes = ["dog", "cat", "cow"]

    def describe(self, row):
        return {"label": self.classes[self[row][1]]}
"""
    plugin.write_text(plugin.read_text() + more)
    told = scored.done("ask", "--row", "1,2,3,4,5,6,7,8", "--label", named, "--report", "page.html", "--json").stdout
    page = data(scored, "page.html")
    own = page["samples"][page["targets"][0]["i"]]
    assert own["l"] == label
    assert own["m"][0] == json.loads(told)["targets"][0]["predicted"]["label"]
    assert {sample["l"] for sample in page["samples"]} <= {"dog", "cat", "cow"}


@pytest.mark.parametrize(
    "given", [["--sample", '{"row": [1,2,3,4,5,6,7,8], "animal": "cat"}'], ["--sample", "[[1,2,3,4,5,6,7,8],1]"]]
)
def test_labels_with_a_name_of_their_own_have_that_form_too(scored: Project, given: list[str]) -> None:
    pytest.importorskip("jinja2")
    plugin = scored.folder / "tiny_plugin.py"
    more = """
    classes, label_name = ["dog", "cat", "cow"], "animal"

    def sample_from(self, record):
        return torch.tensor(record["row"], dtype=torch.float32), self.classes.index(record["animal"])

    def describe(self, row):
        return {"animal": self.classes[self[row][1]]}
"""
    plugin.write_text(plugin.read_text() + more)
    found = json.loads(scored.done("ask", *given, "--report", "page.html", "--json").stdout)["targets"][0]["predicted"]
    page = data(scored, "page.html")
    assert page["samples"][page["targets"][0]["i"]]["l"] == "cat"
    assert {sample["l"] for sample in page["samples"]} <= {"dog", "cat", "cow"}
    assert found["correct"] == (found["label"] == "cat")


def test_an_image_is_shown_on_the_page_and_named_in_the_terminal(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("L", (8, 8), 200).save(tmp_path / "dark.png")
    record = {"image": str(tmp_path / "dark.png"), "label": "3"}
    made = NewSamples("test", [None], [record])
    assert made.describe(0) == record
    assert (made.shown(0)["image"].size, made.shown(0)["file"]) == ((8, 8), record["image"])


def test_what_cannot_be_asked_is_refused_before_anything_is_computed(scored: Project) -> None:
    scored.refused(2, "ask", says=("no sample", "--text"))
    scored.refused(2, "ask", "--row", "1,2", "--row", "3", "--label", "1", "--label", "2", "--label", "0", says=("--row", "3"))
    scored.refused(2, "ask", "--row", "1,a", says=("--row", "JSON list"))
    scored.refused(2, "ask", "--row", "1,2", "--split", "other", says=("--split", "test, train"))
    scored.refused(4, "ask", "--text", "words", says=("new target 0", "sample_from"))
    scored.refused(4, "ask", "--row", "1,2,3,4,5,6,7,8", "--label", "9", says=("sample 0 of the new targets", "label 9"))
    scored.refused(3, "ask", "--row", "1,2,3,4,5,6,7,8", "--label", "1", "projection.dim=16", says=("projection.dim",))
    scored.refused(2, "ask", "--row", "1,2,3,4,5,6,7,8", "--label", "1", "checkpoints=checkpoints/a*", says=("average_over",))


def test_a_store_without_gram_matrices_is_refused_with_the_command_that_makes_them(featurized: Project) -> None:
    featurized.refused(3, "ask", "--row", "1,2,3,4,5,6,7,8", "--label", "1", says=("trak finalize",))
