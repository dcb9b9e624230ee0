"""The unit of work of finalize: the Gram matrix of a range of training rows under one checkpoint.

The ranges depend on neither the shards nor the number of workers, and their sums are added in order, so the result has the
same bits for any number of workers. A part is a file until all parts of its checkpoint are stored; the worker that finds them
complete merges and removes them. Parts that are damaged, or of an earlier training set, are computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from trak_cli.attribution.estimator.simulated_training import SimulatedTraining
from trak_cli.attribution.estimator.spec import EstimatorSpec, gram_key
from trak_cli.attribution.linalg.gram import PartialGram, merged
from trak_cli.stages.index.fingerprints import gram_fingerprint
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.scoring.gram_store import Finalized, find_gram, write_gram
from trak_cli.stages.scoring.gram_sums import Weighting, estimate_weighting, factorised, sum_gram, sum_rows
from trak_cli.stop_signals import unit_of_work
from trak_cli.store.atomic_write import remove, remove_empty_folders, sync_folder
from trak_cli.store.container import Image, read_image
from trak_cli.store.failures import MissingError
from trak_cli.store.fingerprint import canonical
from trak_cli.store.publish import read_or_remove, write_image
from trak_cli.types import AnyArray, Float32, Float64, Json, Rows, shards_of

_OVER = ("samples", "terms", "classes")


@dataclass(frozen=True)
class GramUnit:
    """The sum over a range of training rows under one checkpoint."""

    checkpoint: str
    number: int
    rows: Rows


@dataclass(frozen=True)
class GramParts:
    """The parts of the Gram matrices of one estimator.

    Attributes:
        part_rows: training rows of a part.
    """

    inventory: Inventory
    estimator: EstimatorSpec
    part_rows: int

    def units(self) -> list[GramUnit]:
        """All units, in the order that all workers share."""
        return [unit for checkpoint in self.inventory.checkpoints for unit in self._units(checkpoint)]

    def _units(self, checkpoint: str) -> Iterator[GramUnit]:
        for number, rows in enumerate(shards_of(self.inventory.rows, self.part_rows)):
            yield GramUnit(checkpoint, number, rows)

    def compute(self, units: Sequence[GramUnit], progress: Callable[[int], None]) -> Finalized | None:
        """Sum and store those of these units of one checkpoint that are not stored, until the checkpoint is finalised.

        Returns:
            The Gram matrix of the checkpoint if it has only one part, which is never a file.
        """
        if self.inventory.rows <= self.part_rows:
            found = sum_gram(self.inventory, self.estimator, units[0].checkpoint, progress)
            write_gram(self.inventory, self.estimator, units[0].checkpoint, found)
            return found
        for unit in units:
            if self._read(unit) is not None:
                progress(len(unit.rows))
            elif find_gram(self.inventory, self.estimator, unit.checkpoint) is None:
                weighting = self._weighting(unit.checkpoint)
                with unit_of_work():
                    part, q = sum_rows(self.inventory, self.estimator, unit.checkpoint, unit.rows, weighting, progress)
                    self._write(self._path(unit), _arrays(part, q), self._fingerprint(unit))
        return None

    def missing(self, checkpoint: str) -> int:
        """How many parts of a checkpoint are not stored, by their names."""
        layout, key = self.inventory.layout, gram_key(self.estimator, self.inventory.curvature)
        return sum(1 for _ in self._units(checkpoint)) - len(layout.gram_parts(key, checkpoint))

    def finish(self, checkpoint: str) -> Finalized | None:
        """The Gram matrix of a checkpoint, if it is stored or all of its parts are; these are merged, and removed."""
        found = find_gram(self.inventory, self.estimator, checkpoint)
        if found is None and self.missing(checkpoint) <= 0:
            found = self._merged(checkpoint)
            if found is not None:
                write_gram(self.inventory, self.estimator, checkpoint, found)
        if found is None:
            return find_gram(self.inventory, self.estimator, checkpoint)  # merged meanwhile by another worker
        self.remove(checkpoint)
        return found

    def _merged(self, checkpoint: str) -> Finalized | None:
        weights: list[Float32] = []

        def parts() -> Iterator[PartialGram]:
            for unit in self._units(checkpoint):
                image = self._read(unit)
                if image is None:
                    raise MissingError([])
                weights.append(image.arrays["sample_weight"])
                yield _part(image.arrays, self.inventory.dim)

        try:
            gram = merged(parts())
        except MissingError:
            return None
        return factorised(gram, np.concatenate(weights), self.estimator, self._weighting(checkpoint))

    def _weighting(self, checkpoint: str) -> Weighting:
        """The weighting of a checkpoint: the first worker stores it for the others."""
        if not (self.estimator.simulates_training or self.estimator.clip_norm):
            return Weighting(math.inf, None)
        path = self._folder(checkpoint) / "weighting.h5"
        fingerprint = self._common(checkpoint) | {"kind": "weighting"}
        image = self._stored(path, fingerprint)
        if image is None:
            self._write(path, _weighting_arrays(estimate_weighting(self.inventory, self.estimator, checkpoint)), fingerprint)
            image = read_image(path)
        return _weighting_of(image.arrays)

    def _read(self, unit: GramUnit) -> Image | None:
        return self._stored(self._path(unit), self._fingerprint(unit))

    def _stored(self, path: Path, fingerprint: Json) -> Image | None:
        """A file of these values, or None: one that is damaged or of other values is computed again."""
        image = read_or_remove(path)
        return image if image is not None and canonical(image.fingerprint) == canonical(fingerprint) else None

    def _write(self, path: Path, arrays: dict[str, AnyArray], fingerprint: Json) -> None:
        write_image(path, arrays, fingerprint, provenance(), overwrite=path.exists())

    def remove(self, checkpoint: str) -> None:
        """Remove the parts of a checkpoint whose Gram matrix is stored; also what a killed or slower worker has left."""
        folder = self._folder(checkpoint)
        if folder.is_dir():
            sync_folder(folder.parent)  # the name of the Gram matrix must be on disk first
            for path in sorted(folder.rglob("*")):
                if path.is_file():  # a temporary file of another worker too: it will find the Gram matrix
                    remove(path)
            remove_empty_folders(folder)

    def _folder(self, checkpoint: str) -> Path:
        return self.inventory.layout.gram_parts_folder(gram_key(self.estimator, self.inventory.curvature), checkpoint)

    def _path(self, unit: GramUnit) -> Path:
        key = gram_key(self.estimator, self.inventory.curvature)
        return self.inventory.layout.gram_part(key, unit.checkpoint, unit.number)

    def _common(self, checkpoint: str) -> Json:
        return gram_fingerprint(self.inventory.features[checkpoint], self.estimator, self.inventory.rows)

    def _fingerprint(self, unit: GramUnit) -> Json:
        return self._common(unit.checkpoint) | {"kind": "partial-gram", "part": [unit.rows.start, unit.rows.stop]}


def _arrays(part: PartialGram, q: Float32) -> dict[str, AnyArray]:
    """The datasets of a part; of the symmetric matrix the upper triangle, row by row."""
    numbers = np.array([part.size, part.terms, part.square_sum, _OVER.index(part.over), part.has_outputs])
    arrays: dict[str, AnyArray] = {"numbers": numbers, "products": part.products, "totals": part.totals, "sample_weight": q}
    if part.rows is not None:
        arrays["rows"] = part.rows
    if part.matrix is not None:
        arrays["triangle"] = np.concatenate([row[number:] for number, row in enumerate(part.matrix)])
    return arrays


def _part(arrays: dict[str, AnyArray], dim: int) -> PartialGram:
    size, terms, square_sum, over, has_outputs = arrays["numbers"].tolist()
    matrix = _from_triangle(arrays["triangle"], dim) if "triangle" in arrays else None
    of_rows = arrays["products"], arrays["totals"], _OVER[int(over)], bool(has_outputs)
    return PartialGram(matrix, arrays.get("rows"), int(size), terms, square_sum, *of_rows)


def _from_triangle(values: Float64, dim: int) -> Float64:
    """The symmetric matrix (k, k) with this upper triangle."""
    matrix = np.empty((dim, dim))
    start = 0
    for number in range(dim):
        row = values[start : start + dim - number]
        matrix[number, number:] = row
        matrix[number:, number] = row
        start += dim - number
    return matrix


def _weighting_arrays(weighting: Weighting) -> dict[str, AnyArray]:
    arrays: dict[str, AnyArray] = {"clip_threshold": np.array([weighting.clip_threshold])}
    if weighting.training is not None:
        arrays |= {field.name: np.atleast_1d(getattr(weighting.training, field.name)) for field in fields(SimulatedTraining)}
    return arrays


def _weighting_of(arrays: dict[str, AnyArray]) -> Weighting:
    threshold = float(arrays["clip_threshold"][0])
    if "times" not in arrays:
        return Weighting(threshold, None)
    duration, arrived = float(arrays["duration"][0]), bool(arrays["arrived"][0])
    return Weighting(threshold, SimulatedTraining(arrays["times"], arrays["parameters"], duration, arrived))
