"""Reading HDF5 files of users: plain numeric datasets are read, everything else is refused by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from trak_cli.errors import InputError
from trak_cli.plugins import SampleFile
from trak_cli.user_hdf5 import read_user_hdf5


def test_plain_and_compressed_datasets_are_read(tmp_path: Path) -> None:
    path = tmp_path / "truth.h5"
    masks, outputs = np.eye(4, dtype=bool), np.arange(8.0).reshape(4, 2)
    with h5py.File(path, "w") as file:
        file.create_dataset("masks", data=masks, compression="gzip")
        file["outputs"] = outputs
        file["notes"] = "another dataset"
    arrays = read_user_hdf5(path, ["masks", "outputs"])
    assert set(arrays) == {"masks", "outputs"}
    np.testing.assert_array_equal(arrays["masks"], masks)
    np.testing.assert_array_equal(arrays["outputs"], outputs)


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (2,))
    file.create_virtual_dataset("masks", layout)


def _external(file: h5py.File) -> None:
    file.create_dataset("masks", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def _link(file: h5py.File) -> None:
    file["masks"] = h5py.ExternalLink("/etc/passwd", "/")


def _objects(file: h5py.File) -> None:
    file["masks"] = np.array(["a", "b"], dtype=h5py.string_dtype())


def _group(file: h5py.File) -> None:
    file.create_group("masks")


@pytest.mark.parametrize("fill", [_virtual, _external, _link, _objects, _group, lambda file: None])
def test_other_datasets_are_refused_and_each_is_named(tmp_path: Path, fill: Callable[[h5py.File], None]) -> None:
    with h5py.File(tmp_path / "truth.h5", "w") as file:
        fill(file)
    with pytest.raises(InputError) as caught:
        read_user_hdf5(tmp_path / "truth.h5", ["masks", "outputs"])
    assert [problem.where.split(": ")[1] for problem in caught.value.problems] == ["masks", "outputs"]


def test_a_file_that_is_not_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "truth.h5").write_bytes(b"not HDF5")
    for name in ("truth.h5", "nothing.h5"):
        with pytest.raises(InputError, match=name):
            read_user_hdf5(tmp_path / name, ["masks"])


@contextmanager
def held_by_another_process(path: Path, options: str, then: str = "") -> Iterator[None]:
    """A file with x = 0..5 and y = x that another process keeps open for writing."""
    code = f"""
import h5py, numpy, sys
file = h5py.File({str(path)!r}, "w"{options})
file["x"], file["y"] = numpy.arange(6.0), numpy.arange(6)
file.flush()
{then}
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.communicate()


@pytest.mark.parametrize(
    ("options", "then"),
    [
        ("", ""),
        (", libver=('earliest', 'v108')", ""),
        (", libver='latest'", "file.swmr_mode = True"),
    ],
)
def test_files_that_another_process_has_open_for_writing_are_read(tmp_path: Path, options: str, then: str) -> None:
    path = tmp_path / "samples.h5"
    with held_by_another_process(path, options, then):
        np.testing.assert_array_equal(read_user_hdf5(path, ["x"])["x"], np.arange(6.0))
        samples = SampleFile(str(path))
        assert len(samples) == 6
        assert [value.item() for value in samples[4]] == [4.0, 4]


def test_a_file_that_this_process_has_open_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "samples.h5", "w") as file:
        file["x"] = np.arange(3.0)
    with h5py.File(tmp_path / "samples.h5", "r"):
        np.testing.assert_array_equal(read_user_hdf5(tmp_path / "samples.h5", ["x"])["x"], np.arange(3.0))


def test_a_file_that_hdf5_itself_refuses_while_it_is_written_says_who_must_close_it(tmp_path: Path) -> None:
    path = tmp_path / "samples.h5"
    with held_by_another_process(path, ", libver='latest'"), pytest.raises(InputError) as refused:
        read_user_hdf5(path, ["x"])
    assert "h5clear -s" in refused.value.problems[0].remedy
