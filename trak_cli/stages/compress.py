"""``trak compress``: a compressed copy of the training features, from which `trak ask --candidates` chooses rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from trak_cli.config.load import Loaded
from trak_cli.stages.compressing.compressed_store import CompressedStore
from trak_cli.stages.compressing.recall import TARGETS, Recall, find_recall, measure_recall, measured_split
from trak_cli.stages.index.inventory import require_stored, take_inventory
from trak_cli.stages.index.work_parts import part_rows
from trak_cli.stages.inputs.device import use_threads
from trak_cli.stages.inputs.worker import worker_share
from trak_cli.stages.scoring.gram_store import require_grams
from trak_cli.store.dtypes import row_bytes
from trak_cli.store.layout import Layout
from trak_cli.store.temp_files import sweep
from trak_cli.types import TRAIN, Reporter

#: Numbers of candidates whose recall is reported.
_COUNTS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)


@dataclass(frozen=True)
class CandidateRecall:
    """The share of the true extremes that this many candidates of each end contain.

    Attributes:
        top_10, top_100: of the 10 (100) highest and the 10 (100) lowest scores; None for fewer candidates than these.
    """

    candidates: int
    top_10: float
    top_100: float | None


@dataclass(frozen=True)
class CompressSummary:
    """The result of one call.

    Attributes:
        rows: number of training rows.
        parts: of all checkpoints; ``written`` by this call; ``missing``: of other workers that have not finished.
        copy_bytes, feature_bytes: of the compressed copy as far as it is stored, and of the features alone.
        split: whose targets the recall was measured with; None as long as parts are missing.
        targets: at most this many of them.
        recall: by number of candidates; empty if there are too few training rows for a choice.
    """

    store: Path
    estimator: str
    checkpoints: list[str]
    rows: int
    parts: int
    written: int
    missing: int
    copy_bytes: int
    feature_bytes: int
    split: str | None
    targets: int
    recall: list[CandidateRecall]


def compress(loaded: Loaded, reporter: Reporter) -> CompressSummary:
    """Compress the missing parts of this worker's share; measure the recall once all parts are stored.

    Raises:
        ConfigError, StoreError, MachineError: see the classes.
    """
    config = loaded.config
    use_threads(config.threads)
    layout = Layout(Path(config.store))
    name, count = config.estimator.shown
    estimator = replace(config.estimator.spec, name=name)
    inventory = take_inventory(layout, config.estimator.average_over).first(count)
    if estimator.needs_gram:
        require_grams(inventory, estimator)
    require_stored(inventory, sorted({TRAIN, measured_split(layout)}))
    store = CompressedStore(inventory, part_rows(config.worker.part_rows, inventory.dim))
    units = [(name, number) for name in inventory.checkpoints for number in range(len(store.parts))]
    mine = worker_share(config.worker, reporter).grouped(units, lambda unit: unit[0])
    written = 0
    for checkpoint, own in mine.items():
        store.prepare(checkpoint)  # the first worker under each checkpoint computes the basis for the others
        with reporter.meter(f"compress {checkpoint}", sum(len(store.parts[number]) for _, number in own), "rows") as meter:
            for _, number in own:
                written += store.add(checkpoint, number)
                meter.advance(len(store.parts[number]))
        sweep(layout.compressed_folder(checkpoint))
    missing = sum(map(store.missing, inventory.checkpoints))
    recall = None if missing else find_recall(store, estimator) or measure_recall(store, estimator, reporter)
    paths = [path for checkpoint in inventory.checkpoints for path in layout.compressed_files(checkpoint)]
    dtype = str(inventory.features[inventory.checkpoints[0]]["dtype"])
    return CompressSummary(
        store=layout.root,
        estimator=estimator.name,
        checkpoints=inventory.checkpoints,
        rows=inventory.rows,
        parts=len(units),
        written=written,
        missing=missing,
        copy_bytes=sum(path.stat().st_size for path in paths),
        feature_bytes=len(inventory.checkpoints) * inventory.rows * row_bytes(dtype, inventory.dim),
        split=recall.split if recall else None,
        targets=len(recall.ranks) if recall else TARGETS,
        recall=_table(recall, inventory.rows) if recall else [],
    )


def _table(recall: Recall, rows: int) -> list[CandidateRecall]:
    counts = [count for count in _COUNTS if count < rows]
    return [CandidateRecall(count, recall.of(10, count), recall.of(100, count) if count >= 100 else None) for count in counts]
