"""``trak top --together``: a group of training rows, checked against Gram matrices written out without it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from small_project import Everything, read_store
from tiny_project import Project

from trak_cli.attribution import MEMBERS, EstimatorSpec, Gram, decompose, front, weights_of
from trak_cli.store import Layout, read_scores

TARGET, SIZE = 3, 5


def answer(project: Project, *arguments: str) -> dict[str, Any]:
    told = project.done("top", "--json", "--target", str(TARGET), "-k", "2", "--together", str(SIZE), *arguments)
    found: dict[str, Any] = json.loads(told.stdout)["targets"][0]
    return found


def without(spec: EstimatorSpec, found: Everything, group: list[int]) -> np.ndarray:
    """(n,) scores of the target under Gram matrices without the group, in float64."""
    kernels, fronts, lengths = [], [], []
    for checkpoint in sorted({name for name, _ in found}):
        train = found[checkpoint, "train"]
        X, t = train.features.astype(np.float64), found[checkpoint, "test"].features[TARGET].astype(np.float64)
        weights = weights_of(spec, X, train.out_to_loss.astype(np.float64), train.outputs)
        U, n = np.sqrt(weights.gram)[:, None] * X, len(X)
        if weights.of_terms and train.term_features is not None and train.terms is not None:
            U, n = train.term_features.astype(np.float64), int(train.terms.sum())
        plain = U if n != len(X) else X
        ridge = spec.ridge_in(decompose(Gram(U.T @ U, n, float((plain * plain).sum()) / n)))
        A = U.T @ U + ridge * np.eye(U.shape[1])
        lengths.append(np.sqrt(t @ np.linalg.solve(A, t)))
        kernels.append(X @ np.linalg.solve(A - U[group].T @ U[group], t))
        fronts.append(weights.front)
    mean = np.mean([kernel / length for kernel, length in zip(kernels, lengths, strict=True)], axis=0)
    return np.asarray(np.mean(lengths) * mean * front(spec, fronts))


def check(project: Project, spec: EstimatorSpec) -> None:
    found, told = read_store(project.store), answer(project, f"estimator={spec.name}")
    rows = [one["row"] for one in told["together"]]
    assert len(set(rows)) == SIZE
    scores = read_scores(Layout(project.store).scores(spec.name, "test"))[TARGET]
    assert rows[0] == int(np.argmax(scores))
    for step, one in enumerate(told["together"]):
        expected = without(spec, found, rows[:step])
        expected[rows[:step]] = -np.inf
        assert expected[one["row"]] == pytest.approx(expected.max(), rel=1e-4)
        assert one["score"] == pytest.approx(expected.max(), rel=1e-4)
    assert told["effect"] == pytest.approx(without(spec, found, rows)[rows].sum(), rel=1e-4)


def test_every_row_has_the_highest_score_without_those_before(scored: Project) -> None:
    check(scored, MEMBERS["trajectory"])


def test_the_rows_of_language_models_leave_with_their_terms(words: Project) -> None:
    for stage in ("featurize", "finalize", "score"):
        words.done(stage)
    check(words, MEMBERS["trajectory"])


def test_a_person_reads_how_far_the_output_falls(scored: Project) -> None:
    told = scored.done("top", "--target", str(TARGET), "--together", "3").stdout
    assert "these 3 together: +" in told
    assert told.count("score when chosen") == 1
    assert "together:" not in scored.done("top", "--target", str(TARGET)).stdout


def test_an_estimator_without_a_gram_matrix_knows_no_groups(scored: Project) -> None:
    scored.done("score", "estimator=cosine")
    told = scored.refused(2, "top", "estimator=cosine", "--together", "3", says=("--together", "no Gram matrix"))
    assert "trajectory" in told


def test_a_group_of_all_rows_is_refused(scored: Project) -> None:
    scored.refused(2, "top", "--together", "100000", says=("--together", "training rows"))
