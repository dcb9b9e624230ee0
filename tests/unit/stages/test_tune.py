"""`trak tune` on a store whose ground truth a known member of the family predicts."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from synthetic_store import SUBSETS, TARGETS, SyntheticStore, make_store

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.lds.lds import subset_predictions
from trak_cli.config.load import load
from trak_cli.errors import ConfigError, InputError
from trak_cli.stages.evaluation.estimator_search import SubsetQuery, scan
from trak_cli.stages.evaluation.tuned_estimator import write_estimator
from trak_cli.stages.index.inventory import take_inventory
from trak_cli.stages.tune import TuneSummary, tune
from trak_cli.store.layout import Layout
from trak_cli.types import Silent

BEST = EstimatorSpec(
    "best",
    gram_exponent=2.0,
    weight_exponent=1.0,
    unit_norm=True,
    ridge=0.1,
    ridge_unit="mean_diagonal",
    normalize_targets=True,
)
SPACE = [
    "tune.grid.ridge=[0.01, 0.1, 1, 10]",
    "tune.grid.gram_exponent=[0, 2]",
    "tune.grid.weight_exponent=[0, 1]",
    "estimator.ridge=1",
    "estimator.ridge_unit=mean_diagonal",
    "tune.grid.shrinkage=[0]",
    "tune.grid.soft_threshold=[0]",
    "lds.bootstrap=200",
]


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    made = make_store(tmp_path / "store")
    made.write_truth(tmp_path / "truth.npz", BEST, noise=0.3)
    return made


def run(store: SyntheticStore, *overrides: str) -> TuneSummary:
    truth = f"lds.ground_truth={store.root.parent / 'truth.npz'}"
    return tune(load("tune", None, None, [f"store={store.root}", truth, *SPACE, *overrides]), Silent())


def test_the_member_that_made_the_ground_truth_is_found(store):
    summary = run(store)
    assert dataclasses.replace(summary.best[0].estimator, name="best") == BEST
    found = summary.held_out
    assert found.chosen.estimate > 0.85
    assert found.chosen.low > found.reference.high
    assert found.difference.low > 0
    assert found.p_value.value < 0.05


@pytest.mark.parametrize(
    ("field", "value", "asked"),
    [
        ("soft_threshold", 0.8, "tune.grid.soft_threshold=[0, 0.8]"),
        ("shrinkage", 0.5, "tune.grid.shrinkage=[0, 0.05, 0.5]"),
    ],
)
def test_targets_that_need_scores_are_listed(store, field, value, asked):
    best = dataclasses.replace(BEST, **{field: value})
    store.write_truth(store.root.parent / "truth.npz", best, noise=0.1)
    # These are tried on the best of what has neither; among few members that is the right one.
    few = ("tune.grid.averaging=[kernels]", "tune.grid.ridge=[0.1, 10]", "tune.grid.gram_exponent=[0, 2]")
    summary = run(store, asked, *few)
    assert dataclasses.replace(summary.best[0].estimator, name="best") == best


def test_search_and_evaluation_share_no_target_and_no_subset(store):
    summary = run(store)
    assert summary.targets == (TARGETS // 2, TARGETS - TARGETS // 2)
    assert summary.subsets == (SUBSETS // 2, SUBSETS - SUBSETS // 2)
    assert run(store, "tune.targets=3").targets == (3, TARGETS - TARGETS // 2)


def test_the_configured_estimator_stays_if_nothing_is_better(store):
    one = [
        "tune.grid.metric=[identity]",
        "tune.grid.weight_exponent=[1]",
        "tune.grid.averaging=[kernels]",
        "tune.grid.unit_norm=[false]",
    ]
    settings = ["estimator=trak", "tune.grid.soft_threshold=[0.5]", *one]
    store.write_truth(store.root.parent / "truth.npz", EstimatorSpec("trak", ridge=1, ridge_unit="mean_diagonal"), noise=0)
    summary = run(store, *settings)
    assert summary.members == 2 + 1
    assert summary.best[0].estimator.name == "trak"
    assert summary.held_out.difference.estimate == 0


@pytest.mark.parametrize(
    "spec",
    [
        BEST,
        EstimatorSpec("early_training", gram_exponent=1.0, weights="early_training"),
        EstimatorSpec(
            "t-unit",
            gram_exponent=0.5,
            weight_exponent=0.0,
            weights="early_training",
            unit_norm=True,
            ridge=3,
            ridge_unit="mean_norm",
        ),
        EstimatorSpec("equal", gram_exponent=1.0, weights="early_training", normalize_targets=True),
        EstimatorSpec("equal-dot", metric="identity", normalize_targets=True, soft_threshold=0.3),
        EstimatorSpec("own-weights", gram_exponent=1.0, weight_exponent=0.5, averaging="scores"),
        EstimatorSpec("soft", ridge=3, ridge_unit="mean_diagonal", soft_threshold=0.6),
        EstimatorSpec("soft-t", gram_exponent=1.0, weights="early_training", averaging="scores", soft_threshold=0.3),
        EstimatorSpec("soft-cosine", metric="identity", weight_exponent=0.0, unit_norm=True, soft_threshold=0.5),
        EstimatorSpec(
            "shrunk", gram_exponent=1.0, weights="early_training", normalize_targets=True, clip_norm=1.5, shrinkage=0.1
        ),
        EstimatorSpec(
            "shrunk-soft", ridge=3, ridge_unit="mean_diagonal", shrinkage=0.4, soft_threshold=0.6, averaging="scores"
        ),
        EstimatorSpec("dot", metric="identity"),
        EstimatorSpec("cosine", metric="identity", weight_exponent=0.5, unit_norm=True),
    ],
    ids=lambda spec: spec.name,
)
def test_the_prediction_of_a_member_is_the_sum_of_its_scores(store, spec):
    inventory = take_inventory(Layout(store.root), ["*"])
    targets = np.array([0, 3, TARGETS - 1])
    ((_, found),) = scan(inventory, [spec], SubsetQuery("test", targets, store.masks), lambda _: None)
    expected = subset_predictions(store.scores(spec), store.masks)[targets]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_nothing_in_the_store_is_changed(store):
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}

    before = files()
    summary = run(store)
    assert {path: data for path, data in files().items() if path not in summary.files} == before


def test_the_estimator_file_is_an_option_of_the_group(store, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine.yaml").write_text("defaults: [trak, _self_]\n")
    summary = run(store, f"tune.folder={folder}", "tune.name=chosen")
    assert summary.files[-1] == folder / "estimator" / "chosen.yaml"
    config = load("score", None, folder, [f"store={store.root}", "estimator=chosen"]).config
    assert config.estimator.spec == dataclasses.replace(BEST, name="chosen")
    config = load("score", None, None, [f"store={store.root}", *summary.overrides]).config
    assert config.estimator.spec == dataclasses.replace(BEST, name="chosen")


@pytest.mark.parametrize("name", ["on", "no"])
def test_a_name_that_yaml_would_read_as_something_else_stays_a_name(tmp_path, name):
    write_estimator(tmp_path / "estimator" / f"{name}.yaml", dataclasses.replace(BEST, name=name), 0.5)
    (tmp_path / "mine.yaml").write_text("defaults: [trak, _self_]\n")
    config = load("score", None, tmp_path, [f"store={tmp_path}", f"estimator={name}"]).config
    assert config.estimator.spec == dataclasses.replace(BEST, name=name)


def test_a_users_own_file_is_not_replaced(store, tmp_path):
    own = tmp_path / "estimator" / "tuned.yaml"
    own.parent.mkdir()
    own.write_text("name: mine\n")
    with pytest.raises(ConfigError, match="a file of your own"):
        run(store, f"tune.folder={tmp_path}")
    assert own.read_text() == "name: mine\n"
    run(store, f"tune.folder={tmp_path}", "tune.name=other")
    run(store, f"tune.folder={tmp_path}", "tune.name=other")  # its own file it does replace


def test_a_path_that_is_not_a_folder_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="which is not a folder"):
        run(store, f"tune.folder={tmp_path / 'nowhere'}")


def test_too_few_subsets_are_refused(store, tmp_path):
    np.savez(tmp_path / "truth.npz", masks=store.masks[:5], outputs=np.random.default_rng(0).random((5, TARGETS)))
    with pytest.raises(InputError, match="5 subsets"):
        run(store)


def test_bad_values_of_the_search_are_all_named(tmp_path):
    bad = ["tune.grid.ridge=[1, much]", "tune.grid.metric=[gram, cosine]", "tune.grid.gram_exponent=[-1]"]
    bad += ["tune.grid.weight_exponent=[]", "tune.grid.soft_threshold=[2]"]
    with pytest.raises(ConfigError) as refused:
        load("tune", None, None, [f"store={tmp_path}", *bad, "tune.name=../up"])
    keys = {
        "tune.grid.ridge",
        "tune.grid.metric",
        "tune.grid.gram_exponent",
        "tune.grid.weight_exponent",
        "tune.name",
        "tune.grid.soft_threshold",
    }
    assert {problem.where for problem in refused.value.problems} == keys
