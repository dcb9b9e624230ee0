"""The predicted classes of a store: stored as the models predict them, and shown by every command that shows samples."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_project import read_store
from tiny_project import ROWS, TARGETS, Project, weights

from trak_cli.report.payload import Prediction
from trak_cli.results.outputs.model_outputs import means
from trak_cli.results.outputs.predictions import class_names
from trak_cli.store.layout import Layout
from trak_cli.store.shards import read_features, write_features

SEEDS = {"test": (2, TARGETS), "train": (1, ROWS)}


def probabilities(split: str) -> np.ndarray:
    """(checkpoints, rows, 3), from the weights and the inputs."""
    seed, rows = SEEDS[split]
    inputs = torch.stack([torch.randn(8, generator=torch.Generator().manual_seed(1000 * seed + row)) for row in range(rows)])
    found = []
    for one in (weights(0), weights(1)):
        hidden = torch.tanh(inputs @ one["first.weight"].T + one["first.bias"])
        found.append(torch.softmax(hidden @ one["second.weight"].T + one["second.bias"], 1).numpy())
    return np.stack(found)


def expected(split: str) -> dict[int, tuple[int, float]]:
    """Of two checkpoints that disagree, the more certain one decides; of two that agree, the mean."""
    both = probabilities(split)
    classes, chances = both.argmax(2), both.max(2)
    return {
        row: (int(classes[0, row]), float(chances[:, row].mean()))
        if classes[0, row] == classes[1, row]
        else (int(classes[chances[:, row].argmax(), row]), float(chances[:, row].max()))
        for row in range(both.shape[1])
    }


def test_the_store_has_what_the_models_predict(featurized: Project) -> None:
    for (checkpoint, split), values in read_store(featurized.store).items():
        mine = probabilities(split)[0 if checkpoint.startswith("a") else 1]
        assert values.predicted is not None
        assert values.predicted.tolist() == mine.argmax(1).tolist()
        np.testing.assert_allclose(values.predicted_probability, mine.max(1), rtol=1e-5)


def page_of(project: Project) -> dict[str, Any]:
    project.done("report", "--out", "report.html", "-k", "3")
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', (project.folder / "report.html").read_text("utf-8")
    )
    assert found is not None
    return dict(json.loads(found[1]))


def test_every_command_shows_the_same_prediction(scored: Project) -> None:
    truth = {split: expected(split) for split in SEEDS}
    for sample in page_of(scored)["samples"]:
        number, chance = truth[sample["s"]][sample["r"]]
        assert sample["m"] == [number, pytest.approx(chance, abs=1e-4), number == sample["l"]]
    (top,) = json.loads(scored.done("top", "--target", "3", "--json").stdout)["targets"]
    for one, split in [(top, "test"), *((near, "train") for near in (*top["helpful"], *top["harmful"]))]:
        number, chance = truth[split][one["row"]]
        assert (one["predicted"]["label"], one["predicted"]["probability"]) == (number, pytest.approx(chance, abs=1e-4))
    printed = scored.done("top", "--target", "3").stdout
    assert "predicted" in printed
    number, chance = truth["test"][3]
    wrong, right = f"predicted as {number} ({chance:.2f}), wrong", f"predicted with {chance:.2f}"
    assert (right if top["predicted"]["correct"] else wrong) in printed
    for one in json.loads(scored.done("suspects", "--json").stdout)["suspects"]:
        number, chance = truth["train"][one["row"]]
        assert one["predicted"] == {
            "label": number,
            "probability": pytest.approx(chance, abs=1e-4),
            "correct": number == one["label"],
        }
    assert "predicted" in scored.done("suspects").stdout


def test_a_store_of_an_earlier_version_shows_no_prediction(scored: Project) -> None:
    layout = Layout(scored.store)
    for checkpoint in layout.checkpoints():
        for split in layout.splits(checkpoint):
            for shard in layout.shards(checkpoint, split):
                path = layout.features(checkpoint, split, shard)
                stored = read_features(path)
                bare = replace(stored, predicted=None, predicted_probability=None)
                assert write_features(path, bare, stored.fingerprint, {}, overwrite=True)
    assert not any("m" in sample for sample in page_of(scored)["samples"])
    for command in ("top", "suspects"):
        assert "predicted" not in scored.done(command).stdout


def test_the_majority_of_the_checkpoints_decides() -> None:
    """f and q of a label with probability 0.2, 0.2, 0.9, then predicted classes with their probabilities."""
    chances = np.array([0.2, 0.2, 0.9])
    f, q = np.log(chances / (1 - chances)), 1 - chances
    columns = np.stack([f, q, [1, 1, 2], [0.5, 0.7, 0.9]], axis=1)[:, :, None]
    vote = means([5], columns).predicted[5]
    assert (vote.number, vote.probability, vote.correct) == (1, pytest.approx(0.6), False)
    vote = means([5], columns[[0, 2]]).predicted[5]
    assert (vote.number, vote.probability, vote.correct) == (2, pytest.approx(0.9), True)
    columns[:2, 2] = -1  # shards without predicted classes
    assert means([5], columns).predicted[5].number == 2
    assert means([5], columns[:2]).predicted == {}
    columns[:, 1] = 0.3  # another loss: q says nothing about the label
    assert means([5], columns).predicted[5].correct is None


@pytest.mark.parametrize(
    ("like", "classes", "shown", "agrees"),
    [
        ("cat", ["dog", "cat"], "cat", True),
        ("dog", ["dog", "cat"], "cat", False),
        (1, ["dog", "cat"], 1, True),
        (0.0, None, 1, False),
        ("1", None, "1", True),
        ("cat", None, "class 1", None),
        (None, ["dog", "cat"], "cat", None),
    ],
)
def test_classes_are_named_as_labels_are(like: Any, classes: list[str] | None, shown: Any, agrees: bool | None) -> None:
    class Named:
        pass

    dataset = Named()
    if classes is not None:
        dataset.classes = classes  # type: ignore[attr-defined]
    names = class_names(torch.utils.data.Subset(dataset, [0]), like)  # type: ignore[arg-type]
    assert (names.of_class(1), names.agree(like, 1)) == (shown, agrees)


def test_classes_without_a_list_are_named_by_the_labels_of_rows_that_are_predicted_as_labelled(scored: Project) -> None:
    plugin = scored.folder / "tiny_plugin.py"
    more = """
    def describe(self, row):
        return {"label": ["dog", "cat", "cow"][self[row][1]]}
