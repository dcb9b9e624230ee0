"""Which files of a compressed copy `trak compress` would not write, because they are stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.errors import StoreError
from trak_cli.stages.compressing.compressed_store import known_by_headers
from trak_cli.stages.compressing.recall import measured_split, recall_fingerprint
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.submitting.fingerprints import has_fingerprint
from trak_cli.store.container import read_image
from trak_cli.types import Json


def copy_files(inventory: Inventory, estimator: EstimatorSpec, part_rows: int) -> dict[Path, bool]:
    """The parts of the copy and the recall of an estimator, in the order of the stage: path -> whether it is stored."""
    layout, store = inventory.layout, known_by_headers(inventory, part_rows)
    units = {
        layout.compressed_part(name, part): (name, part) for name in inventory.checkpoints for part in range(len(store.parts))
    }
    files = {path: _matches(path, partial(store.part_fingerprint, *unit)) for path, unit in units.items()}
    begun = {units[path][0] for path, stored in files.items() if stored}  # others may have the basis of another copy
    fingerprint = partial(recall_fingerprint, store, estimator, measured_split(layout))
    recall = layout.compressed_recall(estimator.name)
    files[recall] = len(begun) == len(inventory.checkpoints) and _matches(recall, fingerprint)
    if all(files.values()):  # the headers of all shards are read only once nothing else is missing
        files |= {path: _is_of_stored_shards(path, partial(store.shard_digests, *unit)) for path, unit in units.items()}
    return files


def _matches(path: Path, expected: Callable[[], Json]) -> bool:
    """Whether a file is there with this fingerprint, which may depend on other files that are missing."""
    try:
        return has_fingerprint(path, expected())
    except StoreError:
        return False


def _is_of_stored_shards(path: Path, digests: Callable[[], bytes]) -> bool:
    """Whether a part was made from shards with these digests, which are still there."""
    try:
        return read_image(path, only=("shard_digests",)).arrays["shard_digests"].tobytes() == digests()
    except StoreError:
        return False
