"""Any changed byte and any cut is found; a file made to harm is refused before anything in it is followed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from trak_cli.errors import MachineError
from trak_cli.store import container as image_module
from trak_cli.store.container import read_image, write_text
from trak_cli.store.failures import DamagedError, ForeignError
from trak_cli.store.header import FORMAT_VERSION, VIRTUAL, read_header, seal, verify
from trak_cli.store.shards import Condition, FeatureRows, inspect_features, read_features, write_features
from trak_cli.types import Json

Craft = Callable[..., Path]


@pytest.fixture
def shard(tmp_path: Path, values: FeatureRows, fingerprint: Json, provenance: Json) -> Path:
    path = tmp_path / "00000.h5"
    assert write_features(path, values, fingerprint, provenance)
    return path


def test_a_flip_of_any_of_500_bytes_is_found(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shard.read_bytes()
    assert read_image(shard).digest == read_header(shard).digest
    monkeypatch.setattr(image_module.h5py, "File", _never)
    for number, position in enumerate(np.linspace(0, len(whole) - 1, 500, dtype=int)):
        flipped = bytearray(whole)
        flipped[position] ^= (1 << number % 8) if number % 2 else 0xFF
        shard.write_bytes(flipped)
        with pytest.raises(DamagedError, match=r"00000\.h5"):
            read_features(shard)
        with pytest.raises(DamagedError):
            verify(shard)


def test_a_flip_of_any_byte_of_the_header_is_found(shard: Path) -> None:
    whole = shard.read_bytes()
    for position in range(512):
        shard.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert inspect_features(shard, None, None).condition is Condition.DAMAGED


def test_a_cut_of_any_length_is_found(shard: Path) -> None:
    whole = shard.read_bytes()
    for length in {0, 1, 87, 88, 511, 512, 513, len(whole) - 1, *range(0, len(whole), 97)}:
        shard.write_bytes(whole[:length])
        for read in (read_header, verify, read_features):
            with pytest.raises(DamagedError, match="cut short"):
                read(shard)
    shard.write_bytes(whole + b"\0")
    with pytest.raises(DamagedError):
        read_features(shard)


def test_the_error_says_what_to_do(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedError) as caught:
        read_features(shard)
    (problem,) = caught.value.problems
    assert problem.where == str(shard)
    assert problem.found == "a digest that does not match (bytes changed or file cut short)"
    assert "delete it and run the stage again; only this shard is recomputed" in problem.remedy


def test_a_plain_hdf5_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["features"] = np.zeros(3)
    monkeypatch.setattr(image_module.h5py, "File", _never)
    with pytest.raises(DamagedError, match="does not begin as this program's files do"):
        read_image(path)


def test_a_file_of_another_format_version_is_foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "later.h5"
    monkeypatch.setattr("trak_cli.store.header.FORMAT_VERSION", FORMAT_VERSION + 1)
    path.write_bytes(seal(memoryview(b"payload of another time"), "0" * 64, 0))
    monkeypatch.undo()
    for read in (read_header, verify, read_image):
        with pytest.raises(ForeignError, match=f"store format version {FORMAT_VERSION + 1}"):
            read(path)


def test_a_correct_digest_of_something_that_is_not_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_bytes(seal(memoryview(b"no HDF5 at all" * 100), "0" * 64, 0))
    with pytest.raises(ForeignError, match="HDF5 that cannot be read"):
        read_image(path)


def _external_link(file: h5py.File) -> None:
    file["features"] = h5py.ExternalLink("/etc/passwd", "/")


def _soft_link(file: h5py.File) -> None:
    _plain(file, "x", np.zeros(2))
    file["features"] = h5py.SoftLink("/x")


def _group(file: h5py.File) -> None:
    file.create_group("features")


def _type(file: h5py.File) -> None:
    file["features"] = np.dtype("f4")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (2,))
    write_text(file.create_virtual_dataset("features", layout), "dtype", "float32")


def _external_storage(file: h5py.File) -> None:
    dataset = file.create_dataset("features", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    write_text(dataset, "dtype", "uint8")


def _object_dtype(file: h5py.File) -> None:
    _plain(file, "features", np.array(["a", "b"], dtype=object), dtype=h5py.string_dtype())


def _reference(file: h5py.File) -> None:
    _plain(file, "features", np.array([file.ref], dtype=object), dtype=h5py.ref_dtype)


def _opaque(file: h5py.File) -> None:
    _plain(file, "features", np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))


def _enumeration(file: h5py.File) -> None:
    _plain(file, "features", np.zeros(2, dtype="i4"), dtype=h5py.enum_dtype({"A": 0, "B": 1}, basetype="i4"))


def _huge_shape(file: h5py.File) -> None:
    write_text(file.create_dataset("features", (1 << 40, 1 << 20), "f4"), "dtype", "float32")


def _chunked(file: h5py.File) -> None:
    write_text(file.create_dataset("features", (1 << 40,), "f4", chunks=(1024,)), "dtype", "float32")


def _compressed(file: h5py.File) -> None:
    _plain(file, "features", np.zeros(100_000), compression="gzip")


def _no_shape(file: h5py.File) -> None:
    write_text(file.create_dataset("features", data=h5py.Empty("f4")), "dtype", "float32")


def _extra_attribute(file: h5py.File) -> None:
    _plain(file, "features", np.zeros(2))
    file["features"].attrs["more"] = 1


def _pointer_text(file: h5py.File) -> None:
    file.attrs["fingerprint"] = "{}"  # of variable length


def _long_array_text(file: h5py.File) -> None:
    file.attrs["fingerprint"] = np.array([b"{}", b"{}"])


def _list_text(file: h5py.File) -> None:
    write_text(file, "fingerprint", "[1, 2]")


def _no_text(file: h5py.File) -> None:
    write_text(file, "provenance", "{not json")


def _not_a_number_text(file: h5py.File) -> None:
    write_text(file, "provenance", '{"a": NaN}')


def _deep_text(file: h5py.File) -> None:
    write_text(file, "provenance", '{"a":' * 30_000)


def _more_attributes(file: h5py.File) -> None:
    file.attrs["pickle"] = b"cos\nsystem\n(S'touch pwned'\ntR."


def _many(file: h5py.File) -> None:
    for number in range(65):
        _plain(file, str(number), np.zeros(1))


def _lying_dtype(file: h5py.File) -> None:
    write_text(file.create_dataset("features", data=np.zeros(2, "f4")), "dtype", "bfloat16")


def _plain(file: h5py.File, name: str, array: np.ndarray, **options: object) -> None:
    write_text(file.create_dataset(name, data=array, **options), "dtype", str(array.dtype))


_EVIL = [
    (_external_link, "link of type ExternalLink"),
    (_soft_link, "link of type SoftLink"),
    (_group, "a group or a type"),
    (_type, "a group or a type"),
    (_virtual, "is virtual"),
    (_external_storage, "keeps its values in another file"),
    (_object_dtype, "has the type object"),
    (_reference, "has the type object"),
    (_opaque, "has the type"),
    (_enumeration, "has the type"),
    (_huge_shape, "declares the shape"),
    (_chunked, "is chunked"),
    (_compressed, "is chunked"),
    (_no_shape, "has the shape None|is compact|declares"),
    (_extra_attribute, "has the attributes"),
    (_pointer_text, "the attribute 'fingerprint' of type object"),
    (_long_array_text, r"and shape \(2,\)"),
    (_list_text, "JSON that is not an object"),
    (_no_text, "HDF5 that cannot be read"),
    (_not_a_number_text, "NaN is not JSON"),
    (_deep_text, "nested too deeply"),
    (_more_attributes, "the attributes"),
    (_many, "65 objects"),
    (_lying_dtype, "called 'bfloat16'"),
]


@pytest.mark.parametrize(("fill", "message"), _EVIL, ids=lambda value: getattr(value, "__name__", ""))
def test_a_malicious_file_is_refused(crafted: Craft, fill: Callable[[h5py.File], None], message: str) -> None:
    path = crafted(fill)
    with pytest.raises(ForeignError, match=message):
        read_image(path)
    assert not Path("pwned").exists()


def test_a_crafted_file_that_is_plain_is_read(crafted: Craft) -> None:
    path = crafted(lambda file: _plain(file, "features", np.arange(3.0)))
    np.testing.assert_array_equal(read_image(path).arrays["features"], np.arange(3.0))
    with pytest.raises(ForeignError, match="a virtual dataset"):
        read_image(crafted(_virtual, VIRTUAL))


def test_something_that_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(ForeignError, match="not a file"):
        read_image(tmp_path / "pipe.h5")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises((ForeignError, MachineError), match=r"folder\.h5"):
        read_image(tmp_path / "folder.h5")


def test_a_file_that_cannot_be_read_is_named(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MachineError, match=r"00000\.h5: found Permission denied \(EACCES\) while reading"):
        read_image(shard)


def _never(*_: object, **__: object) -> None:
    raise AssertionError("HDF5 was given bytes that had not been checked")
