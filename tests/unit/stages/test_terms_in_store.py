"""Gram matrices and predictions from a store whose training rows have terms: those of the formula on whole matrices."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_store import DIM, ROWS, TARGETS, SyntheticStore, make_store

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.lds.lds import subset_predictions
from trak_cli.config.estimators import shipped_estimators
from trak_cli.errors import StoreError
from trak_cli.stages.evaluation.estimator_search import SubsetQuery, scan
from trak_cli.stages.index.fingerprints import gram_fingerprint
from trak_cli.stages.index.inventory import Inventory, take_inventory
from trak_cli.stages.scoring.gram_store import find_gram, gram_path, write_gram
from trak_cli.stages.scoring.gram_sums import sum_gram
from trak_cli.store.layout import Layout
from trak_cli.store.shards import FeatureRows, read_features, write_features

MEMBERS = shipped_estimators()

DEFAULT = MEMBERS["early_training"]


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    return make_store(tmp_path / "store", with_terms=True)


def inventory_of(store: SyntheticStore) -> Inventory:
    return take_inventory(Layout(store.root), ["*"])


def test_the_gram_matrix_is_over_terms_and_comes_back(store):
    inventory = inventory_of(store)
    assert store.terms is not None
    (rows, counts), terms = store.terms[0], int(store.terms[0].counts.sum())
    for attempt in range(2):
        found = sum_gram(inventory, DEFAULT, "c0", lambda _: None) if attempt == 0 else find_gram(inventory, DEFAULT, "c0")
        assert found is not None
        spectrum = found.spectrum
        assert (spectrum.n, spectrum.over) == (terms, "terms")
        wide = rows.astype(np.float64)
        np.testing.assert_allclose((spectrum.vectors * spectrum.values) @ spectrum.vectors.T, wide.T @ wide, atol=1e-9)
        assert spectrum.mean_square == pytest.approx((wide**2).sum() / counts.sum())
        assert spectrum.mean_diag == pytest.approx((wide**2).sum() / DIM)
        assert DEFAULT.ridge_in(spectrum) == pytest.approx(5 * (wide**2).sum() / terms)
        np.testing.assert_array_equal(found.sample_weight, np.full(ROWS, 0.5))
        write_gram(inventory, DEFAULT, "c0", found)
    assert gram_path(inventory, DEFAULT, "c0").parent.name == "early_training-gram_exponent-1-clip_norm-1.5-per_token"


@pytest.mark.parametrize(
    "spec",
    [
        DEFAULT,
        EstimatorSpec("t0", gram_exponent=0.0, weights="early_training", weight_exponent=0.0, ridge=3, ridge_unit="mean_norm"),
        EstimatorSpec(
            "absolute", gram_exponent=1.0, weights="early_training", averaging="scores", ridge=0.7, ridge_unit="absolute"
        ),
        EstimatorSpec("diagonal", gram_exponent=0.5, weights="early_training", ridge=0.1, ridge_unit="mean_diagonal"),
        EstimatorSpec("soft", gram_exponent=1.0, weights="early_training", soft_threshold=0.4),
        EstimatorSpec("unit", gram_exponent=1.0, weights="early_training", unit_norm=True),
        MEMBERS["trak"],
        MEMBERS["balanced"],
        MEMBERS["dot"],
    ],
    ids=lambda spec: spec.name,
)
@pytest.mark.parametrize("filed", [False, True])
def test_the_prediction_of_a_member_is_the_sum_of_its_scores(store, spec, filed):
    inventory = inventory_of(store)
    if filed and spec.needs_gram:
        for name in inventory.checkpoints:
            write_gram(inventory, spec, name, sum_gram(inventory, spec, name, lambda _: None))
    targets = np.array([0, 3, TARGETS - 1])
    ((_, found),) = scan(inventory, [spec], SubsetQuery("test", targets, store.masks), lambda _: None)
    expected = subset_predictions(store.scores(spec), store.masks)[targets]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_gram_matrices_with_terms_and_without_are_never_mistaken(store, tmp_path):
    plain = take_inventory(Layout(make_store(tmp_path / "plain").root), ["*"])
    inventory = inventory_of(store)
    assert (inventory.curvature, plain.curvature) == ("terms", None)
    for spec, same in ((DEFAULT, False), (MEMBERS["trak"], True)):
        paths = [gram_path(one, spec, "c0").relative_to(one.layout.root) for one in (inventory, plain)]
        assert (paths[0] == paths[1]) == same
    keys = [gram_fingerprint(one.features["c0"], DEFAULT, ROWS)["gram"] for one in (inventory, plain)]
    assert keys == ["early_training-gram_exponent-1-clip_norm-1.5-per_token", "early_training-gram_exponent-1-clip_norm-1.5"]


def test_a_shard_that_lacks_the_terms_its_store_has_is_refused(store):
    inventory = inventory_of(store)
    path = inventory.layout.features("c0", "train", 1)
    shard = read_features(path)
    bare = FeatureRows(shard.rows, shard.features, shard.out_to_loss, shard.outputs, shard.sample_ids)
    write_features(path, bare, shard.fingerprint, {}, overwrite=True)
    with pytest.raises(StoreError, match=r"no features of terms"):
        sum_gram(inventory, DEFAULT, "c0", lambda _: None)
