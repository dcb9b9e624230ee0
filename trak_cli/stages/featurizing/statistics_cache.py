"""Statistics of some training samples under one checkpoint, computed once, stored, and read by every worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from trak_cli.errors import InputError
from trak_cli.plugins.samples import sample_id
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.inputs.sample_identity import check_ends
from trak_cli.stages.inputs.split import Split
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import require_same
from trak_cli.store.layout import Layout
from trak_cli.store.publish import write_image
from trak_cli.types import AnyArray, Json

#: Arrays of the file that name the samples; all others are called PREFIX.NAME.
_ROWS, _IDS = "rows", "sample_ids"

#: Kind of statistic, which is the stem of its file -> the prefix of its arrays.
_PREFIXES = {"context": "context.", "scales": "scale."}


@dataclass(frozen=True)
class StatisticsCache:
    """The stored statistics of a run.

    Attributes:
        train: the training set.
        fingerprints: checkpoint name -> fingerprint of its features.
    """

    layout: Layout
    train: Split
    fingerprints: Mapping[str, Json]

    def load_or_compute(
        self, path: Path, checkpoint: str, rows: Sequence[int], compute: Callable[[], Mapping[str, Tensor]]
    ) -> dict[str, AnyArray]:
        """The stored arrays by name. If there are none yet, ``compute`` makes them from the samples ``rows``, and they are
        stored. The result is always read from the file, so that all workers use the arrays of the first one.

        Args:
            path: of the context or the scales of ``checkpoint``.

        Raises:
            StoreError: the file is damaged, or belongs to another run.
            InputError: the training set no longer has the samples from which the arrays were computed.
        """
        fingerprint, prefix = {**self.fingerprints[checkpoint], "kind": path.stem}, _PREFIXES[path.stem]
        if not path.exists():
            arrays = {prefix + name: tensor.cpu().numpy() for name, tensor in compute().items()}
            arrays[_ROWS] = np.array(rows, dtype=np.int64)
            arrays[_IDS] = np.array([sample_id(self.train.sample(row)) for row in rows], dtype=np.uint64)
            write_image(path, arrays, fingerprint, provenance(self.train.device))
        image = read_image(path)
        require_same(path, image.fingerprint, fingerprint)
        stored_rows, ids = image.arrays[_ROWS].tolist(), image.arrays[_IDS].tolist()
        InputError.raise_for(check_ends(self.train.name, self.train.dataset, stored_rows, ids, f"{path} was made"))
        return {name.removeprefix(prefix): array for name, array in image.arrays.items() if name.startswith(prefix)}
