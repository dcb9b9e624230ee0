"""Checks of an HDF5 file before any of its values is read.

A file with the right digest may still be malicious: a link or an external or virtual dataset reads another file, an object
dtype builds Python objects, and a huge declared shape exhausts the memory.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from trak_cli.store.failures import ForeignError, foreign
from trak_cli.store.header import PLAIN, VIRTUAL

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
    return kind in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) and dtype.kind in "iuf" and dtype.itemsize <= 8


def _refused(path: Path, name: str, found: str) -> ForeignError:
    return foreign(path, f"dataset {name!r} {found}", _PLAIN_DATASET)
