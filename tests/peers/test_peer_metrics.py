"""`trak evaluate` against the code of quanda and dattri on the same random inputs: extra ``peers``, skipped without it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from trak_cli.attribution.metrics.brittleness import smallest_flips
from trak_cli.attribution.metrics.classes import same_class_shares
from trak_cli.attribution.metrics.correlations import leave_one_out_correlations, randomization_correlations
from trak_cli.attribution.metrics.detection import detection_auc, inspection_area
from trak_cli.attribution.metrics.retrieval import Ranked, rank_relevant
from trak_cli.types import Rows

TARGETS, ROWS, CLASSES = 9, 41, 3


@pytest.fixture(params=[0, 1, 2])
def generator(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(request.param)


def drawn(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return generator.standard_normal(shape).astype(np.float32)


class Labelled(torch.utils.data.Dataset):
    """Samples (input, label)."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(2), int(self.labels[row])


def quanda(module: str, name: str) -> Any:
    return getattr(import_module(f"quanda.metrics.{module}"), name)


def model() -> torch.nn.Module:
    return torch.nn.Linear(2, CLASSES)


def ranked(scores: np.ndarray, relevant: list[np.ndarray]) -> list[Ranked]:
    block = (Rows(0, len(scores)), Rows(0, scores.shape[1]), scores)
    return rank_relevant(lambda: [block], relevant)


@pytest.mark.peers("dattri.metric")
def test_mislabel_detection_auc_is_that_of_dattri(generator: np.random.Generator) -> None:
    suspicion, flagged = drawn(generator, ROWS), generator.random(ROWS) < 0.3
    theirs, _ = import_module("dattri.metric").mislabel_detection_auc(torch.tensor(suspicion), torch.tensor(flagged))
    assert detection_auc(suspicion, flagged) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.peers("quanda.metrics.downstream_eval")
def test_inspection_area_is_mislabeling_detection_of_quanda(generator: np.random.Generator) -> None:
    """The values are whole numbers, because quanda adds 1e-4 times the row to each before it ranks them."""
    suspicion, flagged = generator.permutation(ROWS).astype(np.float32), generator.random(ROWS) < 0.3
    metric = quanda("downstream_eval", "MislabelingDetectionMetric")(
        model=model(),
        train_dataset=Labelled(flagged),
        mislabeling_indices=np.flatnonzero(flagged).tolist(),
        precomputed_self_influence=torch.tensor(suspicion),
    )
    assert inspection_area(suspicion, flagged) == pytest.approx(metric.compute()["score"], abs=1e-6)


@pytest.mark.peers("quanda.metrics.downstream_eval")
def test_hits_and_mrr_are_those_of_quanda(generator: np.random.Generator) -> None:
    scores = drawn(generator, TARGETS, ROWS)
    entailing = generator.random((TARGETS, ROWS)) < 0.1
    entailing[:, 0] = True
    found = ranked(scores, [np.flatnonzero(row) for row in entailing])
    hits = quanda("downstream_eval", "RecallAtKMetric")(model=model(), train_dataset=Labelled(scores[0]), k=4)
    ranks = quanda("downstream_eval", "MRRMetric")(model=model(), train_dataset=Labelled(scores[0]))
    for metric in (hits, ranks):
        metric.update(torch.tensor(scores), torch.tensor(entailing))
    assert np.mean([one.hit(4) for one in found]) == pytest.approx(hits.compute()["score"])
    assert np.mean([one.reciprocal_rank() for one in found]) == pytest.approx(ranks.compute()["score"])


@pytest.mark.peers("quanda.metrics.downstream_eval")
@pytest.mark.parametrize("top", [1, 5])
def test_class_and_subclass_detection_are_those_of_quanda(generator: np.random.Generator, top: int) -> None:
    scores, classes = drawn(generator, TARGETS, ROWS), generator.integers(0, CLASSES, ROWS)
    of_targets = generator.integers(0, CLASSES, TARGETS)
    highest = np.argsort(-scores, axis=1)[:, :top]
    mine = same_class_shares(highest, classes, of_targets).mean()
    detection = quanda("downstream_eval", "ClassDetectionMetric")(model=model(), train_dataset=Labelled(classes), s=top)
    subclasses = quanda("downstream_eval", "SubclassDetectionMetric")(
        model=model(), train_dataset=Labelled(classes), train_subclass_labels=torch.tensor(classes), s=top
    )
    for metric in (detection, subclasses):
        metric.update(torch.tensor(scores), torch.tensor(of_targets))
        assert mine == pytest.approx(metric.compute()["score"])


