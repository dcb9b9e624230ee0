"""`trak retrain` with retrain.same_seed: one run of `trak train` again, without some samples; `trak eval-lds` on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file
from tiny_project import ROWS, TARGETS, Project

from trak_cli.attribution.lds.lds import lds
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.store.publish import write_image
from trak_cli.store.virtual import read_scores
from trak_cli.tasks import CausalLM

USAGE, STORE, INPUT = 2, 3, 4
NONE = "lds.bootstrap=0"
SAME = ("retrain.same_seed=true", "trainer.epochs=1", "trainer.batch_size=16")
FEW = (*SAME, "retrain.drop=0.1", "retrain.subsets=5")


@pytest.fixture(scope="module")
def retrained_folder(
    finished: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path, pytest.MonkeyPatch], Project]:
    """The scored project with run 0 retrained five times and for every target; copied for each test."""
    folder = tmp_path_factory.mktemp("same_seed") / "project"
    shutil.copytree(finished["score"], folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = Project(folder, monkeypatch)
        project.done("score", "estimator=dot")
        project.done("retrain", *FEW, "retrain.remove_top=[early_training, dot]", "lds.targets=[0, 3, 7]")

    def copy(where: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
        shutil.copytree(folder, where)
        return Project(where, monkeypatch)

    return copy


@pytest.fixture
def retrained(
    retrained_folder: Callable[[Path, pytest.MonkeyPatch], Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    return retrained_folder(tmp_path / "retrained", monkeypatch)


def arrays(path: Path) -> dict[str, np.ndarray]:
    return dict(read_image(path).arrays)


def layout(project: Project) -> Layout:
    return Layout(project.store)


def evaluate(project: Project, *options: str) -> dict:
    return json.loads(project.done("eval-lds", "retrain.same_seed=true", NONE, *options, "--json").stdout)


def scores_of(project: Project, name: str = "early_training") -> np.ndarray:
    return read_scores(layout(project).scores(name, "test"))


def test_the_run_with_all_weights_one_is_the_run_of_train(scored: Project) -> None:
    scored.done("train", "train.count=2", "trainer.epochs=1", "trainer.batch_size=16")
    for run in (0, 1):
        outcome = scored.done("retrain", *SAME, f"retrain.run={run}", "retrain.subsets=1")
        assert "warning" not in outcome.stderr
        weights = load_file(scored.store / "checkpoints" / f"full_{run}.safetensors")
        full = arrays(layout(scored).retrained_full(run))
        np.testing.assert_array_equal(full["weights"], np.ones(ROWS, np.float32))
        np.testing.assert_allclose(full["outputs_test"][0], outputs(scored, weights), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(full["losses_test"], np.log1p(np.exp(-full["outputs_test"])), rtol=1e-4, atol=1e-5)


def outputs(project: Project, weights: dict[str, np.ndarray]) -> np.ndarray:
    """f of every target, the log-odds of its class, in NumPy."""
    with project.monkeypatch.context() as context:
        context.syspath_prepend(project.folder)
        from tiny_plugin import Data

        samples = [Data(TARGETS, seed=2)[row] for row in range(TARGETS)]
    hidden = np.tanh(np.stack([x.numpy() for x, _ in samples]) @ weights["first.weight"].T + weights["first.bias"])
    logits = hidden @ weights["second.weight"].T + weights["second.bias"]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    own = shares[np.arange(TARGETS), [label for _, label in samples]]
    return np.log(own / (1 - own))


RANDOM_MODEL = """

from trak_cli.plugins import StepTrainer


class SignTrainer(StepTrainer):
    def initial_state(self, params):
        return {}

    def update(self, params, grads, state, step):
        return [p - step.lr * g.sign() for p, g in zip(params, grads)], state


class Dropped(Net):
    def __init__(self):
        super().__init__()
        self.middle = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5))

    def forward(self, x):
        return self.second(self.middle(torch.tanh(self.first(x))))
