"""The identity of a checkpoint, and its name in a store."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.readers import reader_of

#: File names that do not identify a checkpoint. The name of their folder is used instead.
_ANONYMOUS = {"model", "pytorch_model", "adapter_model", "diffusion_pytorch_model", "checkpoint", "weights", "state_dict"}

#: File names that every run has. The name of their folder is put before them.
_REPEATED = frozenset(
    ("best", "last", "final", "latest", "best_model", "last_model", "final_model", "model_best", "best_checkpoint")
)


def sha256(path: Path, key: str | None = None) -> str:
    """The SHA-256 of a checkpoint, 64 hex digits: its identity.

    That of the file's bytes; for several files, that of their digests. It covers the files with weights, not those of
    optimizers.

    Args:
        key: ``checkpoints.key``, which chooses weights in the file and is part of the identity.

    Raises:
        InputError: a file cannot be read.
    """
    files = reader_of(path).files
    digests = [_digest(file) for file in ([path] if files is None else files(path))]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return digest if key is None else hashlib.sha256(f"{digest} {key}".encode()).hexdigest()


def name_of(path: Path, digest: str) -> str:
    """A checkpoint's folder name in a store: its name in safe characters, a dash, and the first 8 digits of its SHA-256.

    Its name is the stem of the file or the name of the folder. A file such as ``checkpoint-100/model.safetensors`` has the
    name of its folder, and ``run_1/best.pt`` both names.
    """
    path = Path(os.path.abspath(path))
    stem = path.name if path.is_dir() else path.stem.removesuffix(".index").removesuffix(".bin").removesuffix(".safetensors")
    if not path.is_dir() and stem in _ANONYMOUS | _REPEATED and path.parent.name:
        stem = path.parent.name if stem in _ANONYMOUS else f"{path.parent.name}_{stem}"
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:64]
    return f"{safe or 'checkpoint'}-{digest[:8]}"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(Problem(str(path), f"{error.strerror}", "a readable checkpoint", "correct the path")) from error
