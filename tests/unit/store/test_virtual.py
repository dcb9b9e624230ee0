"""Whole scores: one dataset for other programs, every source of it checked when this one reads it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from trak_cli.errors import StoreError
from trak_cli.store.container import read_image, write_text
from trak_cli.store.failures import DamagedError, ForeignError, MissingError
from trak_cli.store.header import VIRTUAL, verify
from trak_cli.store.layout import Layout
from trak_cli.store.publish import write_image
from trak_cli.store.tiling import Source
from trak_cli.store.virtual import assemble, is_assembled, open_scores, read_fingerprint, read_scores, score_blocks
from trak_cli.types import Rows

TRUTH = np.arange(5 * 7, dtype=np.float32).reshape(5, 7)
FINGERPRINT = {"estimator": "trak"}


def store(root: Path, split: str = "te%bst") -> tuple[Path, list[Source]]:
    """Two blocks of targets by three shards of training rows."""
    layout, sources = Layout(root), []
    for block, targets in enumerate((Rows(0, 3), Rows(3, 5))):
        for shard, train in enumerate((Rows(0, 3), Rows(3, 6), Rows(6, 7))):
            path = layout.scores_shard("trak", split, block, shard)
            cells = TRUTH[targets.start : targets.stop, train.start : train.stop]
            write_image(path, {"scores": cells}, FINGERPRINT, {"host": "a"})
            sources.append(Source(path, targets, train))
    return layout.scores("trak", split), sources


def plain(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["scores"][:]


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, list[Source]]:
    path, sources = store(tmp_path / "run")
    assemble(path, sources, TRUTH.shape, FINGERPRINT, {"host": "a"})
    return path, sources


def test_this_and_other_programs_read_the_same(whole: tuple[Path, list[Source]]) -> None:
    path, sources = whole
    np.testing.assert_array_equal(read_scores(path), TRUTH)
    np.testing.assert_array_equal(plain(path), TRUTH)
    scores = open_scores(path)
    assert (scores.shape, scores.fingerprint, scores.provenance) == ((5, 7), FINGERPRINT, {"host": "a"})
    assert [source for source, _ in scores.sources] == sources
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["te%bst", "te%bst.h5"]


def test_a_store_can_be_moved(whole: tuple[Path, list[Source]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = whole
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    shutil.move(tmp_path / "run", moved)
    monkeypatch.chdir("/")
    path = moved / path.relative_to(tmp_path / "run")
    np.testing.assert_array_equal(read_scores(path), TRUTH)
    np.testing.assert_array_equal(plain(path), TRUTH)
    monkeypatch.chdir(moved)
    np.testing.assert_array_equal(plain(path.relative_to(moved)), TRUTH)


def test_some_targets_need_only_their_sources(whole: tuple[Path, list[Source]]) -> None:
    path, sources = whole
    for start in range(5):
        for stop in range(start, 6):
            np.testing.assert_array_equal(read_scores(path, Rows(start, min(stop, 5))), TRUTH[start : min(stop, 5)])
    os.unlink(sources[-1].path)
    np.testing.assert_array_equal(read_scores(path, Rows(1, 3)), TRUTH[1:3])
    with pytest.raises(ValueError, match="not in"):
        read_scores(path, Rows(4, 6))


def test_blocks_come_source_by_source(whole: tuple[Path, list[Source]]) -> None:
    path, sources = whole
    seen = list(score_blocks(open_scores(path)))
    assert [(targets, train) for targets, train, _ in seen] == [(source.targets, source.train) for source in sources]
    for targets, train, block in seen:
        np.testing.assert_array_equal(block, TRUTH[targets.start : targets.stop, train.start : train.stop])


def test_a_missing_source_is_an_error_and_reads_as_nan_elsewhere(whole: tuple[Path, list[Source]]) -> None:
    path, sources = whole
    sources[0].path.unlink()
    sources[4].path.unlink()
    with pytest.raises(MissingError) as caught:
        read_scores(path)
    assert [problem.where for problem in caught.value.problems] == [str(sources[i].path) for i in (0, 4)]
    assert np.isnan(plain(path)).sum() == 9 + 6


def test_a_damaged_or_other_source_is_found(whole: tuple[Path, list[Source]]) -> None:
    path, sources = whole
    data = bytearray(sources[1].path.read_bytes())
    data[-1] ^= 1
    sources[1].path.write_bytes(data)
    with pytest.raises(DamagedError):
        read_scores(path)
    cells = TRUTH[0:3, 3:6]
    write_image(sources[1].path, {"scores": cells}, FINGERPRINT, {"host": "b"}, overwrite=True)
    np.testing.assert_array_equal(read_scores(path), TRUTH)  # the same content, written by another host
    write_image(sources[1].path, {"scores": cells + 1}, FINGERPRINT, {"host": "a"}, overwrite=True)
    with pytest.raises(ForeignError, match="as when the scores were assembled"):
        read_scores(path)


def test_a_virtual_file_is_current_only_for_its_sources(whole: tuple[Path, list[Source]]) -> None:
    path, sources = whole
    assert is_assembled(path, sources[::-1])
    assert not is_assembled(path, sources[1:])
    assert not is_assembled(path.with_name("none.h5"), sources)
    write_image(sources[1].path, {"scores": TRUTH[0:3, 3:6] + 1}, FINGERPRINT, {}, overwrite=True)
    assert not is_assembled(path, sources)


def test_every_bad_source_is_named_before_anything_is_written(tmp_path: Path) -> None:
    path, sources = store(tmp_path)
    sources[0].path.unlink()
    sources[1].path.write_bytes(b"short")
    write_image(sources[2].path, {"scores": np.zeros((2, 2), "f4")}, {}, {}, overwrite=True)
    write_image(sources[3].path, {"scores": np.zeros(sources[3].shape, "f8")}, {}, {}, overwrite=True)
    with pytest.raises(StoreError) as caught:
        assemble(path, sources, TRUTH.shape, FINGERPRINT, {})
    assert [problem.where for problem in caught.value.problems] == [str(source.path) for source in sources[:4]]
    assert not path.exists()


def _gap(sources: list[Source]) -> list[Source]:
    return sources[:-1]


def _twice(sources: list[Source]) -> list[Source]:
    return [*sources, sources[0]]


def _sticks_out(sources: list[Source]) -> list[Source]:
    return [*sources[:-1], Source(sources[-1].path, Rows(3, 6), Rows(6, 7))]


def _swapped_for_an_overlap(sources: list[Source]) -> list[Source]:
    return [*sources[:-1], Source(sources[-1].path, Rows(2, 4), Rows(6, 7))]


@pytest.mark.parametrize("spoil", [_gap, _twice, _sticks_out, _swapped_for_an_overlap, lambda _: []])
def test_sources_cover_the_whole_exactly_once(tmp_path: Path, spoil: Callable[[list[Source]], list[Source]]) -> None:
    path, sources = store(tmp_path)
    with pytest.raises(ForeignError, match="leave gaps, overlap or stick out"):
        assemble(path, spoil(sources), TRUTH.shape, FINGERPRINT, {})


@pytest.mark.parametrize("shape", [(4, 7), (5, 6), (6, 7), (5, 8)])
def test_sources_of_another_shape_than_the_whole(tmp_path: Path, shape: tuple[int, int]) -> None:
    path, sources = store(tmp_path)
    with pytest.raises(ForeignError, match="leave gaps, overlap or stick out"):
        assemble(path, sources, shape, FINGERPRINT, {})


def test_assembled_again_in_any_order_it_is_the_same_file(whole: tuple[Path, list[Source]]) -> None:
    path, sources = whole
    before = path.read_bytes()
    assemble(path, sources[::-1], TRUTH.shape, FINGERPRINT, {"host": "a"})
    assert path.read_bytes() == before
    assert verify(path).kind == VIRTUAL


def test_a_flipped_byte_of_the_virtual_file_is_found(whole: tuple[Path, list[Source]]) -> None:
    path, _ = whole
    data = path.read_bytes()
    for position in np.linspace(0, len(data) - 1, 200, dtype=int):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        with pytest.raises(DamagedError):
            read_scores(path)


def test_the_fingerprint_of_either_kind_of_scores_is_read(whole: tuple[Path, list[Source]]) -> None:
    path, sources = whole
    assert read_fingerprint(path) == read_fingerprint(sources[0].path) == FINGERPRINT
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError):
        read_fingerprint(path)


def test_virtual_and_plain_files_are_not_confused(whole: tuple[Path, list[Source]]) -> None:
    path, sources = whole
    with pytest.raises(ForeignError, match="a virtual dataset"):
        read_image(path)
    with pytest.raises(ForeignError, match="holds its own values"):
        open_scores(sources[0].path)


@pytest.mark.parametrize(
    ("mapped", "listed", "message"),
    [
        ("/etc/secret", "/etc/secret", "the source '/etc/secret'"),
        ("../../secret", "../../secret", "the source '../../secret'"),
        ("secret", "test/0000/000/00000.h5", "over other files than the listed ones"),
    ],
)
def test_a_virtual_file_made_to_read_elsewhere_is_refused(
    crafted: Callable[..., Path], mapped: str, listed: str, message: str
) -> None:
    def fill(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((2, 2), "f4")
        layout[:] = h5py.VirtualSource(mapped, "scores", (2, 2))
        write_text(file.create_virtual_dataset("scores", layout), "dtype", "float32")
        entry = '{"path":"%s","targets":[0,2],"train":[0,2],"content":"x"}' % listed  # noqa: UP031
        write_text(file, "sources", f'{{"sources":[{entry}]}}')

    with pytest.raises(ForeignError, match=message):
        open_scores(crafted(fill, VIRTUAL))


def test_other_layouts_are_not_accepted_as_a_virtual_file(crafted: Callable[..., Path]) -> None:
    def fill(file: h5py.File) -> None:
        write_text(file.create_dataset("scores", data=np.zeros((2, 2), "f4")), "dtype", "float32")
        write_text(file, "sources", '{"sources":[]}')

    with pytest.raises(ForeignError, match="is not virtual"):
        open_scores(crafted(fill, VIRTUAL))