"""
OWN = ("trainer=null", "+trainer._target_=tiny_plugin.SignTrainer", "+trainer.lr=0.01", "+trainer.batch_size=16")
PART = ("train.start=runs/tiny/checkpoints/full_0.safetensors", "train.only_parameters=true", "parameters.include=[second.*]")


@pytest.mark.parametrize("options", [(*OWN, "+trainer.epochs=2"), (*PART, "trainer.epochs=2")], ids=["own trainer", "part"])
def test_the_run_is_repeated_with_dropout_batch_statistics_a_trainer_of_ones_own_or_a_start(
    project: Project, options: tuple[str, ...]
) -> None:
    plugin = project.folder / "tiny_plugin.py"
    plugin.write_text(plugin.read_text() + RANDOM_MODEL)
    model = "model._target_=tiny_plugin.Dropped"
    if options[:3] == PART:
        project.done("train", model, "trainer.epochs=1", "train.count=1")
    project.done("train", model, *options, "train.count=1")
    outcome = project.done("retrain", model, *options, "retrain.same_seed=true", "retrain.subsets=1")
    assert "warning" not in outcome.stderr


def test_a_changed_trainer_is_told_when_the_run_is_not_that_of_the_checkpoint(scored: Project) -> None:
    scored.done("train", "train.count=1", "trainer.epochs=1")
    outcome = scored.done("retrain", *SAME, "trainer.lr=0.2", "retrain.subsets=1")
    assert "warning: training with seed 0 again does not give" in outcome.stderr
    assert "full_0.safetensors" in outcome.stderr


def test_samples_are_left_out_by_weight_zero_and_the_subsets_are_those_of_other_seeds(retrained: Project) -> None:
    retrained.done("retrain", "trainer.epochs=1", "retrain.drop=0.1", "retrain.subsets=5")
    for subset in range(5):
        same, other = (arrays(layout(retrained).retrained(subset, run)) for run in (0, None))
        assert same["weights"].dtype == np.float32
        assert (same["weights"] == 0).sum() == ROWS // 10
        np.testing.assert_array_equal(same["weights"] == 1, other["mask"])
        assert "losses_test" not in other


def test_rerunning_trains_what_is_missing_and_workers_give_the_same_bytes(retrained: Project) -> None:
    asked = (*FEW, "retrain.remove_top=[early_training, dot]", "lds.targets=[0, 3, 7]")
    before = retrained.files()
    assert json.loads(retrained.done("retrain", *asked, "--json").stdout)["trained"] == 0
    removed = [path for path in sorted(layout(retrained).retrained_folder(0).rglob("*.h5")) if path.stem in ("full", "00003")]
    assert len(removed) == 4
    for path in removed:
        path.unlink()
    found = [
        json.loads(retrained.done("retrain", *asked, f"worker.index={index}", "worker.count=2", "--json").stdout)["trained"]
        for index in (1, 0)
    ]
    assert sum(found) == len(removed)
    assert {path: retrained.files()[path] for path in before} == before


def test_several_runs_are_trained_with_their_own_seeds(scored: Project) -> None:
    one = [("retrain.run=0", "store=runs/a"), ("retrain.run=1", "store=runs/b")]
    for options in one:
        scored.done("retrain", *SAME, "retrain.subsets=1", *options)
    scored.done("retrain", *SAME, "retrain.subsets=1", "retrain.models_per_subset=2")
    paths = [Layout(scored.folder / "runs" / name).retrained(0, run) for name, run in (("a", 0), ("b", 1), ("tiny", 0))]
    a, b, both = (arrays(path)["outputs_test"] for path in paths)
    np.testing.assert_array_equal(both, np.concatenate([a, b]))


def test_the_lds_is_that_of_the_weights(retrained: Project) -> None:
    found = evaluate(retrained)
    subsets = [arrays(layout(retrained).retrained(subset, 0)) for subset in range(5)]
    weights = np.stack([subset["weights"] for subset in subsets])
    by_hand = lds(scores_of(retrained), weights, np.stack([subset["outputs_test"].mean(axis=0) for subset in subsets]))
    np.testing.assert_allclose(found["score_sets"][0]["per_target"], by_hand.per_target)
    assert (found["ceiling"], found["same_seed"], found["subsets"], found["targets"]) == (1.0, True, 5, TARGETS)
    assert "noise ceiling: 1" in retrained.done("eval-lds", "retrain.same_seed=true").stdout


@pytest.mark.parametrize(("group", "rows"), [(False, [7, 3]), (True, [7, 3]), (True, list(range(TARGETS)))])
def test_the_lds_of_chosen_targets_or_of_their_mean(retrained: Project, group: bool, rows: list[int]) -> None:
    chosen = [] if len(rows) == TARGETS else [f"lds.targets={rows}"]
    found = evaluate(retrained, *chosen, f"lds.group={str(group).lower()}", "lds.baselines=[datamodel]")
    subsets = [arrays(layout(retrained).retrained(subset, 0)) for subset in range(5)]
    weights = np.stack([subset["weights"] for subset in subsets])
    truth = np.stack([subset["outputs_test"].mean(axis=0) for subset in subsets])[:, sorted(rows)]
    scores = scores_of(retrained)[sorted(rows)]
    if group:
        truth, scores = truth.mean(axis=1, keepdims=True), scores.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(found["score_sets"][0]["per_target"], lds(scores, weights, truth).per_target)
    assert (found["targets"], found["group"]) == (len(rows), group)


def test_the_lds_of_losses_has_their_sign_reversed(retrained: Project) -> None:
    found = evaluate(retrained, "lds.output=loss")
    subsets = [arrays(layout(retrained).retrained(subset, 0)) for subset in range(5)]
    truth = -np.stack([subset["losses_test"].mean(axis=0) for subset in subsets])
    by_hand = lds(scores_of(retrained), np.stack([subset["weights"] for subset in subsets]), truth)
    np.testing.assert_allclose(found["score_sets"][0]["per_target"], by_hand.per_target)
    retrained.refused(USAGE, "eval-lds", "lds.output=loss", says=("lds.output", "retrain.same_seed=true"))


def test_removals_leave_out_the_highest_scores_of_each_target(retrained: Project) -> None:
    for name in ("early_training", "dot"):
        scores = scores_of(retrained, name)
        for target in (0, 3, 7):
            weights = arrays(layout(retrained).retrained_without(0, name, "test", f"{target:05}"))["weights"]
            highest = np.argsort(-scores[target], kind="stable")[: ROWS // 10]
            np.testing.assert_array_equal(np.flatnonzero(weights == 0), np.sort(highest))


def test_qld_is_the_mean_increase_of_the_loss_of_a_target_without_its_highest_scores(retrained: Project) -> None:
    found = evaluate(retrained, "lds.estimators=[dot]")["removal"]
    own = layout(retrained)
    full = arrays(own.retrained_full(0))
    subsets = [arrays(own.retrained(subset, 0)) for subset in range(5)]
    assert [change["name"] for change in found["changes"]] == ["early_training", "dot", "random"]
    assert (found["targets"], found["removed"], found["missing"]) == (3, ROWS // 10, [])
    for change in found["changes"][:2]:
        models = [arrays(own.retrained_without(0, change["name"], "test", f"{target:05}")) for target in (0, 3, 7)]
        for kind, key in (("losses", "loss"), ("outputs", "output")):
            pairs = zip((0, 3, 7), models, strict=True)
            by_hand = [(model[f"{kind}_test"] - full[f"{kind}_test"])[0, target] for target, model in pairs]
            assert change[key]["estimate"] == pytest.approx(np.mean(by_hand), rel=1e-4, abs=1e-6)
    random = [(subset["losses_test"] - full["losses_test"])[0, [0, 3, 7]] for subset in subsets]
    assert found["changes"][2]["loss"]["estimate"] == pytest.approx(np.mean(random), rel=1e-4, abs=1e-6)


def test_removals_are_compared_on_common_targets_and_missing_ones_are_named(retrained: Project) -> None:
    layout(retrained).retrained_without(0, "dot", "test", "00003").unlink()
    assert evaluate(retrained, "lds.estimators=[dot]")["removal"]["targets"] == 2
    for path in layout(retrained).retrained_folder(0).rglob("dot/test/*.h5"):
        path.unlink()
    assert evaluate(retrained, "lds.estimators=[dot]")["removal"]["missing"] == ["dot"]
    assert evaluate(retrained, "lds.targets=[1, 2]")["removal"] is None


def test_removals_of_a_group_and_of_scores_in_a_file(retrained: Project) -> None:
    theirs = np.random.default_rng(3).normal(size=(TARGETS, ROWS)).astype(np.float32)
    np.save(retrained.folder / "theirs.npy", theirs)
    group = ("lds.group=true", "lds.targets=[2, 5, 6]", "lds.scores={theirs: theirs.npy}")
    retrained.done("retrain", *FEW, "retrain.remove_top=[theirs]", *group)
    (path,) = layout(retrained).retrained_folder(0).glob("without/theirs/test/*.h5")
    highest = np.argsort(-theirs[[2, 5, 6]].mean(axis=0))[: ROWS // 10]
    np.testing.assert_array_equal(np.flatnonzero(arrays(path)["weights"] == 0), np.sort(highest))
    removal = evaluate(retrained, *group)["removal"]
    change = arrays(path)["losses_test"] - arrays(layout(retrained).retrained_full(0))["losses_test"]
    assert removal["missing"] == ["early_training"]
    assert removal["changes"][0]["loss"]["estimate"] == pytest.approx(change[0, [2, 5, 6]].mean(), rel=1e-4, abs=1e-6)
    assert "QLD" in retrained.done("eval-lds", "retrain.same_seed=true", *group).stdout


def test_removals_are_evaluated_with_the_predictions_that_they_flip(retrained: Project) -> None:
    shown = retrained.done("evaluate", "estimator=dot", "retrain.same_seed=true", NONE, "--removal", "--json").stdout
    metrics = {metric["name"]: metric for metric in json.loads(shown)["metrics"]}
    qld = next(one for one in evaluate(retrained, "estimator=dot")["removal"]["changes"] if one["name"] == "dot")
    removed = ROWS // 10
    assert metrics[f"change of the loss without the {removed} highest (QLD)"]["value"] == qld["loss"]
    files = [layout(retrained).retrained_without(0, "dot", "test", f"{row:05}") for row in (0, 3, 7)]
    after = np.array([arrays(path)["outputs_test"][0, row] for path, row in zip(files, (0, 3, 7), strict=True)])
    before = arrays(layout(retrained).retrained_full(0))["outputs_test"][0, [0, 3, 7]]
    name = f"flipped predictions without the {removed} highest"
    assert (before < 0).all()
    assert name not in metrics, "no prediction is right, so none can flip"
    image = read_image(layout(retrained).retrained_full(0))
    turned = {**image.arrays, "outputs_test": -image.arrays["outputs_test"]}
    write_image(image.path, turned, image.fingerprint, {}, overwrite=True)
    shown = retrained.done("evaluate", "estimator=dot", "retrain.same_seed=true", NONE, "--removal", "--json").stdout
    (flips,) = [metric for metric in json.loads(shown)["metrics"] if metric["name"] == name]
    assert flips["per_target"] == {str(row): float(f <= 0) for row, f in zip((0, 3, 7), after, strict=True)}
    retrained.refused(USAGE, "evaluate", "--removal", says=("retrain.same_seed=true", "retrain.remove_top"))


FLIPS = ("retrain.same_seed=true", "trainer.epochs=15", "trainer.batch_size=16", "retrain.subsets=1")


@pytest.fixture
def learnable(project: Project) -> Project:
    """The scored project with labels that follow from the inputs, so that some predictions are right."""
    plugin = project.folder / "tiny_plugin.py"
    text = plugin.read_text()
    plugin.write_text(text.replace("int(torch.randint(3, (), generator=generator))", "int(inputs[:3].argmax())"))
    assert plugin.read_text() != text
    project.done("featurize")
    project.done("score", "estimator=dot")
    return project


def flip_files(project: Project, estimator: str = "dot") -> dict[int, dict[int, np.ndarray]]:
    """Target -> number of removed samples -> weights and f."""
    folder = layout(project).retrained_flip(0, estimator, "test", 0, 1).parent.parent
    found: dict[int, dict[int, np.ndarray]] = {}
    for path in folder.rglob("*.h5"):
        found.setdefault(int(path.parent.name), {})[int(path.stem)] = arrays(path)
    return found


def test_bisection_finds_the_smallest_removal_that_flips_a_prediction(learnable: Project) -> None:
    command = ("retrain", *FLIPS, "retrain.flip_top=[dot]", "retrain.flip_most=0.5", "lds.targets=[5, 0, 1, 3, 2, 4]")
    for worker in range(2):
        told = learnable.done(*command, f"worker.index={worker}", "worker.count=2").stdout
        assert "the smallest removal that flips it for 3 targets" in told
    scores = read_scores(layout(learnable).scores("dot", "test"))
    before = arrays(layout(learnable).retrained_full(0))["outputs_test"][0]
    files = flip_files(learnable)
    assert set(files) == set(np.flatnonzero(before[:6] > 0).tolist()), "targets that were wrong before are not searched"
    smallest = {}
    for row, by_count in files.items():
        for count, model in by_count.items():
            highest = np.argsort(-scores[row], kind="stable")[:count]
            assert set(np.flatnonzero(model["weights"] == 0).tolist()) == set(highest.tolist())
        flipped = [count for count, model in by_count.items() if model["outputs_test"][0, row] <= 0]
        smallest[row] = min(flipped) if ROWS // 2 in flipped else np.inf
    assert np.isfinite(list(smallest.values())).any(), "the test needs a prediction that flips"
    stamps = {path: path.stat().st_mtime_ns for path in learnable.store.rglob("*.h5")}
    learnable.done(*command)
    assert {path: path.stat().st_mtime_ns for path in learnable.store.rglob("*.h5")} == stamps
    evaluate_it = ("evaluate", "estimator=dot", "retrain.same_seed=true", "retrain.flip_most=0.5", NONE, "--removal", "--json")
    metrics = {one["name"]: one for one in json.loads(learnable.done(*evaluate_it).stdout)["metrics"]}
    found = metrics["brittleness (median smallest removal)"]
    assert found["count"] == len(smallest)
    expected = float(np.median(list(smallest.values())))
    assert found["value"]["estimate"] == (expected if np.isfinite(expected) else None)
    flips = metrics[f"flipped predictions without up to {ROWS // 2} highest"]["per_target"]
    assert {int(row): value for row, value in flips.items() if value is not None} == {
        row: float(np.isfinite(count)) for row, count in smallest.items()
    }


def test_flips_are_of_single_targets_of_one_run(scored: Project) -> None:
    for options, says in (
        (("retrain.flip_top=[dot]",), "retrain.same_seed=true"),
        ((*FLIPS, "retrain.flip_top=[dot]", "lds.group=true"), "a mean of f is no prediction"),
        ((*FLIPS, "retrain.flip_most=1.5"), "retrain.flip_most"),
    ):
        scored.refused(USAGE, "retrain", *options, says=(says,))
    scored.refused(STORE, "retrain", *FLIPS, "retrain.flip_top=[cosine]", says=("cosine", "trak score"))


def test_removals_made_from_other_scores_are_refused(retrained: Project) -> None:
    retrained.done("score", "estimator=dot", "estimator.unit_norm=true", "score.overwrite=true")
    says = ("without/dot/test", "highest scores now", "remove")
    retrained.refused(STORE, "eval-lds", "estimator=dot", "retrain.same_seed=true", says=says)
    retrained.refused(STORE, "retrain", *FEW, "retrain.remove_top=[dot]", "lds.targets=[0, 3, 7]", says=says)
    layout(retrained).retrained_full(0).unlink()
    retrained.refused(STORE, "eval-lds", "retrain.same_seed=true", says=("full.h5", "trak retrain retrain.same_seed=true"))


def test_both_protocols_have_their_place_in_one_store(retrained: Project) -> None:
    says = ("no retrained models", "retrain.same_seed=true retrain.run=0")
    retrained.refused(STORE, "eval-lds", says=says)
    retrained.refused(STORE, "tune", says=says)
    retrained.refused(STORE, "eval-lds", "retrain.same_seed=true", "retrain.run=2", says=("run_2", *says))
    retrained.done("retrain", "trainer.epochs=1", "retrain.subsets=4", "retrain.models_per_subset=2")
    other = json.loads(retrained.done("eval-lds", NONE, "--json").stdout)
    assert (other["subsets"], other["same_seed"], other["removal"]) == (4, False, None)
    assert evaluate(retrained)["subsets"] == 5
    retrained.refused(STORE, "retrain", *SAME, "retrain.drop=0.3", says=("run_0", "fraction"))


def test_tune_takes_the_run_as_its_ground_truth(retrained: Project) -> None:
    retrained.done("retrain", *FEW, "retrain.subsets=6")
    small = "averaging: [kernels], shrinkage: [0], soft_threshold: [0], gram_exponent: [0]"
    found = retrained.done("tune", "retrain.same_seed=true", f"tune.grid={{ridge: [0.1, 10.0], {small}}}", "--json")
    assert json.loads(found.stdout)["ground_truth"].endswith("run_0")
    few = ("retrain.same_seed=true", f"tune.grid={{ridge: [0.1], {small}}}")
    found = retrained.done("tune", *few, "lds.targets=[2, 3, 5, 7, 11]", "--json")
    assert json.loads(found.stdout)["targets"] == [2, 3]
    retrained.refused(USAGE, "tune", *few, "lds.group=true", says=("lds.group", "lds.targets"))


@pytest.mark.parametrize("trainer", ["sgd", "adamw"])
def test_a_language_model_is_retrained_and_its_loss_is_the_mean_over_tokens(words: Project, trainer: str) -> None:
    trained = (f"trainer={trainer}", "trainer.epochs=1")
    words.done("train", *trained, "train.count=1")
    outcome = words.done("retrain", *trained, "retrain.same_seed=true", "retrain.drop=0.1", "retrain.subsets=3")
    assert "warning" not in outcome.stderr
    (checkpoint,) = (words.store / "checkpoints").glob("full_0.safetensors")
    with words.monkeypatch.context() as context:
        context.syspath_prepend(words.folder)
        import words_plugin

        model = words_plugin.Net()
        model.load_state_dict(load_torch_file(checkpoint))
        data = words_plugin.Data(TARGETS, seed=2)
        task = CausalLM()
        expected = [float(task.loss(model, words_plugin.Collate()([data[row]])).detach()) for row in range(len(data))]
    np.testing.assert_allclose(arrays(layout(words).retrained_full(0))["losses_test"][0], expected, rtol=1e-4)


WITHOUT_WEIGHTS = """

