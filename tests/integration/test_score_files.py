"""The whole of an estimator's scores and its units, when either is replaced, deleted or damaged."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny_project import Project

from trak_cli.store.container import read_image
from trak_cli.store.publish import write_image
from trak_cli.store.virtual import read_scores

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


def test_a_block_that_comes_out_with_other_last_bits_is_taken_up(scored: Project) -> None:
    """As where a damaged block is deleted and another kind of CPU computes it again."""
    whole = whole_of(scored, DENSE)
    block = folder_of(scored) / "test" / "0000" / "000" / "00001.h5"
    image = read_image(block)
    again = np.nextafter(image.arrays["scores"], np.float32(np.inf))
    write_image(block, {"scores": again}, image.fingerprint, {}, overwrite=True)
    scored.refused(STORE, "top", says=(block.name, whole.name, "as when the scores were assembled", "run trak score again"))
    scored.done("score")
    np.testing.assert_array_equal(read_scores(whole)[: len(again), 16:32], again)
    with h5py.File(whole) as file:
        np.testing.assert_array_equal(file["scores"][: len(again), 16:32], again)
    before = scored.files()
    scored.done("score")
    assert scored.files() == before, "what is assembled of the units as they are stays"


def test_a_deleted_block_is_computed_again(scored: Project) -> None:
    whole = whole_of(scored, DENSE)
    before = scored.files()
    block = folder_of(scored) / "test" / "0001" / "000" / "00000.h5"
    block.unlink()
    scored.refused(STORE, "top", "--target", "9", says=(block.name, "run the stage that writes it"))
    scored.done("score")
    assert scored.files().keys() == before.keys()
    assert scored.files()[str(whole)] == before[str(whole)], "with the same content it is the same file"
