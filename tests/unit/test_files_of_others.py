"""Files that somebody else made to do harm: no code runs, nothing outside is read, and no memory is filled."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from trak_cli.config.load import load
from trak_cli.config.stored import read_stored
from trak_cli.errors import ConfigError, InputError, StoreError, TrakError
from trak_cli.plugins.checkpoints.archive import read_archive
from trak_cli.plugins.checkpoints.formats.folders import weights_in
from trak_cli.results.exchange.contract import Source
from trak_cli.results.exchange.registry import FORMATS, read_table
from trak_cli.stages.evaluation.user_arrays import read_array_file
from trak_cli.store.json_files import read_json, write_json_once
from trak_cli.store.layout import Layout
from trak_cli.types import Rows
from trak_cli.user_files import parse_json, read_text
from trak_cli.user_hdf5 import read_user_hdf5
from trak_cli.user_yaml import parse_yaml

TERABYTE = 10**12


class Called:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def pickled(path: Path, content: object) -> None:
    """What torch.save writes, with any content."""
    torch.save(content, path)


def lying_npy(shape: str) -> bytes:
    """A .npy file whose header declares this shape."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


def zipped(path: Path, name: str, size: int, chunk: bytes = bytes(1 << 20)) -> None:
    """A zip archive with one member of many zeros."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(size // len(chunk)):
            member.write(chunk)


@pytest.mark.parametrize(
    "content",
    [
        Called(bytes, TERABYTE),
        Called(bytearray, TERABYTE),
        Called(list, range(10**11)),
        {"model": {"w": Called(torch.Tensor, TERABYTE)}},
        [Called(str, Called(bytes, TERABYTE), "latin1")],
    ],
    ids=["bytes", "bytearray", "list", "tensor", "text"],
)
def test_a_checkpoint_that_asks_for_much_memory_is_refused(tmp_path: Path, content: object) -> None:
    pickled(tmp_path / "c.pt", content)
    with pytest.raises(InputError):
        read_archive(tmp_path / "c.pt")


@pytest.mark.parametrize("function", [os.system, eval, exec, open, __import__, pickle.loads])
def test_a_checkpoint_that_calls_a_function_is_refused(tmp_path: Path, function: Callable[..., object]) -> None:
    pickled(tmp_path / "c.pt", {"w": Called(function, f"touch {tmp_path / 'pwned'}")})
    with pytest.raises(InputError):
        read_archive(tmp_path / "c.pt")
    assert not (tmp_path / "pwned").exists()


def test_a_name_of_megabytes_in_a_checkpoint_is_refused_at_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("c/data.pkl", b"\x80\x02c" + b"m" * (4 << 20) + b"\nf\n.")
        archive.writestr("c/version", b"3\n")
        archive.writestr("c/byteorder", b"little")
    begun = time.monotonic()
    with pytest.raises(InputError):
        read_archive(tmp_path / "c.pt")
    assert time.monotonic() - begun < 20


def test_arrays_of_numbers_and_texts_are_read_from_a_pickle_and_no_others(tmp_path: Path) -> None:
    for code in ("m8", "M8[s]", "O", "V8", "f8,i4"):
        pickled(tmp_path / "c.pt", [np.zeros(2, code)])
        with pytest.raises(InputError):
            read_archive(tmp_path / "c.pt")
    pickled(
        tmp_path / "c.pt",
        {"a": np.arange(6.0).reshape(2, 3).T, "b": np.float32(2), "c": np.array(["x"]), "d": np.array(5, ">i2")},
    )
    content = read_archive(tmp_path / "c.pt")
    np.testing.assert_array_equal(content["a"], np.arange(6.0).reshape(2, 3).T)
    assert (content["b"], content["c"].tolist(), content["d"]) == (2, ["x"], 5)


@pytest.mark.parametrize("shape", ["(10**13,)", "(1000000, 1000000)", f"({2**62}, 4)", "(-1, 3)", "(1,) * 99", "(9,)"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_array_that_is_shorter_than_its_shape_is_refused(tmp_path: Path, shape: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        path.write_bytes(lying_npy(shape))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("scores.npy", lying_npy(shape))
    with pytest.raises(InputError):
        read_array_file(path, ("scores",))
    with pytest.raises(InputError):
        read_table(FORMATS["npz"], Source(path, None, tmp_path))


def test_an_archive_that_expands_a_thousandfold_is_refused(tmp_path: Path) -> None:
    zipped(tmp_path / "a.npz", "scores.npy", 300 << 20)
    assert (tmp_path / "a.npz").stat().st_size < 2 << 20
    for read in (lambda path: read_archive(path), lambda path: read_table(FORMATS["npz"], Source(path, None, tmp_path))):
        with pytest.raises(InputError, match="at most 100 times"):
            read(tmp_path / "a.npz")


_ZEROS = zlib.compress(bytes(2**24))


def _unwritten(file: h5py.File) -> None:
    file.create_dataset("scores", (10**6, 10**6), "f8", chunks=(1000, 1000))


def _compressed(file: h5py.File) -> None:
    dataset = file.create_dataset("scores", (2**22, 32), "f4", chunks=(2**22, 1), compression="gzip")
    for column in range(32):
        dataset.id.write_direct_chunk((0, column), _ZEROS)


def _external(file: h5py.File) -> None:
    file.create_dataset("scores", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def _linked(file: h5py.File) -> None:
    file["scores"] = h5py.ExternalLink("/etc/passwd", "/")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("scores", layout)


@pytest.mark.parametrize("fill", [_unwritten, _compressed, _external, _linked, _virtual], ids=lambda fill: fill.__name__)
def test_an_hdf5_file_that_lies_or_leads_elsewhere_is_refused(tmp_path: Path, fill: Callable[[h5py.File], None]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        fill(file)
    with pytest.raises(InputError):
        read_user_hdf5(tmp_path / "a.h5", ["scores"])


_HEADER = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'


@pytest.mark.parametrize("length", [2**62, 10**9, 3])
def test_a_safetensors_header_that_lies_about_its_length_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "a.safetensors").write_bytes(
        struct.pack("<Q", length) + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    )
    with pytest.raises(InputError):
        read_archive(tmp_path / "a.safetensors")


def test_a_json_document_of_gigabytes_or_of_many_levels_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(ValueError, match="more than"):
        read_text(tmp_path / "big.json")
    with pytest.raises(StoreError, match="a small JSON document"):
        read_json(tmp_path / "big.json")
    for text in ("[" * 10**6, '{"a":' * 10**5, "[" * 100 + "]" * 100, '"\\ud800"', "9" * 10**5):
        with pytest.raises(ValueError, match=r"JSON|surrogates|digits|Expecting"):
            parse_json(text)


_LEVELS = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9) if i else '1'}]\n" for i in range(12))


@pytest.mark.parametrize(
    "text",
    [
        _LEVELS,
        "a: " + "[" * 200 + "]" * 200,
        "a: &a [*a]",
        "&a {b: *a}",
        "x: " + "a" * (1 << 21),
        "a: !!python/object:os.system ls",
    ],
    ids=["aliases", "levels", "itself", "mapping itself", "long", "object"],
)
def test_yaml_that_expands_without_limit_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"alias|levels|characters|constructor|more than"):
        parse_yaml(text)
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(StoreError):
        read_stored(tmp_path / "c.yaml")
    with pytest.raises(ConfigError):
        load("score", None, tmp_path, [])


def test_yaml_with_a_few_aliases_is_read() -> None:
    assert parse_yaml("a: &x {k: [1, 2]}\nb: *x\nc: [*x, *x]") == {"a": (x := {"k": [1, 2]}), "b": x, "c": [x, x]}


def test_a_named_file_of_a_checkpoint_or_of_scores_is_never_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    (folder / "scores").mkdir(parents=True)
    (tmp_path / "mp_rank_00_model_states.pt").write_bytes(b"x")
    (folder / "latest").write_text("..")
    assert weights_in(folder) is None
    np.save(tmp_path / "secret.npy", np.zeros((2, 2)))
    (tmp_path / "secret.npy").rename(tmp_path / "secret.mmap")
    (folder / "experiments.json").write_text(json.dumps({"../../secret": {"scores_finalized": 1, "num_targets": 2}}))
    (folder / "metadata.json").write_text(json.dumps({"train set size": 2}))
    with pytest.raises(InputError, match="the name of a file"):
        read_table(FORMATS["traker"], Source(folder, None, tmp_path))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "../mp_rank_00_model_states.pt"}}))
    from trak_cli.plugins.checkpoints.formats.sharded import files_of_index

    with pytest.raises(InputError, match="files beside the index"):
        files_of_index(folder / "model.safetensors.index.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("offsets", [value, 4]) for value in (2**31 - 1, 2**31 - 5, -4, -(2**31), 2**62, "0", 5)),
        *(("itemsize", value) for value in (1, 4, 2**31, -8, None)),
        *(("formats", [value, "bool"]) for value in ("O", "V9", "(9999,)f4", "f4,f4", "S4", 3)),
        ("names", ["score_0"]),
    ],
)
def test_a_record_whose_fields_lie_outside_it_is_refused(tmp_path: Path, key: str, value: object) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    dtype = {"names": ["score_0", "written_0"], "formats": ["float32", "bool"], "offsets": [0, 4], "itemsize": 8}
    for described, right in ((dtype, True), ({**dtype, key: value}, False)):
        info = {"attribute_tokens": False, "num_items": 2, "num_rows": 2, "num_scores": 1, "dtype": described}
        (folder / "info.json").write_text(json.dumps(info))
        (folder / "scores.bin").write_bytes(struct.pack("<f?xxx", 1.5, True) * 2)
        if right:
            assert read_table(FORMATS["bergson"], Source(folder, None, tmp_path)).read(Rows(0, 1), Rows(0, 2)).tolist() == [
                [1.5, 1.5]
            ]
        else:
            with pytest.raises(InputError):
                read_table(FORMATS["bergson"], Source(folder, None, tmp_path))


@pytest.mark.parametrize("place", ["features", "features/a", "features/a/train", "scores", "splits", "finalized", "lds"])
def test_a_link_inside_a_store_is_refused_wherever_it_is(tmp_path: Path, place: str) -> None:
    outside, store = tmp_path / "outside", tmp_path / "store"
    (outside / "a" / "train" / "000").mkdir(parents=True)
    (store / place).parent.mkdir(parents=True)
    (store / place).symlink_to(outside)
    layout = Layout(store)
    calls: dict[str, Callable[[], object]] = {
        "features": lambda: layout.features("a", "train", 0),
        "scores": lambda: layout.scores("trak", "test"),
        "splits": lambda: layout.split("train"),
        "finalized": lambda: layout.finalized("x", "a"),
        "lds": lambda: layout.retrained(3),
    }
    with pytest.raises(StoreError, match=r"a symbolic link to .*outside"):
        calls[place.partition("/")[0]]()


def test_a_relative_store_is_examined_again_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own", "foreign"):
        (tmp_path / name / "store").mkdir(parents=True)
    (tmp_path / "foreign" / "store" / "scores").symlink_to(tmp_path)
    layout = Layout(Path("store"))
    monkeypatch.chdir(tmp_path / "own")
    assert layout.estimators() == []
    monkeypatch.chdir(tmp_path / "foreign")
    with pytest.raises(StoreError, match="a symbolic link to"):
        layout.estimators()


def test_a_link_in_place_of_a_file_of_a_store_is_refused_and_the_folder_of_a_store_may_be_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "store")
    write_json_once(tmp_path / "elsewhere.json", {"rows": 3})
    layout.split("x").parent.mkdir(parents=True)
    layout.split("x").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(StoreError, match="symbolic link"):
        read_json(layout.split("x"))
    with pytest.raises(StoreError, match="symbolic link"):
        layout.described_splits()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    write_json_once(Layout(tmp_path / "link").split("y"), {"rows": 4})
    assert read_json(Layout(tmp_path / "link").split("y")) == {"rows": 4}


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc", "..", ".", "a\\b", "", "a\0", "x" * 200])
def test_a_name_that_is_a_path_is_no_name(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path)
    for path in (
        layout.split,
        layout.fingerprint,
        lambda one: layout.scores(one, "test"),
        lambda one: layout.finalized("g", one),
    ):
        with pytest.raises(TrakError):
            path(name)


def test_a_pipe_in_place_of_a_document_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    for read in (read_text, read_json):
        with pytest.raises((OSError, StoreError)):
            read(tmp_path / "a.json")