class Plain:
    def train(self, model, task, dataset, indices, seed, collate, device):
        raise SystemExit("trained")


class Unweighted:
    def train(self, model, task, dataset, indices, seed, collate, device, **others):
        raise SystemExit("trained")
"""


@pytest.mark.parametrize("trainer", ["Plain", "Unweighted"])
def test_a_trainer_that_does_not_weight_samples_is_refused_before_training(scored: Project, trainer: str) -> None:
    plugin = scored.folder / "tiny_plugin.py"
    plugin.write_text(plugin.read_text() + WITHOUT_WEIGHTS)
    options = ("retrain.same_seed=true", "trainer=null", f"+trainer._target_=tiny_plugin.{trainer}")
    says = ("trainer", f"{trainer}.train without an argument weights", "weights=None")
    scored.refused(INPUT, "retrain", *options, says=says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("retrain.drop=1",), ("retrain.drop", "between 0 and 1")),
        (("retrain.drop=0.2", "retrain.fraction=0.9"), ("retrain.drop", "retrain.fraction=0.9", "add up to 1")),
        (("retrain.run=1",), ("retrain.run", "retrain.same_seed=true")),
        (("retrain.remove_top=[dot]",), ("retrain.remove_top", "retrain.same_seed=true")),
        (("lds.targets=[-1]",), ("lds.targets", "0")),
    ],
    ids=["drop", "both shares", "run", "remove_top", "targets"],
)
def test_keys_that_do_not_fit_are_refused(scored: Project, options: tuple[str, ...], says: tuple[str, ...]) -> None:
    scored.refused(USAGE, "retrain", *options, says=says)


def test_targets_and_scores_that_do_not_exist_are_refused(retrained: Project) -> None:
    asked = (*FEW, "retrain.remove_top=[dot, gone]")
    retrained.refused(STORE, "retrain", *asked, says=("gone", "trak score"))
    for rows, says in (("[12]", "0 to 11"), ("[1, 1]", "1 more than once"), ("[]", "an empty list")):
        for stage in (("retrain", *FEW, "retrain.remove_top=[dot]"), ("eval-lds", "retrain.same_seed=true")):
            retrained.refused(USAGE, *stage, f"lds.targets={rows}", says=("lds.targets", says))
