"""One HDF5 file as bytes in memory: built completely before it is written, and checked completely before HDF5 reads it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from trak_cli.store.failures import foreign
from trak_cli.store.fingerprint import canonical
from trak_cli.store.hdf5_validation import structure_of
from trak_cli.store.header import CREATED_BY, HEADER_BYTES, PLAIN, load, seal
from trak_cli.types import AnyArray, Json

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: HDF5 keeps a table of open files by name: every image needs a name of its own.
_serial = itertools.count()


class Arrays(dict[str, AnyArray]):
    """Arrays of a file by name. One that is missing is an error that names the file: its digest does not say what it holds."""

    def __init__(self, path: Path, arrays: Mapping[str, AnyArray]) -> None:
        super().__init__(arrays)
        self.path = path

    def __missing__(self, name: str) -> AnyArray:
        raise foreign(self.path, f"no dataset {name!r}", "all datasets of this kind of file")


@dataclass(frozen=True)
class Image:
    """The contents of one file; nothing in it was evaluated or unpickled.

    Attributes:
        path: the file.
        arrays: the datasets that were read, by name.
        fingerprint: what determines the values. What it holds must not be changed in place: images of alike files share it.
        provenance: program, device and host that wrote it; never compared.
        digest: sha256 of the file, hexadecimal.
        content: digest of the arrays and the fingerprint alone: equal for equal content, whatever the provenance.
        dtypes: logical dtype of every dataset, by name ("bfloat16" if the array holds its bits as uint16).
        shapes: shape of every dataset, by name, those that were not read included.
        starts: offset in the file of the first value of every dataset, likewise.
    """

    path: Path
    arrays: dict[str, AnyArray]
    fingerprint: Json
    provenance: Json
    digest: str
    content: str
    dtypes: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)


def build_image(arrays: Mapping[str, AnyArray], fingerprint: Json, provenance: Json, bfloat16: Collection[str] = ()) -> bytes:
    """The bytes of a file with ``arrays`` as its datasets; equal arguments give equal bytes.

    Args:
        arrays: numbers or booleans of any shape, by dataset name (no slash).
        fingerprint: what determines the values.
        provenance: program, device and host that write it.
        bfloat16: names of the uint16 arrays that hold the bits of bfloat16 values.

    Raises:
        ValueError: an array or a name that cannot be stored.
    """
    stored = {name: _storable(name, array) for name, array in sorted(arrays.items())}
    dtypes = {name: "bfloat16" if name in bfloat16 else str(array.dtype) for name, array in stored.items()}
    if not all(name in stored and stored[name].dtype == np.uint16 for name in bfloat16):
        raise ValueError(f"bfloat16 arrays {sorted(bfloat16)} must be given as uint16")

    def fill(file: h5py.File) -> None:
        for name, array in stored.items():
            dataset = file.create_dataset(name, data=array, track_times=False)
            write_text(dataset, "dtype", dtypes[name])

    texts = {"created_by": CREATED_BY, "fingerprint": canonical(fingerprint), "provenance": canonical(provenance)}
    return seal(hdf5_payload(fill, texts), _content(stored, dtypes, texts["fingerprint"]), PLAIN)


def read_image(path: Path, only: Collection[str] | None = None, skip: Collection[str] = ()) -> Image:
    """Read a file that :func:`build_image` made.

    Args:
        path: the file.
        only: names of the datasets to read; None: all. The digest of the whole file is checked in any case.
        skip: names of datasets to leave out, if the file has them.

    Raises:
        MissingError: no such file.
        DamagedError: any byte of it changed, or it was cut short.
        ForeignError: it is intact, but holds something that a store does not, or lacks one of ``only``.
        MachineError: it cannot be read.
    """
    header, data = load(path)
    if header.kind != PLAIN:
        raise foreign(path, "a virtual dataset", "a file that holds its own values")
    structure = structure_of(path, data)
    extents = structure.extents
    absent = sorted(set(only or ()) - set(extents))
    if absent:
        raise foreign(path, f"no dataset {', '.join(map(repr, absent))}", "all datasets of this kind of file")
    return Image(
        path=path,
        arrays=Arrays(
            path, {name: extents[name].read(data) for name in extents if (only is None or name in only) and name not in skip}
        ),
        fingerprint=structure.documents["fingerprint"].copy(),
        provenance=structure.documents["provenance"].copy(),
        digest=header.digest,
        content=header.content,
        dtypes={name: extent.logical for name, extent in extents.items()},
        shapes={name: extent.shape for name, extent in extents.items()},
        starts={name: extent.start for name, extent in extents.items()},
    )


def hdf5_payload(fill: Callable[[h5py.File], None], texts: Mapping[str, str]) -> memoryview:
    """The bytes of an HDF5 file after its user block, made in memory; ``texts`` become attributes of its root."""
    with h5py.File(
        f"image-{next(_serial)}",
        "w",
        driver="core",
        backing_store=False,
        userblock_size=HEADER_BYTES,
        libver="v108",  # older layouts cannot hold attributes above 64 KiB
    ) as file:
        fill(file)
        for name, text in texts.items():
            write_text(file, name, text)
        file.flush()
        image = file.id.get_file_image()
    return memoryview(image)[image.index(_SIGNATURE) :]  # HDF5 leaves out the user block, in most versions


def write_text(holder: h5py.File | h5py.Dataset, name: str, text: str) -> None:
    """Store a text as a string of fixed length: strings of variable length are pointers into a heap."""
    raw = text.encode()
    holder.attrs.create(name, np.bytes_(raw), dtype=h5py.string_dtype("utf-8", len(raw)))


def _storable(name: str, array: AnyArray) -> AnyArray:
    if not name or "/" in name or name.startswith(".") or not name.isprintable():
        raise ValueError(f"a dataset cannot be named {name!r}")
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise ValueError(f"dataset {name!r} has dtype {array.dtype}: only numbers and booleans are stored")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _content(stored: Mapping[str, AnyArray], dtypes: Mapping[str, str], fingerprint: str) -> str:
    sha = hashlib.sha256(fingerprint.encode())
    for name, array in stored.items():
        sha.update(canonical({"name": name, "dtype": dtypes[name], "shape": list(array.shape)}).encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()
