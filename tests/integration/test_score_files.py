"""The whole of an estimator's scores and its units, when either is replaced, deleted or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_project import Project

STORE = 3
DENSE: tuple[str, ...] = ()
TOP = ("score.top_k=3",)


def folder_of(project: Project) -> Path:
    """Where the scores of the default estimator are."""
    (folder,) = (project.store / "scores").iterdir()
    return folder


def whole_of(project: Project, kind: tuple[str, ...]) -> Path:
    return folder_of(project) / ("test.h5" if kind == DENSE else "test.topk.h5")


@pytest.mark.parametrize(("old", "new"), [(DENSE, TOP), (TOP, DENSE)], ids=["dense-to-top", "top-to-dense"])
def test_of_dense_scores_and_extremes_one_takes_the_place_of_the_other(
    finalized: Project, old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    finalized.done("score", *old)
    finalized.refused(STORE, "score", *new, says=("fingerprint top_k", "score.overwrite=true"))
    finalized.done("score", *new, "score.overwrite=true")
    assert not whole_of(finalized, old).exists(), "it would refer to units that are gone"
    assert whole_of(finalized, new).exists()
    finalized.done("top", "--target", "3", "-k", "2")


@pytest.mark.parametrize(("old", "new"), [(DENSE, TOP), (TOP, DENSE)], ids=["dense-to-top", "top-to-dense"])
def test_a_whole_of_the_other_kind_is_refused_without_its_units_too(
    finalized: Project, old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    finalized.done("score", *old)
    for unit in (folder_of(finalized) / "test").rglob("*.h5"):
        unit.unlink()
    where = str(whole_of(finalized, old).relative_to(finalized.folder))
    finalized.refused(STORE, "score", *new, says=(where, "fingerprint top_k", "score.overwrite=true"))
