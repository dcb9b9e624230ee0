"""Files whose bytes differ in their values only are not parsed again; what is read is what HDF5 reads."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest

from trak_cli.store import hdf5_validation
from trak_cli.store.container import build_image, read_image
from trak_cli.store.failures import ForeignError
from trak_cli.store.header import PLAIN, seal

DTYPES = ("float32", "float64", "uint16", "int8", "int64", "uint64", "bool")


def write(path: Path, arrays: dict[str, np.ndarray], fingerprint: dict[str, object]) -> bytes:
    data = build_image(arrays, fingerprint, {"host": "here"})
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("seed", range(12))
def test_every_file_of_a_random_series_reads_as_hdf5_reads_it(tmp_path: Path, seed: int) -> None:
    """Two structures in turns, with sizes from nothing to two dimensions, and a few files of each."""
    generator = np.random.default_rng(seed)
    structures = [
        {
            f"d{number}": (str(generator.choice(DTYPES)), tuple(generator.integers(0, 40, generator.integers(1, 3)).tolist()))
            for number in range(generator.integers(1, 5))
        }
        for _ in range(2)
    ]
    path = tmp_path / "a.h5"
    for number in range(6):
        structure = structures[number % 2]
        arrays = {name: generator.integers(0, 2, shape).astype(dtype) for name, (dtype, shape) in structure.items()}
        data = write(path, arrays, {"number": number // 4})
        image = read_image(path)
        with h5py.File(io.BytesIO(data)) as file:
            assert set(image.arrays) == set(file)
            for name in file:
                assert image.arrays[name].dtype == file[name].dtype
                np.testing.assert_array_equal(image.arrays[name], file[name][()])
        assert image.fingerprint == {"number": number // 4}


def test_shards_of_one_structure_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    vet = hdf5_validation.vet
    monkeypatch.setattr(hdf5_validation, "vet", lambda path, *rest: (parsed.append(path), vet(path, *rest)))
    for number in range(5):
        path = tmp_path / f"{number}.h5"
        write(path, {"features": np.full((7, 3), number, np.float32)}, {"kind": "parsed once"})
        np.testing.assert_array_equal(read_image(path).arrays["features"], np.full((7, 3), number, np.float32))
    assert len(parsed) == 1


@pytest.mark.parametrize("old", [b"float32", b"first", b"fingerprint"], ids=["dtype", "text", "name-of-an-attribute"])
def test_a_file_that_differs_outside_its_values_is_parsed_by_itself(tmp_path: Path, old: bytes) -> None:
    path = tmp_path / "a.h5"
    data = write(path, {"features": np.ones((7, 3), np.float32)}, {"kind": "first"})
    read_image(path)
    changed = data[512:].replace(old, old[:-1] + b"!")
    assert changed != data[512:]
    path.write_bytes(seal(memoryview(changed), "0" * 64, PLAIN))
    with pytest.raises(ForeignError):  # HDF5 has checksums of its own
        read_image(path)
    write(path, {"features": np.zeros((7, 3), np.float32)}, {"kind": "other"})
    assert read_image(path).fingerprint == {"kind": "other"}


def test_arrays_that_share_the_bytes_of_the_file_cannot_be_written_to(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path, {"large": np.ones((100, 30), np.float32), "small": np.ones(3, np.float32)}, {})
    image = read_image(path)
    with pytest.raises(ValueError, match="read-only"):
        image.arrays["large"][0] = 0
    image.arrays["small"][0] = 0
    assert read_image(path).arrays["small"][0] == 1