"""
    plugin.write_text(plugin.read_text() + more)
    names, truth = ["dog", "cat", "cow"], expected("train")
    found = json.loads(scored.done("top", "--target", "3", "-k", "2", "--json").stdout)["targets"][0]
    for one in (*found["helpful"], *found["harmful"]):
        assert one["predicted"]["label"] == names[truth[one["row"]][0]]
    asked = json.loads(scored.done("ask", "--row", "1,2,3,4,5,6,7,8", "--label", "1", "--json").stdout)["targets"][0]
    assert asked["predicted"]["label"] in names
    assert asked["predicted"]["correct"] == (asked["predicted"]["label"] == "cat")


def test_a_new_target_is_compared_with_its_class_although_training_labels_are_not_described(scored: Project) -> None:
    plugin = scored.folder / "tiny_plugin.py"
    plugin.write_text(
        plugin.read_text()
        + '\n    classes = ["dog", "cat", "cow"]\n\n    def describe(self, row):\n        return {"row": row}\n'
    )
    found = [
        json.loads(scored.done("ask", "--row", "1,2,3,4,5,6,7,8", "--label", str(label), "--json").stdout)["targets"][0]
        for label in range(3)
    ]
    assert {one["predicted"]["label"] for one in found} <= {"dog", "cat", "cow"}
    assert [one["predicted"]["correct"] for one in found].count(True) == 1


def test_a_prediction_is_repeated_only_where_it_is_another_class_than_the_label() -> None:
    assert (str(Prediction("cat", 0.931, True)), Prediction("cat", 0.931, True).clause()) == (
        "as labelled (0.93)",
        "predicted with 0.93",
    )
    assert (str(Prediction("dog", 0.8, False)), Prediction("dog", 0.8, False).clause()) == (
        "dog (0.80), wrong",
        "predicted as dog (0.80), wrong",
    )
    assert str(Prediction(3, 0.5)) == "3 (0.50)"
