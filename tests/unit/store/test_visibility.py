"""A file that another machine writes may be seen late or in parts: it is waited for, for a short time, if it is recent."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trak_cli.store.atomic_write import write_once
from trak_cli.store.failures import DamagedError
from trak_cli.store.json_files import read_json, write_json_once
from trak_cli.store.safety import visibility
from trak_cli.store.safety.visibility import wait_until_visible
from trak_cli.store.shards import FeatureRows, read_features, write_features
from trak_cli.types import Json

PAUSES = (0.01, 0.02, 0.04, 0.08, 0.16)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "PAUSES", PAUSES)


def later(action: Callable[[], object]) -> threading.Thread:
    """Do something while a reader waits."""
    thread = threading.Timer(0.03, action)
    thread.start()
    return thread


@pytest.mark.parametrize("visible", [0, 1, 600, -1])
def test_a_shard_whose_bytes_are_not_all_there_is_waited_for(
    tmp_path: Path, values: FeatureRows, fingerprint: Json, provenance: Json, visible: int
) -> None:
    path = tmp_path / "00000.h5"
    write_features(path, values, fingerprint, provenance)
    whole = path.read_bytes()
    path.write_bytes(whole[:visible])
    thread = later(lambda: path.write_bytes(whole))
    assert (read_features(path).features == values.features).all()
    thread.join()


def test_a_record_that_is_still_empty_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json_once(path, {"rows": 3})
    whole = path.read_bytes()
    path.write_bytes(b"")
    thread = later(lambda: path.write_bytes(whole))
    assert read_json(path) == {"rows": 3}
    thread.join()


def test_damage_that_lasts_is_an_error_and_an_old_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"{")
    for age, waits in ((0, True), (3600, False)):
        os.utime(path, (time.time() - age,) * 2)
        begun = time.monotonic()
        with pytest.raises(DamagedError):
            read_json(path)
        assert (time.monotonic() - begun >= sum(PAUSES)) == waits


def test_a_name_that_is_taken_but_not_visible_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"theirs")
    exists, hidden = Path.exists, [True] * 3
    monkeypatch.setattr(Path, "exists", lambda self: exists(self) and not (self == path and hidden and hidden.pop()))
    assert not write_once(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert not hidden


def test_names_that_never_appear_are_given_up(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert wait_until_visible([tmp_path / "a"])
    assert not wait_until_visible([tmp_path / "a", tmp_path / "b"])
