"""Small JSON documents, written atomically: the run plan, the description of a split, a report.

A document stores its own digest (key "sha256"), so that a changed value is detected.
"""

from __future__ import annotations

import json
from pathlib import Path

from trak_cli.store.atomic_write import replace, write_once
from trak_cli.store.failures import damaged, foreign
from trak_cli.store.fingerprint import digest, parse
from trak_cli.store.safety.visibility import open_stored, patiently
from trak_cli.types import Json
from trak_cli.user_files import MAX_TEXT

_DIGEST = "sha256"


def write_json_once(path: Path, document: Json) -> bool:
    """Write ``document`` unless the file exists; False if it does: then read that one.

    Raises:
        MachineError: it cannot be written.
    """
    return write_once(path, _encoded(document))


def replace_json(path: Path, document: Json) -> None:
    """Write ``document``, replacing an existing file.

    Raises:
        MachineError: it cannot be written; the old file stays.
    """
    replace(path, _encoded(document))


def read_json(path: Path) -> Json:
    """Read a document and check its digest.

    Raises:
        MissingError: no such file.
        DamagedError: it was changed or cut short, or is not such a document.
        MachineError: it cannot be read.
    """
    return patiently(path, lambda: _read(path))


def _read(path: Path) -> Json:
    with open_stored(path) as file:
        raw = file.read(MAX_TEXT + 1)
    if len(raw) > MAX_TEXT:
        raise foreign(path, f"more than {MAX_TEXT:,} bytes", "a small JSON document")
    try:
        document = parse(raw.decode())
        matches = document.pop(_DIGEST, None) == digest(document)
    except ValueError as error:
        raise damaged(path, f"no JSON document ({error})") from error
    if not matches:
        raise damaged(path, "a digest that does not match (values changed)")
    return document


def _encoded(document: Json) -> bytes:
    if _DIGEST in document:
        raise ValueError(f"the key {_DIGEST!r} is taken by the document's digest")
    sealed = {**document, _DIGEST: digest(document)}
    return (json.dumps(sealed, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
