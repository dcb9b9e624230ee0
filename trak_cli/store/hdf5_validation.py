"""What HDF5 says of a file, checked before any of its values is used.

A file with the right digest may still be malicious: a link or an external or virtual dataset reads another file, an object
dtype builds Python objects, and a huge declared shape exhausts the memory.

HDF5 takes longer to open a shard than to read its bytes. The shards of a split differ in their values only, so the structure
of the last files is kept: a file with the same bytes outside its values has the same structure, and is not parsed again.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from trak_cli.store.failures import ForeignError, foreign, reading
from trak_cli.store.fingerprint import parse
from trak_cli.store.header import CREATED_BY, HEADER_BYTES, PLAIN, VIRTUAL
from trak_cli.types import AnyArray, Json

MAX_DATASETS = 64
MAX_RANK = 8
MAX_TEXT = 1 << 26

#: Root attributes of each kind of file.
ROOT_TEXTS = {
    PLAIN: ("created_by", "fingerprint", "provenance"),
    VIRTUAL: ("created_by", "fingerprint", "provenance", "sources"),
}

_TEXT = "a plain UTF-8 string attribute"
_PLAIN_DATASET = "a plain dataset of numbers or booleans"


@dataclass(frozen=True)
class Extent:
    """Where the values of a dataset lie in a file.

    Attributes:
        logical: its dtype ("bfloat16" if the values are the bits of it).
        start: offset of its first byte in the file; 0 if it has no values.
    """

    dtype: npt.DTypeLike
    logical: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """Offset of the byte after the last one."""
        return self.start + math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def read(self, data: bytes) -> AnyArray:
        """The values; a read-only view of ``data`` if they are at least half of it, so that shards are not copied."""
        values = np.frombuffer(data, self.dtype, math.prod(self.shape), self.start).reshape(self.shape)
        return values if 2 * values.nbytes >= len(data) else values.copy()


@dataclass(frozen=True)
class Structure:
    """The datasets and the documents of a plain file.

    Attributes:
        extents: of the datasets, by name.
        documents: the JSON objects in the attributes of the root, by name; files of the same structure share them.
    """

    extents: dict[str, Extent]
    documents: dict[str, Json]


class _Known:
    """The structures of the last files, with the bytes that determine them."""

    def __init__(self) -> None:
        self._last: tuple[tuple[int, list[tuple[int, bytes]], Structure], ...] = ()  # replaced as a whole: threads read it

    def find(self, data: bytes) -> Structure | None:
        """The structure of a file that has the same bytes as these outside its header and its values."""
        for length, gaps, structure in self._last:
            if length == len(data) and all(data.startswith(gap, start) for start, gap in gaps):
                return structure
        return None

    def add(self, data: bytes, structure: Structure) -> None:
        """Keep a structure, unless its datasets overlap."""
        gaps, end = [], HEADER_BYTES
        for extent in sorted(structure.extents.values(), key=lambda extent: extent.start):
            if extent.start == extent.stop:
                continue
            if extent.start < end:
                return
            gaps.append((end, data[end : extent.start]))
            end = extent.stop
        self._last = ((len(data), [*gaps, (end, data[end:])], structure), *self._last[:7])


_known = _Known()


def structure_of(path: Path, data: bytes) -> Structure:
    """The structure of a plain file with the bytes ``data``, whose digest was checked.

    Raises:
        ForeignError: it holds something that this program does not write.
    """
    found = _known.find(data)
    if found is None:
        with opened(path, data, PLAIN) as file:
            extents = {name: _extent(path, file[name], len(data)) for name in file}
            found = Structure(extents, root_documents(path, file, PLAIN))
        _known.add(data, found)
    return found


@contextmanager
def opened(path: Path, data: bytes, kind: int) -> Iterator[h5py.File]:
    """The vetted HDF5 file in ``data``; errors of HDF5 become errors that name ``path``."""
    with reading(path):
        try:
            with h5py.File(io.BytesIO(data), "r") as file:
                vet(path, file, kind)
                yield file
        except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            raise foreign(path, f"HDF5 that cannot be read ({error})", "a file that this program wrote") from error


def root_documents(path: Path, file: h5py.File, kind: int) -> dict[str, Json]:
    """The JSON objects in the attributes of the root of an open file, other than ``created_by``.

    Raises:
        ForeignError, ValueError: they are not.
    """
    texts = {name: text_attribute(path, file, name) for name in ROOT_TEXTS[kind]}
    if (creator := texts.pop("created_by")) != CREATED_BY:
        raise foreign(path, f"a file created by {creator!r}", f"one created by {CREATED_BY!r}")
    return {name: parse(text) for name, text in texts.items()}


def _extent(path: Path, dataset: h5py.Dataset, length: int) -> Extent:
    logical, dtype = text_attribute(path, dataset, "dtype"), dataset.dtype
    if logical != str(dtype) and not (logical == "bfloat16" and dtype == np.uint16):
        raise foreign(path, f"dataset {dataset.name!r} of {dtype} called {logical!r}", "a dtype that fits")
    extent = Extent(dtype, logical, dataset.shape, dataset.id.get_offset() or 0)
    if extent.stop > length:
        raise _refused(path, dataset.name, f"ends at byte {extent.stop:,} of {length:,}")
    return extent


def vet(path: Path, file: h5py.File, kind: int) -> None:
    """Check every object at the root of ``file``.

    Raises:
        ForeignError: it holds something that this program does not write.
    """
    if len(file) > MAX_DATASETS:
        raise foreign(path, f"{len(file)} objects", f"at most {MAX_DATASETS} datasets")
    if set(file.attrs) != set(ROOT_TEXTS[kind]):
        raise foreign(path, f"the attributes {sorted(file.attrs)}", f"the attributes {list(ROOT_TEXTS[kind])}")
    for name in file:
        _vet_link(path, file, name)
        _vet_dataset(path, file[name], h5py.h5d.VIRTUAL if kind == VIRTUAL else h5py.h5d.CONTIGUOUS)


def text_attribute(path: Path, holder: h5py.File | h5py.Dataset, name: str) -> str:
    """The text of a string attribute of fixed length; other types are refused."""
    if name not in holder.attrs:
        raise foreign(path, f"{holder.name} without the attribute {name!r}", _TEXT)
    attribute = holder.attrs.get_id(name)
    if attribute.shape != () or attribute.dtype.kind != "S" or attribute.dtype.itemsize > MAX_TEXT:
        raise foreign(path, f"the attribute {name!r} of type {attribute.dtype} and shape {attribute.shape}", _TEXT)
    return bytes(holder.attrs[name]).decode()


def _vet_link(path: Path, file: h5py.File, name: str) -> None:
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise foreign(path, f"{name!r} is a link of type {type(link).__name__}", _PLAIN_DATASET)
    if h5py.h5o.get_info(file.id, name.encode()).type != h5py.h5o.TYPE_DATASET:
        raise foreign(path, f"{name!r} is a group or a type", _PLAIN_DATASET)


def _vet_dataset(path: Path, dataset: h5py.Dataset, layout: int) -> None:
    name, created = dataset.name, dataset.id.get_create_plist()
    if created.get_external_count():
        raise _refused(path, name, "keeps its values in another file")
    if created.get_layout() != layout:
        layouts = {h5py.h5d.VIRTUAL: "virtual", h5py.h5d.CHUNKED: "chunked", h5py.h5d.COMPACT: "compact"}
        raise _refused(path, name, f"is {layouts.get(created.get_layout(), 'not virtual')}")
    if created.get_nfilters():
        raise _refused(path, name, "is compressed or filtered")
    if not _is_number(dataset):
        raise _refused(path, name, f"has the type {dataset.dtype}")
    if dataset.shape is None or len(dataset.shape) > MAX_RANK:
        raise _refused(path, name, f"has the shape {dataset.shape}")
    if set(dataset.attrs) != {"dtype"}:
        raise _refused(path, name, f"has the attributes {sorted(dataset.attrs)}")
    # In Python integers, which do not overflow whatever shape is declared.
    declared = int(np.prod([int(size) for size in dataset.shape], dtype=object)) * dataset.dtype.itemsize
    if layout == h5py.h5d.CONTIGUOUS and declared != dataset.id.get_storage_size():
        raise _refused(path, name, f"declares the shape {dataset.shape} but holds {dataset.id.get_storage_size()} bytes")


def _is_number(dataset: h5py.Dataset) -> bool:
    kind, dtype = dataset.id.get_type().get_class(), dataset.dtype
    if kind == h5py.h5t.ENUM:
        return bool(dtype == np.dtype(bool))
    plain = kind in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) and dtype.kind in "iuf" and dtype.itemsize <= 8
    # The bytes are read as this dtype, without HDF5: no other width, order of bytes or format of floats.
    return bool(plain and dataset.id.get_type() == h5py.h5t.py_create(dtype.newbyteorder("<")))


def _refused(path: Path, name: str, found: str) -> ForeignError:
    return foreign(path, f"dataset {name!r} {found}", _PLAIN_DATASET)
