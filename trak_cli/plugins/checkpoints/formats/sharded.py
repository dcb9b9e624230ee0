"""Checkpoints in several files, as save_pretrained writes large models: a JSON index and the files that it names."""

from __future__ import annotations

import json
from pathlib import Path

from trak_cli.errors import InputError, Problem

#: The end of an index's name: model.safetensors.index.json, pytorch_model.bin.index.json.
INDEX_SUFFIX = ".index.json"


def files_of_index(path: Path) -> list[Path]:
    """The files that an index names, sorted; they must lie in the folder of the index.

    Raises:
        InputError: the file cannot be read or is no index; or all files that are missing or lie elsewhere.
    """
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except OSError as error:
        raise InputError(Problem(str(path), f"{error.strerror}", "a readable checkpoint", "correct the path")) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        remedy = "save it again with save_pretrained"
        raise InputError(Problem(str(path), "no weight_map", "an index of the files of a checkpoint", remedy)) from None
    if not names:
        raise InputError(Problem(str(path), "no file names", "the files of a checkpoint", "save it again"))
    InputError.raise_for(
        Problem(str(path), f"the file {name}", "files beside the index", "put every file into the folder of the index")
        for name in names
        if Path(name).name != name or not (path.parent / name).is_file()
    )
    return [path.parent / name for name in names]
