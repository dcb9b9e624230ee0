"""Checkpoints in several files, as save_pretrained writes large models: a JSON index and the files that it names."""

from __future__ import annotations

from pathlib import Path

from trak_cli.errors import InputError, Problem
from trak_cli.user_files import parse_json, parsing, read_text

#: The end of an index's name: model.safetensors.index.json, pytorch_model.bin.index.json.
INDEX_SUFFIX = ".index.json"


def files_of_index(path: Path) -> list[Path]:
    """The files that an index names, sorted; they must lie in the folder of the index.

    Raises:
        InputError: the file cannot be read or is no index; or all files that are missing or lie elsewhere.
    """
    try:
        weight_map = parse_json(read_text(path))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except OSError as error:
        raise InputError(Problem(str(path), f"{error.strerror}", "a readable checkpoint", "correct the path")) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        remedy = "save it again with save_pretrained"
        raise InputError(Problem(str(path), "no weight_map", "an index of the files of a checkpoint", remedy)) from None
    if not names:
        raise InputError(Problem(str(path), "no file names", "the files of a checkpoint", "save it again"))
    with parsing(path, "names of files"):
        elsewhere = [name for name in names if Path(name).name != name or not (path.parent / name).is_file()]
    InputError.raise_for(
        Problem(str(path), f"the file {name}", "files beside the index", "put every file into the folder of the index")
        for name in elsewhere
    )
    return [path.parent / name for name in names]
