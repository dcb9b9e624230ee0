"""Compressed copies of the training features in a store: for each checkpoint, one basis and parts of many rows.

The copy belongs to the features, and serves every estimator. It can be deleted at any time: nothing else needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trak_cli.attribution.compressed import COMPRESSION_VERSION, Basis, make_basis, unit_gram
from trak_cli.errors import Problem, StoreError
from trak_cli.stages.compressing.compressed_part import CompressedPart, part_arrays, part_of
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.index.work_parts import parts_of_shards
from trak_cli.stop_signals import unit_of_work
from trak_cli.store.atomic_write import remove
from trak_cli.store.container import Image, read_image
from trak_cli.store.failures import MissingError, foreign
from trak_cli.store.fingerprint import canonical, differences
from trak_cli.store.header import FORMAT_VERSION, read_header
from trak_cli.store.publish import read_or_remove, write_image
from trak_cli.store.safety.records import is_count, require_fields, require_shapes
from trak_cli.types import TRAIN, Float32, Json, Rows, evenly_spaced

#: The basis is computed from about this many rows for each feature, of evenly spaced shards.
_SAMPLE_ROWS, _SAMPLE_SHARDS = 16, 512

_BASIS = "the basis of compressed features"


@dataclass(frozen=True)
class CompressedStore:
    """The compressed features of the checkpoints of an inventory.

    Attributes:
        part_rows: training rows of a part, before it is filled up to whole shards.
    """

    inventory: Inventory
    part_rows: int
    _latest: dict[str, Basis] = field(default_factory=dict, repr=False)
    _digests: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def parts(self) -> Sequence[Rows]:
        """The training rows of each part: whole shards."""
        return parts_of_shards(self.part_rows, self.inventory)

    def missing(self, checkpoint: str) -> int:
        """How many parts of a checkpoint are not stored, by their names."""
        total = len(self.parts)
        return total - sum(number < total for number in self.inventory.layout.compressed_parts(checkpoint))

    def require(self) -> None:
        """Check that there is a copy of all training rows, by the names of the files.

        Raises:
            StoreError: a checkpoint lacks one; names the command that makes it.
        """
        total = len(self.parts)
        StoreError.raise_for(
            _incomplete(self.inventory, name, f"{total - absent} of {total} parts of it")
            for name in self.inventory.checkpoints
            if (absent := self.missing(name))
        )

    def basis(self, checkpoint: str) -> Basis:
        """The stored basis of a checkpoint. Only the one that was read last stays in memory.

        Raises:
            StoreError: it is missing, damaged, or of other features.
        """
        if checkpoint in self._latest:
            return self._latest[checkpoint]
        self._latest.clear()
        path, k = self.inventory.layout.compressed_basis(checkpoint), self.inventory.dim
        image = self._current(path, checkpoint, self._common(checkpoint, "basis"))
        require_shapes(path, image.shapes, dict.fromkeys(Basis._fields, (k, k)), _BASIS)
        basis = Basis(*(image.arrays[name] for name in Basis._fields))
        if not all(one.dtype == np.float32 and np.isfinite(one).all() for one in basis):
            raise foreign(path, "matrices that are not finite float32", _BASIS)
        self._latest[checkpoint], self._digests[checkpoint] = basis, image.content
        return basis

    def read(self, checkpoint: str, number: int) -> CompressedPart:
        """One part.

        Raises:
            StoreError: it is missing, damaged, or of other features.
        """
        path = self.inventory.layout.compressed_part(checkpoint, number)
        image = self._current(path, checkpoint, self.part_fingerprint(checkpoint, number))
        return part_of(path, image, self.parts[number], (self.inventory.plan.shard_rows, self.inventory.dim))

    def prepare(self, checkpoint: str) -> None:
        """Compute and store the basis of a checkpoint, if it is not there: the first worker does it for all.

        Parts of other features or rows, as before the training set grew, are removed.
        """
        path, fingerprint = self.inventory.layout.compressed_basis(checkpoint), self._common(checkpoint, "basis")
        if _is_stored(path, fingerprint):
            return
        self._remove_other_parts(checkpoint)
        gram = np.zeros((self.inventory.dim, self.inventory.dim))
        for rows in self._sample(checkpoint):
            gram += unit_gram(rows)
        basis = make_basis(gram, self.inventory.rows)
        if not _is_stored(path, fingerprint):  # the basis of another worker may have parts by now, and differ in its last bits
            write_image(path, basis._asdict(), fingerprint, provenance(), overwrite=path.exists())

    def add(self, checkpoint: str, number: int) -> bool:
        """Compress and store one part; False if it was there, and its shards have not been written again since."""
        path, fingerprint = self.inventory.layout.compressed_part(checkpoint, number), self.part_fingerprint(checkpoint, number)
        if _is_stored(path, fingerprint, shard_digests=self.shard_digests(checkpoint, number)):
            return False
        with unit_of_work():
            shards = self.inventory.read_range(checkpoint, TRAIN, self.parts[number])
            write_image(path, part_arrays(self.basis(checkpoint), shards), fingerprint, provenance(), overwrite=path.exists())
        return True

    def part_fingerprint(self, checkpoint: str, number: int) -> Json:
        """The fingerprint of a part.

        Raises:
            StoreError: the checkpoint has no basis.
        """
        rows = self.parts[number]
        part = {"part": [rows.start, rows.stop], "basis": self._digest(checkpoint)}
        return self._common(checkpoint, "part") | part

    def shard_digests(self, checkpoint: str, number: int) -> bytes:
        """The digests in the headers of the shards of a part, which it stores as ``shard_digests``.

        Raises:
            StoreError: a shard is missing or was cut short.
        """
        layout, length = self.inventory.layout, self.inventory.plan.shard_rows
        shards = self.inventory.shards_in(TRAIN, self.parts[number])
        paths = [layout.features(checkpoint, TRAIN, shard.start // length) for shard in shards]
        return bytes.fromhex("".join(read_header(path).digest for path in paths))

    def fingerprint(self) -> list[str]:
        """What identifies the bases of all checkpoints."""
        return list(map(self._digest, self.inventory.checkpoints))

    def _digest(self, checkpoint: str) -> str:
        """The digest of the content of a basis."""
        if checkpoint not in self._digests:
            self.basis(checkpoint)
        return self._digests[checkpoint]

    def _remove_other_parts(self, checkpoint: str) -> None:
        expected = self._common(checkpoint, "part")
        for number in self.inventory.layout.compressed_parts(checkpoint):
            path = self.inventory.layout.compressed_part(checkpoint, number)
            image = read_or_remove(path, only=())
            if image is not None and differences({key: image.fingerprint.get(key) for key in expected}, expected):
                remove(path)

    def _current(self, path: Path, checkpoint: str, fingerprint: Json) -> Image:
        """The file with this fingerprint."""
        try:
            image = read_image(path)
        except MissingError:
            raise StoreError(_incomplete(self.inventory, checkpoint, f"nothing at {path}")) from None
        if canonical(image.fingerprint) != canonical(fingerprint):
            raise StoreError(_incomplete(self.inventory, checkpoint, f"a copy of other features, or of fewer rows, at {path}"))
        return image

    def _sample(self, checkpoint: str) -> Iterator[Float32]:
        """Features of evenly spaced training rows."""
        shards = self.inventory.shards(TRAIN)
        chosen = evenly_spaced(len(shards), _SAMPLE_SHARDS)
        each = math.ceil(_SAMPLE_ROWS * self.inventory.dim / len(chosen))
        for shard in self.inventory.read_some(checkpoint, TRAIN, [shards[index] for index in chosen.tolist()]):
            yield shard.features[evenly_spaced(len(shard.rows), each)]

    def _common(self, checkpoint: str, kind: str) -> Json:
        return {
            "kind": f"compressed {kind}",
            "format": FORMAT_VERSION,
            "version": COMPRESSION_VERSION,
            "features": self.inventory.features[checkpoint],
            "rows": self.inventory.rows,
            "part_rows": self.part_rows,
        }


def open_compressed(inventory: Inventory) -> CompressedStore:
    """The compressed features of an inventory, all parts of which are there by their names.

    Raises:
        StoreError: a checkpoint lacks some; names the command that makes them.
    """
    first = inventory.checkpoints[0]
    path = inventory.layout.compressed_basis(first)
    try:
        fingerprint = read_image(path, only=()).fingerprint
    except MissingError:
        raise StoreError(_incomplete(inventory, first, "none")) from None
    store = CompressedStore(inventory, require_fields(path, fingerprint, {"part_rows": is_count}, _BASIS)["part_rows"])
    store.basis(first)  # of these rows
    store.require()
    return store


def known_by_headers(inventory: Inventory, part_rows: int) -> CompressedStore:
    """A copy whose bases are not read before they are needed: the headers of their files identify them."""
    digests = {}
    for name in inventory.checkpoints:
        with suppress(StoreError):
            digests[name] = read_header(inventory.layout.compressed_basis(name)).content
    return CompressedStore(inventory, part_rows, _digests=digests)


def _incomplete(inventory: Inventory, checkpoint: str, found: str) -> Problem:
    expected = f"a copy of all {inventory.rows:,} training rows, as the store has them"
    remedy = "run trak compress with the same configuration, or ask without --candidates"
    return Problem(f"compressed features of {checkpoint}", found, expected, remedy)


def _is_stored(path: Path, fingerprint: Json, **arrays: bytes) -> bool:
    """Whether an intact file with this fingerprint and these arrays is there; a damaged one is removed."""
    image = read_or_remove(path, only=arrays)
    if image is None or canonical(image.fingerprint) != canonical(fingerprint):
        return False
    return all(image.arrays[name].tobytes() == values for name, values in arrays.items())