@pytest.mark.peers("quanda.metrics.downstream_eval")
@pytest.mark.parametrize("ties", [False, True])
def test_shortcut_detection_is_that_of_quanda(generator: np.random.Generator, ties: bool) -> None:
    scores = drawn(generator, TARGETS, ROWS)
    scores = scores.round() if ties else scores
    marked = np.sort(generator.permutation(ROWS)[:6])
    metric = quanda("downstream_eval", "ShortcutDetectionMetric")(
        model=model(),
        train_dataset=Labelled(np.zeros(ROWS)),
        shortcut_indices=marked.tolist(),
        shortcut_cls=0,
        filter_by_non_shortcut=False,
        filter_by_shortcut_pred=False,
    )
    metric.update(torch.tensor(scores))
    mine = np.mean([one.average_precision() for one in ranked(scores, [marked] * TARGETS)])
    assert mine == pytest.approx(metric.compute()["score"], abs=1e-6)


@pytest.mark.peers("quanda.utils.functions")
def test_model_randomization_is_the_correlation_of_quanda(generator: np.random.Generator) -> None:
    scores, randomized = drawn(generator, TARGETS, ROWS), drawn(generator, TARGETS, ROWS)
    theirs = import_module("quanda.utils.functions").spearman_rank_corr(torch.tensor(scores), torch.tensor(randomized))
    np.testing.assert_allclose(randomization_correlations(scores, randomized), theirs.numpy(), atol=1e-5)


@pytest.mark.peers("dattri.metric")
def test_leave_one_out_correlation_is_that_of_dattri_for_losses(generator: np.random.Generator) -> None:
    scores, losses = drawn(generator, TARGETS, ROWS), drawn(generator, ROWS, TARGETS)
    truth = (torch.tensor(losses), torch.arange(ROWS))
    theirs, _ = import_module("dattri.metric").loo_corr(torch.tensor(scores.T.copy()), truth)
    np.testing.assert_allclose(leave_one_out_correlations(scores, -losses), theirs.numpy(), atol=1e-5)


@pytest.mark.peers("dattri.metric")
def test_leave_one_out_correlation_of_outputs_has_the_other_sign_in_dattri(generator: np.random.Generator) -> None:
    scores, outputs = drawn(generator, TARGETS, ROWS), drawn(generator, ROWS, TARGETS)
    truth = (torch.tensor(outputs), torch.arange(ROWS))
    theirs, _ = import_module("dattri.metric").loo_corr(torch.tensor(scores.T.copy()), truth)
    np.testing.assert_allclose(leave_one_out_correlations(scores, outputs), -theirs.numpy(), atol=1e-5)


@pytest.mark.peers("dattri.benchmark.utils", "dattri.metric")
def test_the_smallest_flip_is_the_brittleness_of_dattri(generator: np.random.Generator) -> None:
    """Training returns the number of remaining helpful samples; below a threshold, the prediction flips."""
    scores, threshold, counts = drawn(generator, ROWS), int(generator.integers(1, 8)), [0, 2, 4, 6, 8]
    helpful = set(np.argsort(-scores)[:8].tolist())
    sampler = import_module("dattri.benchmark.utils").SubsetSampler(list(range(ROWS)))
    training = torch.utils.data.DataLoader(Labelled(np.zeros(ROWS)), batch_size=4, sampler=sampler)
    target = torch.utils.data.DataLoader(Labelled(np.zeros(1)), batch_size=1)
    remaining: list[int] = []

    def train(loader: Any) -> torch.nn.Module:
        remaining.append(len(helpful & set(loader.sampler.indices)))
        return model()

    def predict(*_: Any) -> torch.Tensor:
        return torch.tensor(int(remaining[-1] < threshold))

    theirs = import_module("dattri.metric").brittleness(
        training, target, torch.tensor(scores), train, predict, search_space=counts
    )
    flipped = np.array([[8 - count < threshold] for count in counts])
    smallest = smallest_flips(np.array(counts), flipped)[0]
    assert smallest == (np.inf if theirs is None else theirs)
