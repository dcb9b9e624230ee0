"""What is made once of some training samples under a checkpoint, stored, and read by every worker and every restart alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from trak_cli.errors import InputError, Problem
from trak_cli.plugins import sample_id
from trak_cli.stages.machine import provenance
from trak_cli.stages.microbatches import Split
from trak_cli.store import Image, read_image, require_same, write_image
from trak_cli.types import Json

#: Arrays of the file that say which samples it was made of; all others are named PREFIX.NAME.
_ROWS, _IDS = "rows", "sample_ids"

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def kept(
    path: Path, fingerprint: Json, train: Split, rows: Sequence[int], prefix: str, make: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Array]:
    """The arrays in the file ``path``, by name; where there is none, ``make`` makes them of ``rows`` and they are written.

    Whoever was first: what is returned has been read from the file.

    Raises:
        StoreError: another run's file lies there, or a damaged one.
        InputError: the training set no longer gives the samples that it was made of.
    """
    if not path.exists():
        arrays = {f"{prefix}.{name}": tensor.cpu().numpy() for name, tensor in make().items()}
        arrays[_ROWS] = np.array(rows, dtype=np.int64)
        arrays[_IDS] = np.array([sample_id(train.dataset[row]) for row in rows], dtype=np.uint64)
        write_image(path, arrays, fingerprint, provenance(train.device))
    image = read_image(path)
    require_same(path, image.fingerprint, fingerprint)
    _check_samples(image, train)
    own = f"{prefix}."
    return {name.removeprefix(own): array for name, array in image.arrays.items() if name.startswith(own)}


def _check_samples(image: Image, train: Split) -> None:
    """The first and the last sample are those that it was made of (all of them would cost a pass)."""
    for place in (0, -1):
        row = int(image.arrays[_ROWS][place])
        if row >= train.rows or sample_id(train.dataset[row]) != int(image.arrays[_IDS][place]):
            raise InputError(
                Problem(
                    f"sample {row} of {train.name}",
                    f"other content than when {image.path} was made",
                    "the same samples in the same order (new ones only at the end)",
                    "give back the old data set, or use another store",
                )
            )
