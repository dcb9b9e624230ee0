"""A file exists completely or not at all, whichever process is killed or also writes it; temporary files are removed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trak_cli.errors import MachineError
from trak_cli.store import atomic_write as promote
from trak_cli.store.atomic_write import STEPS, remove, replace, set_aside, write_once
from trak_cli.store.container import build_image
from trak_cli.store.header import verify
from trak_cli.store.shards import FeatureRows, write_features
from trak_cli.store.temp_files import sweep, temporary_of, this_host
from trak_cli.types import Json

DATA = bytes(range(256)) * 40


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked process; returns what ``os.wait`` says, as an exit code or minus a signal."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            work()
            code = 0
        except MachineError:
            code = 5
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step: str, work: Callable[[], object]) -> int:
    def kill(reached: str, path: Path) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        promote.on_step = kill
        work()

    return in_child(run)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_every_step_is_announced_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Path]] = []
    monkeypatch.setattr(promote, "on_step", lambda step, path: seen.append((step, path)))
    path = tmp_path / "a" / "b" / "00000.h5"
    assert write_once(path, DATA)
    assert seen == [(step, path) for step in STEPS]
    seen.clear()
    replace(path, b"other")
    assert seen == [(step, path) for step in STEPS]
    assert path.read_bytes() == b"other"
    assert names(path.parent) == ["00000.h5"]


def test_the_first_writer_wins_and_the_second_changes_nothing(tmp_path: Path) -> None:
    assert write_once(tmp_path / "x", b"first")
    assert not write_once(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("write", [write_once, replace])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_and_run_again(tmp_path: Path, step: str, write: Callable[[Path, bytes], object]) -> None:
    path = tmp_path / "00000.h5"
    assert killed_at(step, lambda: write(path, DATA)) == -signal.SIGKILL
    assert not path.exists() or path.read_bytes() == DATA
    assert path.exists() == (STEPS.index(step) >= STEPS.index("promoted"))
    write(path, DATA)
    assert path.read_bytes() == DATA
    assert names(tmp_path) == ["00000.h5"]


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_shard_is_the_same_when_run_again(
    tmp_path: Path, step: str, values: FeatureRows, fingerprint: Json, provenance: Json
) -> None:
    undisturbed, path = tmp_path / "calm" / "00000.h5", tmp_path / "killed" / "00000.h5"
    write_features(undisturbed, values, fingerprint, provenance)
    assert killed_at(step, lambda: write_features(path, values, fingerprint, provenance)) == -signal.SIGKILL
    write_features(path, values, fingerprint, provenance)
    sweep(tmp_path)
    assert path.read_bytes() == undisturbed.read_bytes()
    assert names(path.parent) == ["00000.h5"]


def test_replace_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"old")
    for step in STEPS[: STEPS.index("promoted")]:
        assert killed_at(step, lambda: replace(path, DATA)) == -signal.SIGKILL
        assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 1 + STEPS.index("promoted")
    replace(path, DATA)
    assert names(tmp_path) == ["plan.json"]


def test_a_loser_whose_temporary_was_removed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "00000.h5"

    def overtaken(step: str, _: Path) -> None:
        if step == "half-written" and not path.exists():
            monkeypatch.setattr(promote, "on_step", lambda *_: None)
            assert write_once(path, b"the winner's")
            assert names(tmp_path) == ["00000.h5"], "the winner removes the loser's temporary"

    monkeypatch.setattr(promote, "on_step", overtaken)
    assert write_once(path, b"the loser's") is False
    assert path.read_bytes() == b"the winner's"
    assert names(tmp_path) == ["00000.h5"]


def test_a_writer_whose_temporary_file_was_removed_by_others_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(step: str, _: Path) -> None:
        if step == "synced":
            for entry in tmp_path.iterdir():
                entry.unlink()

    monkeypatch.setattr(promote, "on_step", remove)
    with pytest.raises(MachineError, match="ENOENT"):
        write_once(tmp_path / "00000.h5", DATA)
    with pytest.raises(MachineError, match="ENOENT"):
        replace(tmp_path / "00000.h5", DATA)
    assert names(tmp_path) == []


def test_replace_begins_again_when_another_writer_removed_its_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"

    def overtaken(step: str, _: Path) -> None:
        if step == "synced":
            monkeypatch.setattr(promote, "on_step", lambda *_: None)
            replace(path, b"another's")

    monkeypatch.setattr(promote, "on_step", overtaken)
    replace(path, b"ours")
    assert path.read_bytes() == b"ours"
    assert names(tmp_path) == ["plan.json"]


def test_threads_racing_on_the_same_files(tmp_path: Path) -> None:
    images = [build_image({"x": np.full(2000, number)}, {}, {"writer": number}) for number in range(4)]
    wins: list[tuple[int, int]] = []
    errors: list[BaseException] = []
    together = threading.Barrier(len(images))

    def race(number: int) -> None:
        try:
            for file in range(25):
                together.wait(20)
                if write_once(tmp_path / f"{file:05}.h5", images[number]):
                    wins.append((file, number))
        except BaseException as error:
            errors.append(error)
            together.abort()

    threads = [threading.Thread(target=race, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(file for file, _ in wins) == list(range(25)), "each file has exactly one winner"
    for file, number in wins:
        assert (tmp_path / f"{file:05}.h5").read_bytes() == images[number]
    assert names(tmp_path) == [f"{file:05}.h5" for file in range(25)]


def _write_shards(folder: Path, values: FeatureRows, together: object) -> None:
    for number in range(10):
        together.wait(20)  # type: ignore[attr-defined]
        write_features(folder / f"{number:05}.h5", values, {"seed": 0}, {"writer": os.getpid()})


def test_processes_racing_on_the_same_shards(tmp_path: Path, values: FeatureRows) -> None:
    context = multiprocessing.get_context("fork")
    together = context.Barrier(3)
    writers = [context.Process(target=_write_shards, args=(tmp_path, values, together)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert names(tmp_path) == [f"{number:05}.h5" for number in range(10)]
    assert len({verify(path).content for path in tmp_path.iterdir()}) == 1


def test_a_file_size_limit_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_once(tmp_path / "00000.h5", DATA)
        except MachineError as error:
            (problem,) = error.problems
            if "EFBIG" in problem.found and "10,240 bytes" in problem.expected:
                raise

    assert in_child(limited) == MachineError.exit_code
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", [write_once, replace])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_write_that_fails_midway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, write: Callable[[Path, bytes], object]
) -> None:
    real, calls = os.write, []

    def failing(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 2:
            raise OSError(number, os.strerror(number))
        return real(descriptor, data[:100])

    monkeypatch.setattr(os, "write", failing)
    with pytest.raises(MachineError) as caught:
        write(tmp_path / "00000.h5", DATA)
    (problem,) = caught.value.problems
    assert problem.where == str(tmp_path / "00000.h5")
    assert errno.errorcode[number] in problem.found
    assert f"{len(DATA):,} bytes" in problem.expected
    assert ("are free on the disk" in problem.found) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert names(tmp_path) == []


@pytest.mark.parametrize("call", ["open", "fsync", "link", "mkdir"])
def test_a_folder_without_write_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    path = tmp_path / "folder" / "00000.h5"
    if call != "mkdir":
        path.parent.mkdir()
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(MachineError, match="make the folder writable"):
        write_once(path, DATA)
    monkeypatch.undo()
    assert not path.exists()
    assert not path.parent.exists() or names(path.parent) == []


def test_a_read_only_folder() -> None:
    def write() -> None:
        if os.geteuid() == 0:  # root may write anywhere
            os.setuid(65534)
        try:
            write_once(folder / "00000.h5", DATA)
        except MachineError as error:
            if "EACCES" in error.problems[0].found and error.problems[0].where == str(folder / "00000.h5"):
                raise

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        assert in_child(write) == MachineError.exit_code
        assert names(folder) == []
        folder.chmod(0o755)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    assert write_once(tmp_path / "x", DATA)
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    assert write_once(tmp_path / "x", b"first")

    def overtaken(step: str, path: Path) -> None:
        if step == "synced":
            (tmp_path / "y").write_bytes(b"another's")

    monkeypatch.setattr(promote, "on_step", overtaken)
    assert not write_once(tmp_path / "y", b"ours")
    assert ((tmp_path / "x").read_bytes(), (tmp_path / "y").read_bytes()) == (b"first", b"another's")
    assert names(tmp_path) == ["x", "y"]


def test_a_link_whose_reply_was_lost_counts_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def twice(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert write_once(tmp_path / "x", DATA)


def test_a_folder_that_cannot_be_synced_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert write_once(tmp_path / "x", DATA)


def test_sweep_removes_stale_temporary_files_and_nothing_else(tmp_path: Path) -> None:
    dead = os.fork() or os._exit(0)
    os.waitpid(dead, 0)
    folder = tmp_path / "features" / "m.1" / "train"
    folder.mkdir(parents=True)
    (folder / "00000.h5").write_bytes(DATA)
    tail = "0123456789abcdef.tmp"
    kept = {
        "00000.h5",
        f".00001.h5.{this_host()}.{os.getpid()}.{tail}",  # a writer that lives
        f".00001.h5.elsewhere.{dead}.{tail}",  # another host's processes cannot be seen from here
        ".somebody's.tmp",
        "notes.tmp",
    }
    gone = {
        f".00000.h5.elsewhere.{dead}.{tail}",  # its final file exists
        f".00000.h5.{this_host()}.{os.getpid()}.{tail}",
        f".00002.h5.{this_host()}.{dead}.{tail}",  # its writer is dead
    }
    for name in (kept | gone) - {"00000.h5"}:
        (folder / name).touch()
    assert sweep(tmp_path) == len(gone)
    assert set(names(folder)) == kept
    assert sweep(tmp_path) == 0
    assert sweep(tmp_path / "nowhere") == 0


def test_a_writer_leaves_the_temporaries_of_other_files_alone(tmp_path: Path) -> None:
    other = temporary_of(tmp_path / "00000.h5.old")
    other.touch()
    mine = temporary_of(tmp_path / "00000.h5")
    mine.touch()
    assert temporary_of(tmp_path / "00000.h5") != mine
    assert write_once(tmp_path / "00000.h5", DATA)
    assert names(tmp_path) == sorted(["00000.h5", other.name])


def test_the_published_file_equals_the_built_image(tmp_path: Path) -> None:
    data = build_image({"x": np.arange(10)}, {}, {})
    assert write_once(tmp_path / "x.h5", data)
    assert verify(tmp_path / "x.h5").length == len(data) - 512


def test_a_damaged_file_is_renamed_and_never_deleted(tmp_path: Path) -> None:
    path = tmp_path / "00000.h5"
    for damage in (b"first", b"second", b"third"):
        path.write_bytes(damage)
        aside = set_aside(path)
        assert aside.read_bytes() == damage
    assert names(tmp_path) == ["00000.h5.damaged", "00000.h5.damaged2", "00000.h5.damaged3"]


def test_two_processes_may_set_the_same_file_aside(tmp_path: Path) -> None:
    path = tmp_path / "00000.h5"
    path.write_bytes(b"damaged")
    set_aside(path)
    set_aside(path)
    assert names(tmp_path) == ["00000.h5.damaged"]


def test_removing_a_missing_file_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(DATA)
    remove(path)
    remove(path)
    assert names(tmp_path) == []

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    path.write_bytes(DATA)
    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    for change in (remove, set_aside):
        with pytest.raises(MachineError, match=r"x\.h5: found Read-only file system"):
            change(path)


def test_a_folder_deleted_while_a_file_is_written_is_recreated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may remove a folder that it has just emptied."""
    path = tmp_path / "folder" / "x.h5"
    removed = []

    def hook(step: str, where: Path) -> None:
        if step == "written" and not removed:
            removed.append(step)
            shutil.rmtree(path.parent)

    monkeypatch.setattr(promote, "on_step", hook)
    assert write_once(path, DATA)
    assert path.read_bytes() == DATA
    assert names(path.parent) == ["x.h5"]


def test_empty_folders_are_removed_and_others_stay(tmp_path: Path) -> None:
    for folder in ("a/b/c", "a/d"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a" / "d" / "file").touch()
    promote.remove_empty_folders(tmp_path / "a")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["a", "a/d", "a/d/file"]
    promote.remove_empty_folders(tmp_path / "nothing")
