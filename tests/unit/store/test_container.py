"""An image holds what was given, in the same bytes each time, and other programs can open it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trak_cli.store.container import build_image, read_image
from trak_cli.store.failures import ForeignError, MissingError
from trak_cli.store.header import read_header, verify
from trak_cli.store.publish import write_image
from trak_cli.types import Json

_DTYPES = ("bool", "int8", "int64", "uint16", "uint64", "float16", "float32", "float64")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_arrays_read_back_as_written(tmp_path: Path, data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from(["gram", "rows", "a b", "über"]), max_size=3))
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    arrays = {name: data.draw(hnp.arrays(data.draw(st.sampled_from(_DTYPES)), shapes)) for name in sorted(names)}
    path = tmp_path / "image.h5"
    path.write_bytes(build_image(arrays, {"seed": 1}, {"host": "ü"}))
    image = read_image(path)
    assert (image.fingerprint, image.provenance) == ({"seed": 1}, {"host": "ü"})
    assert image.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert image.arrays[name].dtype == array.dtype
        assert image.shapes[name] == array.shape
        np.testing.assert_array_equal(image.arrays[name], array)


def test_equal_content_gives_equal_bytes_in_another_process_and_order(fingerprint: Json, provenance: Json) -> None:
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.array([True, False])}
    ours = build_image(arrays, fingerprint, provenance)
    turned = build_image(dict(reversed(arrays.items())), dict(reversed(fingerprint.items())), provenance)
    code = (
        "import sys, numpy as np; from trak_cli.store.container import build_image;"
        "a = {'b': np.arange(6.0).reshape(2, 3), 'a': np.array([True, False])};"
        f"sys.stdout.buffer.write(build_image(a, {fingerprint!r}, {provenance!r}))"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert ours == turned == elsewhere


def test_strided_and_big_endian_arrays_are_the_same_content() -> None:
    plain = np.arange(12, dtype=np.float32).reshape(3, 4)
    wide = np.zeros((3, 8), dtype=np.float32)
    wide[:, ::2] = plain
    images = [build_image({"x": array}, {}, {}) for array in (plain, wide[:, ::2], plain.astype(">f4"), plain.T.copy().T)]
    assert len(set(images)) == 1


def test_content_digest_ignores_provenance_alone(tmp_path: Path) -> None:
    base = {"x": np.arange(4, dtype=np.float32)}
    variants = {
        "base": build_image(base, {"seed": 0}, {"host": "a"}),
        "other host": build_image(base, {"seed": 0}, {"host": "b"}),
        "other seed": build_image(base, {"seed": 1}, {"host": "a"}),
        "other value": build_image({"x": base["x"] + 1}, {"seed": 0}, {"host": "a"}),
        "other shape": build_image({"x": base["x"].reshape(2, 2)}, {"seed": 0}, {"host": "a"}),
        "other name": build_image({"y": base["x"]}, {"seed": 0}, {"host": "a"}),
        "other dtype": build_image({"x": base["x"].view(np.int32)}, {"seed": 0}, {"host": "a"}),
    }
    content, digest = {}, {}
    for name, data in variants.items():
        path = tmp_path / name
        path.write_bytes(data)
        content[name], digest[name] = read_header(path).content, read_header(path).digest
        assert verify(path) == read_header(path)
        assert (read_image(path).content, read_image(path).digest) == (content[name], digest[name])
    assert content["base"] == content["other host"]
    assert len(set(content.values())) == len(variants) - 1
    assert len(set(digest.values())) == len(variants)


def test_other_programs_open_the_file(tmp_path: Path, fingerprint: Json) -> None:
    path = tmp_path / "image.h5"
    path.write_bytes(build_image({"gram": np.eye(3), "mask": np.array([True])}, fingerprint, {}))
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        np.testing.assert_array_equal(file["gram"][:], np.eye(3))
        assert file["gram"].attrs["dtype"] == b"float64"
        assert b'"rademacher"' in file.attrs["fingerprint"]


def test_a_fingerprint_may_be_megabytes_long(tmp_path: Path) -> None:
    fingerprint = {"parameters": {f"layer.{i}.weight": [i, i] for i in range(40_000)}}
    (tmp_path / "image.h5").write_bytes(build_image({}, fingerprint, {}))
    assert read_image(tmp_path / "image.h5").fingerprint == fingerprint


def test_only_the_datasets_asked_for_are_read(tmp_path: Path) -> None:
    path = tmp_path / "image.h5"
    path.write_bytes(build_image({"a": np.zeros(2), "b": np.ones(3)}, {}, {}))
    image = read_image(path, only=("b",))
    assert set(image.arrays) == {"b"}
    assert image.shapes == {"a": (2,), "b": (3,)}
    with pytest.raises(ForeignError, match="no dataset 'c'"):
        read_image(path, only=("c",))


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([{}]), np.zeros(2, complex), np.zeros(2, np.longdouble)])
def test_only_numbers_and_booleans_are_stored(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="only numbers and booleans"):
        build_image({"x": array}, {}, {})


@pytest.mark.parametrize("name", ["", "a/b", ".", "a\0b"])
def test_dataset_names_that_hdf5_would_take_for_something_else(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be named"):
        build_image({name: np.zeros(1)}, {}, {})


def test_nan_is_not_json() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        build_image({}, {"ridge": float("nan")}, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_image, read_header, verify):
        with pytest.raises(MissingError, match=r"nothing\.h5"):
            read(tmp_path / "nothing.h5")


def test_the_second_writer_of_an_image_is_told_when_the_first_one_has_another_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "image.h5"
    assert write_image(path, {"x": np.zeros(1)}, {"seed": 0}, {"host": "a"})
    before = path.read_bytes()
    assert not write_image(path, {"x": np.zeros(1)}, {"seed": 0}, {"host": "b"})
    with pytest.raises(ForeignError, match=r"fingerprint seed: found 0; expected 1"):
        write_image(path, {"x": np.zeros(1)}, {"seed": 1}, {})
    assert path.read_bytes() == before
    assert write_image(path, {"x": np.zeros(1)}, {"seed": 1}, {}, overwrite=True)
    assert read_image(path).fingerprint == {"seed": 1}
