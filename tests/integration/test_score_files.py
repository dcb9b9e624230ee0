"""The whole of an estimator's scores and its units, when either is replaced, deleted or damaged."""

from __future__ import annotations

import json
import shutil
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
TOP = ("score.top_k=3", "worker.part_rows=16")


def folder_of(project: Project) -> Path:
    """Where the scores of the default estimator are."""
    (folder,) = (project.store / "scores").iterdir()
    return folder


def whole_of(project: Project, kind: tuple[str, ...]) -> Path:
    return folder_of(project) / ("test.h5" if kind == DENSE else "test.topk.h5")


@pytest.mark.parametrize(("old", "new"), [(DENSE, TOP), (TOP, DENSE)], ids=["dense-to-top", "top-to-dense"])
def test_dense_scores_and_extremes_replace_each_other(finalized: Project, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    finalized.done("score", *old)
    finalized.refused(STORE, "score", *new, says=("fingerprint top_k", "score.overwrite=true"))
    finalized.done("score", *new, "score.overwrite=true")
    assert not whole_of(finalized, old).exists(), "it would refer to units that are gone"
    assert whole_of(finalized, new).exists()
    finalized.done("top", "--target", "3", "-k", "2")


@pytest.mark.parametrize(("old", "new"), [(DENSE, TOP), (TOP, DENSE)], ids=["dense-to-top", "top-to-dense"])
def test_a_file_of_the_other_kind_is_refused_even_without_its_units(
    finalized: Project, old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    finalized.done("score", *old)
    shutil.rmtree(folder_of(finalized) / "test", ignore_errors=True)
    where = str(whole_of(finalized, old).relative_to(finalized.folder))
    finalized.refused(STORE, "score", *new, says=(where, "fingerprint top_k", "score.overwrite=true"))


def test_a_block_that_differs_in_its_last_bits_is_accepted(scored: Project) -> None:
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


# Top-k candidates


@pytest.fixture
def candidates(finalized: Project, tmp_path: Path) -> Path:
    """Copies of some candidates, as they are before all units are done."""
    for index in range(2):  # two workers of three
        finalized.done("score", *TOP, f"worker.index={index}", "worker.count=3")
    copy = tmp_path / "candidates"
    shutil.copytree(folder_of(finalized) / "test", copy)
    assert len(list(copy.rglob("*.h5"))) > 2
    return copy


def units(project: Project) -> list[Path]:
    return list((folder_of(project) / "test").rglob("*"))


def test_candidates_are_removed_once_they_are_merged(finalized: Project, candidates: Path) -> None:
    assert not whole_of(finalized, TOP).exists()
    finalized.done("score", *TOP, "worker.index=2", "worker.count=3")
    assert whole_of(finalized, TOP).exists()
    assert sorted(folder_of(finalized).iterdir()) == [whole_of(finalized, TOP)], "what remains is the final file"
    finalized.done("top", "--target", "3", "-k", "2")


@pytest.mark.parametrize("worker", [(), ("worker.index=1", "worker.count=3")], ids=["all", "one-of-three"])
def test_the_merge_completes_the_work(finalized: Project, worker: tuple[str, ...]) -> None:
    finalized.done("score", *TOP)
    before = finalized.files()
    (split,) = json.loads(finalized.done("score", *TOP, *worker, "--json").stdout)["splits"]
    assert (split["written"], split["complete"]) == (0, True)
    assert split["already_there"] > 0
    assert finalized.files() == before


def test_leftover_candidates_are_removed_by_the_next_run(finalized: Project, candidates: Path) -> None:
    """As where a worker was killed while it removed them, or was slower than the one that merged."""
    finalized.done("score", *TOP)
    before = finalized.files()
    shutil.copytree(candidates, folder_of(finalized) / "test")
    next((folder_of(finalized) / "test").rglob("*.h5")).write_bytes(b"cut short")
    finalized.done("score", *TOP)
    assert finalized.files() == before
    assert not units(finalized)


def test_a_lost_final_file_is_merged_again(finalized: Project, candidates: Path) -> None:
    finalized.done("score", *TOP)
    whole = whole_of(finalized, TOP)
    before = read_image(whole)
    whole.unlink()
    shutil.copytree(candidates, folder_of(finalized) / "test")
    finalized.done("score", *TOP)
    assert read_image(whole).content == before.content
    assert not units(finalized)


def test_candidates_of_other_scores_beside_the_final_file_are_refused(finalized: Project, candidates: Path) -> None:
    finalized.done("score", *TOP)
    stray = folder_of(finalized) / "test" / "0000" / "000" / "00000.h5"
    write_image(stray, {}, {"kind": "other"}, {})
    finalized.refused(STORE, "score", *TOP, says=(stray.name, "score.overwrite=true"))
    finalized.done("score", *TOP, "score.overwrite=true")
    assert not stray.exists()
