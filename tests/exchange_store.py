"""A store with random scores of another program, and exports and imports of it, in the process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trak_cli.config.load import load
from trak_cli.results.exchange.export import Export, ExportSummary, export
from trak_cli.results.exchange.import_scores import Import, ImportSummary, import_scores
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import Float32, Silent


@dataclass(frozen=True)
class Store:
    """The store of a folder."""

    root: Path

    def exported(self, out: Path, name: str = "mine", **options: Any) -> ExportSummary:
        """Export scores of the estimator ``name``."""
        loaded = load("export", None, None, [f"store={self.root}", f"estimator.name={name}"])
        return export(loaded, Silent(), to=Export(out, **options))

    def imported(self, file: Path, name: str = "mine", **options: Any) -> ImportSummary:
        """Import a file as the estimator ``name``."""
        return import_scores(load("import", None, None, [f"store={self.root}"]), Silent(), of=Import(file, name, **options))

    def scores(self, name: str = "mine", split: str = "test") -> Float32:
        """The stored scores (targets, n)."""
        return read_scores(Layout(self.root).scores(name, split))


def random_scores(targets: int, rows: int, seed: int = 0) -> Float32:
    """Scores of very different size and both signs."""
    generator = np.random.default_rng(seed)
    return (generator.standard_normal((targets, rows)) * 10.0 ** generator.integers(-20, 20, (targets, rows))).astype(
        np.float32
    )


def store_with(root: Path, scores: Float32, split: str = "test") -> Store:
    """A new store with these scores of the estimator ``mine``."""
    root.mkdir(parents=True)
    file = root.parent / f"{root.name}.npy"
    np.save(file, scores)
    store = Store(root)
    store.imported(file, split=split)
    return store
