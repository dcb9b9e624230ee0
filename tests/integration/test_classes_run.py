"""Classifications through the command line: training rows have features of their other classes, and the Gram covers them."""

from __future__ import annotations

import json

import numpy as np
import torch
from small_project import read_store
from tiny_project import DIM, ROWS, TARGETS, Project

from trak_cli.gradients.curvature.other_classes import OtherClasses
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.store.json_files import read_json
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.tasks import Classification

OFF = "gradients.classes=false"

TWO = """
from tiny_plugin import Data, Net
from torch import nn


class TwoClasses(Net):
    def forward(self, x):
        return super().forward(x)[:, :2]


class Even(Data):
    def __getitem__(self, row):
        inputs, answer = super().__getitem__(row)
        return inputs, answer % 2
"""


def test_training_rows_have_other_classes_and_targets_have_none(featurized: Project) -> None:
    for (_, split), found in read_store(featurized.store).items():
        assert found.terms is None
        if split == "test":
            assert (found.class_features, found.residuals) == (None, None)
            continue
        assert found.class_features is not None
        assert found.residuals is not None
        assert found.class_features.shape == (ROWS, DIM)
        assert (found.residuals > 0).all()
        assert (found.residuals < 1).all()
        assert np.abs(found.class_features).max(axis=1).min() > 0


def test_without_them_nothing_else_changes(scored: Project) -> None:
    """Features, and the scores of every other estimator, to the last bit; the default has another Gram matrix."""
    whole = read_store(scored.store)
    for stage in ("featurize", "finalize", "score"):
        outcome = scored.done(stage, OFF, "store=runs/off")
        assert "other classes" not in outcome.stdout
    layout = Layout(scored.folder / "runs" / "off")
    for key, one in read_store(layout.root).items():
        assert one.class_features is None
        for column in ("features", "out_to_loss", "outputs", "sample_ids"):
            assert getattr(one, column).tobytes() == getattr(whole[key], column).tobytes()
    for path in layout.root.glob("features/*/fingerprint.json"):
        stored = read_json(scored.store / path.relative_to(layout.root))
        assert stored.pop("classes") == {"version": 1}
        assert stored == read_json(path)
    names = {store: {path.name for path in (store / "finalized").iterdir()} for store in (layout.root, scored.store)}
    assert names[layout.root] == {"early_training-gram_exponent-1-clip_norm-1.5"}
    assert names[scored.store] == {"early_training-gram_exponent-1-clip_norm-1.5-all_classes"}
    for store in ("runs/off", "runs/tiny"):
        scored.done("finalize", "estimator=balanced", f"store={store}")
        scored.done("score", "estimator=balanced", f"store={store}")
    found = [read_scores(Layout(scored.folder / "runs" / name).scores("balanced", "test")) for name in ("off", "tiny")]
    np.testing.assert_array_equal(*found)


def test_finalize_says_what_the_gram_matrix_covers(featurized: Project) -> None:
    told = featurized.done("finalize").stdout
    assert "covers the other classes" in told


def test_a_store_with_them_and_a_call_without_do_not_fit(featurized: Project) -> None:
    featurized.refused(3, "featurize", OFF, says=("fingerprint classes", "(absent)", "gradients.classes=true"))
    featurized.done("featurize", "gradients.classes=true")
    featurized.done("featurize", OFF, "store=runs/off")
    featurized.refused(3, "featurize", "store=runs/off", says=("fingerprint classes", "gradients.classes=false"))


def test_two_classes_have_no_others(project: Project) -> None:
    (project.folder / "two_classes.py").write_text(TWO)
    two = [
        "model._target_=two_classes.TwoClasses",
        "dataset.train._target_=two_classes.Even",
        "dataset.targets.test._target_=two_classes.Even",
    ]
    project.done("featurize", *two)
    assert all(one.class_features is None for one in read_store(project.store).values())
    project.refused(2, "featurize", *two, "gradients.classes=true", "store=runs/b", says=("gradients.classes", "three classes"))


def test_a_representation_has_none(project: Project) -> None:
    representation = ("gradients.engine=representation", "gradients.module=first")
    project.refused(2, "featurize", "gradients.classes=true", *representation, says=("gradients.classes", "no gradients"))


def test_doctor_counts_their_cost(project: Project) -> None:
    whole, off = (json.loads(project.done("doctor", "--json", *more).stdout) for more in ([], [OFF]))
    assert whole["costs"]["features"] - off["costs"]["features"] == 2 * ROWS * (4 * DIM + 4)
    assert off["costs"]["rows"] == ROWS + TARGETS


def test_the_random_numbers_belong_to_the_checkpoint(featurized: Project) -> None:
    """Two checkpoints with the same logits have other combinations."""
    digests = [sha256(path) for path in sorted((featurized.folder / "checkpoints").iterdir())]
    logits, rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    batch = ((logits, torch.arange(5) % 4), rows)
    sums = [OtherClasses(Classification(), digest).output(torch.nn.Identity(), batch) for digest in digests]
    assert not torch.allclose(*sums)
