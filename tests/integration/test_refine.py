"""``trak refine``: its scores against dense systems, its files after interruptions, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_project import ROWS, TARGETS, Project, call, weights
from torch import nn
from torch.func import functional_call, jacrev

from trak_cli.config.estimators import shipped_estimators
from trak_cli.stages.index.inventory import take_inventory
from trak_cli.stages.scoring.gram_store import require_gram
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import open_scores, read_scores
from trak_cli.types import Json

USAGE, STORE, INPUT = 2, 3, 4
PLAIN = ("estimator=dot", "refine.name=mine", "refine.tolerance=1e-5")
SIMULATED = ("estimator=early_training", "estimator.shrinkage=0", "estimator.normalize_targets=false")


@pytest.fixture(scope="module")
def refined_folder(finished: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with Gram matrices and the refined scores of every target, under the name mine; to be copied."""
    folder = Path(shutil.copytree(finished["finalize"], tmp_path_factory.mktemp("refined") / "project"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        outcome = call(folder, monkeypatch, "refine", *PLAIN, "--json")
    assert outcome.code == 0, outcome.stderr
    (folder / "report.json").write_text(outcome.stdout)
    return folder


@pytest.fixture
def refined(refined_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it, with report.json, what the command said."""
    return Project(Path(shutil.copytree(refined_folder, tmp_path / "refined")), monkeypatch)


class Net(nn.Module):
    """The model of the project."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(torch.tanh(self.first(x)))
        return result


def samples(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, labels = [], []
    for row in range(rows):
        generator = torch.Generator().manual_seed(1000 * seed + row)
        inputs.append(torch.randn(8, generator=generator))
        labels.append(int(torch.randint(3, (), generator=generator)))
    return torch.stack(inputs).double(), torch.tensor(labels)


def dense_scores(ridges: list[float], sample_weights: list[np.ndarray] | None = None) -> np.ndarray:
    """The formula of docs/refining.md with dense matrices: (targets, rows), before normalising and shrinking.

    ``ridges`` and ``sample_weights`` (rows,) are those of each checkpoint.
    """
    (x, y), (tx, ty) = samples(ROWS, 1), samples(TARGETS, 2)
    net, total = Net().double(), np.zeros((TARGETS, ROWS))

    def logits(values: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = functional_call(net, values, (inputs,))
        return result

    def jacobian(values: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        parts = jacrev(logits)(values, inputs)
        return torch.cat([parts[name].flatten(2) for name in dict(net.named_parameters())], 2)

    for seed, ridge in enumerate(ridges):
        parameters = {name: value.double() for name, value in weights(seed).items()}
        J, u = jacobian(parameters, x), logits(parameters, x)
        several = torch.stack([torch.softmax(place * u, 1) for place in (1 / 16, 3 / 16, 5 / 16, 7 / 16)])
        H = (torch.diag_embed(several) - several[..., None] * several[..., None, :]).mean(0)
        r = nn.functional.one_hot(y, 3) - several.mean(0)
        if sample_weights is not None:
            factors = torch.from_numpy(sample_weights[seed]) / r.gather(1, y[:, None])[:, 0]
            H, r = H * factors[:, None, None], r * factors[:, None]
        G = torch.einsum("icp,icd,idq->pq", J, H, J)
        tu = logits(parameters, tx)
        others = tu.masked_fill(nn.functional.one_hot(ty, 3).bool(), -torch.inf).softmax(1)
        t = torch.einsum("ic,icp->ip", nn.functional.one_hot(ty, 3) - others, jacobian(parameters, tx))
        solutions = torch.linalg.solve(G + ridge * torch.eye(len(G)).double(), t.T).T
        total += (solutions @ torch.einsum("ic,icp->ip", r, J).T).numpy() / len(ridges)
    return total


def report(project: Project, *options: str) -> Json:
    document: Json = json.loads(project.done("refine", *PLAIN, *options, "--json").stdout)
    return document


def scores(project: Project, name: str = "mine") -> np.ndarray:
    return read_scores(Layout(project.store).scores(name, "test"))


def test_scores_are_those_of_dense_systems(refined: Project) -> None:
    found = json.loads((refined.folder / "report.json").read_text())
    ridges = [one["ridge"] for one in found["reports"]]
    expected = dense_scores(ridges)
    np.testing.assert_allclose(scores(refined), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert (found["complete"], found["warnings"], found["systems"]) == (True, [], TARGETS)
    assert all(one["residual"] <= 1e-5 and one["unsolved"] == 0 for one in found["reports"])


def test_samples_have_the_weights_of_the_simulated_training(finalized: Project) -> None:
    found = report(finalized, *SIMULATED)
    inventory, estimator = take_inventory(Layout(finalized.store), ["*"]), shipped_estimators()["early_training"]
    stored = [require_gram(inventory, estimator, name).sample_weight for name in inventory.checkpoints]
    weights = [one.astype(np.float64) for one in stored if one is not None]
    expected = dense_scores([one["ridge"] for one in found["reports"]], weights)
    np.testing.assert_allclose(scores(finalized), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_blocks_sampled_directions_and_batches_change_rounding_only(finalized: Project) -> None:
    report(finalized, *SIMULATED)
    report(finalized, *SIMULATED, "refine.rank=5", "refine.memory_mb=1", "refine.name=other")
    np.testing.assert_allclose(scores(finalized, "other"), scores(finalized), rtol=1e-3, atol=1e-6)


def test_a_group_has_the_mean_of_the_scores_of_its_targets(refined: Project) -> None:
    report(refined, "refine.name=group", "refine.group=true", "refine.targets=[7,2,5]")
    np.testing.assert_allclose(scores(refined, "group"), scores(refined)[[7, 2, 5]].mean(0)[None], rtol=1e-3, atol=1e-6)
    whole = open_scores(Layout(refined.store).scores("group", "test"))
    assert (whole.group, None if whole.target_rows is None else whole.target_rows.tolist()) == (True, [7, 2, 5])


def test_chosen_targets_have_their_own_scores(refined: Project) -> None:
    report(refined, "refine.name=some", "refine.targets=[9,0]")
    np.testing.assert_allclose(scores(refined, "some"), scores(refined)[[9, 0]], rtol=1e-3, atol=1e-6)


def test_candidates_are_ranked_by_their_refined_scores(refined: Project) -> None:
    refined.done("score", "estimator=dot")
    report(refined, "refine.name=best", "refine.candidates=10")
    before, after = scores(refined, "dot"), scores(refined)
    shown = json.loads(refined.done("top", "estimator.name=best", "-k", "4", "--json").stdout)["targets"]
    for target in shown:
        order = np.argsort(before[target["row"]])
        candidates = np.sort(np.r_[order[:10], order[-10:]])
        ranked = candidates[np.argsort(-after[target["row"]][candidates], kind="stable")]
        assert [one["row"] for one in target["helpful"]] == ranked[:4].tolist()


def test_workers_share_the_blocks_and_give_the_bytes_of_one(refined: Project) -> None:
    for index in (0, 1):
        done = report(refined, "refine.name=shared", f"worker.index={index}", "worker.count=2")
        assert done["complete"] == bool(index)
    np.testing.assert_array_equal(scores(refined, "shared"), scores(refined))
    assert not (refined.store / "refined" / "shared" / "test").exists()


def test_a_finished_run_solves_nothing_again(refined: Project) -> None:
    first = json.loads((refined.folder / "report.json").read_text())
    before = refined.files()
    again = report(refined)
    assert (again["solved"], again["reports"]) == (0, first["reports"])
    assert refined.files() == before


def test_an_interrupted_run_continues_with_the_stored_blocks(refined: Project) -> None:
    report(refined, "refine.name=later", "worker.index=0", "worker.count=2")
    (unit,) = (refined.store / "refined" / "later").rglob("*.h5")
    assert unit.name == "0000.h5"
    assert report(refined, "refine.name=later")["solved"] == 1
    np.testing.assert_array_equal(scores(refined, "later"), scores(refined))


def test_replaced_targets_are_solved_again(featurized: Project) -> None:
    report(featurized, "worker.index=0", "worker.count=2")
    other = "dataset.targets.test.seed=9"
    featurized.done("featurize", other, "dataset.replace=[test]")
    assert report(featurized, other)["solved"] == 2


def test_systems_that_do_not_converge_are_told(featurized: Project) -> None:
    found = report(featurized, "refine.rank=0", "refine.iterations=1")
    assert "did not converge" in found["warnings"][0]
    assert "did not converge" in featurized.done("top", "estimator.name=mine", "-k", "2").stdout


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("refine.targets=[99]",), USAGE, ("refine.targets", "rows of test: 0 to 11")),
        (("refine.split=nowhere",), USAGE, ("refine.split", "refine.split=test")),
        (("refine.targets=[1,1]",), USAGE, ("refine.targets", "give each row once")),
        (("refine.ridge=0",), USAGE, ("refine.ridge", "above 0")),
        (("refine.group=true", "refine.candidates=3"), USAGE, ("refine.candidates", "leave one of them out")),
        (("refine.candidates=3",), STORE, ("scores of estimator dot", "run trak score")),
        (("estimator=early_training",), STORE, ("run trak finalize",)),
        (("checkpoints=checkpoints/a*",), USAGE, ("checkpoints", "estimator.average_over")),
    ],
)
def test_what_cannot_be_refined_is_refused(
    featurized: Project, options: tuple[str, ...], code: int, says: tuple[str, ...]
) -> None:
    featurized.refused(code, "refine", *PLAIN, *options, says=says)


def test_other_settings_under_the_same_name_are_refused(refined: Project) -> None:
    refined.refused(
        STORE, "refine", *PLAIN, "refine.ridge=3", says=("refined.ridge", "refine.name=NAME", "refine.overwrite=true")
    )
    report(refined, "refine.ridge=3", "refine.overwrite=true")


def test_features_must_be_there(project: Project) -> None:
    project.refused(STORE, "refine", *PLAIN, says=("run trak featurize",))
