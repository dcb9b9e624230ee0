"""Checkpoints in several files, as save_pretrained writes large models: an index, and the files that it names."""

from __future__ import annotations

import json
from pathlib import Path

from trak_cli.errors import InputError, Problem

#: How the name of an index ends: model.safetensors.index.json, pytorch_model.bin.index.json.
SUFFIX = ".index.json"


def is_index(path: Path) -> bool:
    """Whether a checkpoint is an index of parts."""
    return path.name.endswith(SUFFIX)


def parts_of(path: Path) -> list[Path]:
    """The files that an index names, in order; they lie beside it.

    Raises:
        InputError: no such index, or not one; parts that are missing or lie elsewhere, all at once.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in held.values()})
    except OSError as error:
        raise InputError(Problem(str(path), f"{error.strerror}", "a readable checkpoint", "correct the path")) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        remedy = "save it again with save_pretrained"
        raise InputError(Problem(str(path), "no weight_map", "an index of the parts of a checkpoint", remedy)) from None
    problems = [
        Problem(str(path), f"the part {name}", "files beside the index", "put every part into the folder of the index")
        for name in names
        if Path(name).name != name or not (path.parent / name).is_file()
    ]
    if problems or not names:
        raise InputError(problems or Problem(str(path), "no part", "the files of a checkpoint", "save it again"))
    return [path.parent / name for name in names]
