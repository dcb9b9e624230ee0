"""The first 512 bytes of every HDF5 file of a store (HDF5's user block), with a digest of all bytes.

    offset  bytes  what (little-endian)
         0      8  magic
         8      4  format version
        12      4  kind: 0 plain datasets, 1 one virtual dataset
        16      8  length of the payload (the HDF5 file proper) in bytes
        24     32  sha256 over these 512 bytes, with this field zeroed, and the payload
        56     32  content digest: arrays and fingerprint, but not the provenance
        88    424  zeros

HDF5 looks for its own signature at 0, 512, 1024, ..., so other programs can open the file and ignore the header.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trak_cli.store.failures import damaged, foreign
from trak_cli.store.safety.visibility import open_stored, patiently

HEADER_BYTES = 512
FORMAT_VERSION = 2
PLAIN, VIRTUAL = 0, 1

#: An attribute of the root of every file.
CREATED_BY = f"trak store format {FORMAT_VERSION}"

#: A smaller file was cut short, whatever it was meant to hold: the header and an HDF5 file without datasets take more.
LEAST_BYTES = 640

_MAGIC = b"\x93TRAK\r\n\x1a"
_FIELDS = struct.Struct("<8sIIQ32s32s")
_DIGEST = slice(24, 56)
_CHUNK = 1 << 20
_MAX_FILE = 1 << 37

_CHANGED = "a digest that does not match (bytes changed or file cut short)"


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Attributes:
        version: format version.
        kind: ``PLAIN`` or ``VIRTUAL``.
        length: bytes after the header.
        digest: sha256 of the whole file (hexadecimal), this field zeroed.
        content: digest of the arrays and the fingerprint; equal for equal content, whatever the provenance.
    """

    version: int
    kind: int
    length: int
    digest: str
    content: str


def seal(payload: memoryview, content: str, kind: int) -> bytes:
    """The whole file: the header for ``payload``, then ``payload``."""
    fields = _FIELDS.pack(_MAGIC, FORMAT_VERSION, kind, len(payload), bytes(32), bytes.fromhex(content))
    header = bytearray(fields.ljust(HEADER_BYTES, b"\0"))
    sha = hashlib.sha256(header)
    sha.update(payload)
    header[_DIGEST] = sha.digest()
    return b"".join((header, payload))


def is_store_file(path: Path) -> bool:
    """Whether a file begins like the HDF5 files of a store.

    Raises:
        MissingError, MachineError: it cannot be read.
    """
    with open_stored(path) as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_header(path: Path) -> Header:
    """Read the header alone. Detects a file that was cut short, but not changed bytes.

    Raises:
        MissingError, DamagedError, ForeignError (another format version), MachineError.
    """
    return _require_version(path, patiently(path, lambda: _header_of(path)))


def verify(path: Path) -> Header:
    """Read the file in pieces and check its digest, without HDF5.

    Raises:
        MissingError, DamagedError, ForeignError (another format version), MachineError.
    """
    return _require_version(path, patiently(path, lambda: _verified(path)))


def load(path: Path) -> tuple[Header, bytes]:
    """Read the file into memory and check its digest; the bytes include the header.

    Raises:
        MissingError, DamagedError, ForeignError (another format version), MachineError.
    """
    header, data = patiently(path, lambda: _loaded(path))
    return _require_version(path, header), data


def _header_of(path: Path) -> Header:
    with open_stored(path) as file:
        return _read_header(path, file)[0]


def _verified(path: Path) -> Header:
    with open_stored(path) as file:
        header, raw = _read_header(path, file)
        sha = _begin(raw)
        while piece := file.read(_CHUNK):
            sha.update(piece)
    if sha.hexdigest() != header.digest:
        raise damaged(path, _CHANGED)
    return header


def _loaded(path: Path) -> tuple[Header, bytes]:
    with open_stored(path) as file:
        header, raw = _read_header(path, file)
        file.seek(0)
        data = file.read(HEADER_BYTES + header.length)
    sha = _begin(data[:HEADER_BYTES])
    sha.update(memoryview(data)[HEADER_BYTES:])
    if data[:HEADER_BYTES] != raw or sha.hexdigest() != header.digest:
        raise damaged(path, _CHANGED)
    return header, data


def _begin(raw: bytes) -> hashlib._Hash:
    zeroed = bytearray(raw)
    zeroed[_DIGEST] = bytes(32)
    return hashlib.sha256(zeroed)


def _read_header(path: Path, file: BinaryIO) -> tuple[Header, bytes]:
    size = os.fstat(file.fileno()).st_size
    raw = file.read(HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        raise damaged(path, f"{size} bytes, less than a header (file cut short)")
    magic, version, kind, length, digest, content = _FIELDS.unpack_from(raw)
    if magic != _MAGIC:
        raise damaged(path, "a file that does not begin as this program's files do (bytes changed, or not its file)")
    if size != HEADER_BYTES + length:
        raise damaged(path, f"{size:,} bytes where the header says {HEADER_BYTES + length:,} (file cut short or changed)")
    if size > _MAX_FILE:
        raise foreign(path, f"a file of {size:,} bytes", f"at most {_MAX_FILE:,} bytes")
    return Header(version, kind, length, digest.hex(), content.hex()), raw


def _require_version(path: Path, header: Header) -> Header:
    if header.version != FORMAT_VERSION:
        raise foreign(path, f"store format version {header.version}", f"version {FORMAT_VERSION}")
    return header
