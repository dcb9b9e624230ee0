"""Loss, margin, self-influence and left-out residuals from shards: those of the formulas on whole matrices."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scores_oracle import scores
from synthetic_store import SyntheticStore, make_store

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.left_out import LeftOut
from trak_cli.config.estimators import shipped_estimators
from trak_cli.results.suspicion.own_features import OwnCriteria, own_criteria
from trak_cli.stages.index.inventory import Inventory, take_inventory
from trak_cli.stages.scoring.gram_store import write_gram
from trak_cli.stages.scoring.gram_sums import sum_gram
from trak_cli.store.layout import Layout
from trak_cli.types import Silent

MEMBERS = shipped_estimators()
SPECS = [
    *(spec for name, spec in MEMBERS.items() if name != "trak_soft"),
    EstimatorSpec("mixed", unit_norm=True, normalize_targets=True, averaging="scores", ridge=0.3),
    replace(MEMBERS["early_training"], name="scores", averaging="scores", weight_exponent=0.5),
]


def criteria_of(store: SyntheticStore, spec: EstimatorSpec) -> tuple[OwnCriteria, Inventory]:
    inventory = take_inventory(Layout(store.root), ["*"])
    for name in inventory.checkpoints if spec.needs_gram else ():
        write_gram(inventory, spec, name, sum_gram(inventory, spec, name, lambda _: None))
    return own_criteria(inventory, spec, Silent()), inventory


@pytest.mark.parametrize("kind", ["log_odds", "terms", "residuals"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_self_influence_is_the_diagonal_of_the_scores(tmp_path: Path, kind: str, spec: EstimatorSpec) -> None:
    store = make_store(tmp_path / "store", 2, with_terms=kind == "terms", residuals=kind == "residuals")
    whole = scores(spec, store.train, store.out_to_loss, store.train, store.outputs, store.terms)
    found, _ = criteria_of(store, spec)
    assert found.self_influence == pytest.approx(np.diagonal(whole), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("checkpoints", [1, 3])
def test_the_others_are_means_over_checkpoints(tmp_path: Path, checkpoints: int) -> None:
    store = make_store(tmp_path / "store", checkpoints)
    found, inventory = criteria_of(store, MEMBERS["dot"])
    assert found.loss == pytest.approx(np.mean(store.out_to_loss, axis=0), rel=1e-5)
    assert found.margin == pytest.approx(np.mean(store.outputs, axis=0), rel=1e-5, abs=1e-6)
    every = []
    for features, q, f in zip(store.train, store.out_to_loss, store.outputs, strict=True):
        regression = LeftOut(inventory.dim)
        regression.add(features, q, f)
        regression.solve()
        every.append(regression.residuals(features, q, f))
    assert found.left_out == pytest.approx(np.mean(every, axis=0), rel=1e-6)


def test_residuals_have_no_margin(tmp_path: Path) -> None:
    found, _ = criteria_of(make_store(tmp_path / "store", residuals=True), MEMBERS["dot"])
    assert found.margin is None
    assert (found.loss >= 0).all()
