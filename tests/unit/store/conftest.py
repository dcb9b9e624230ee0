"""What the store's tests share: one small shard's values, and files made to harm."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from trak_cli.store.container import write_text
from trak_cli.store.header import CREATED_BY, PLAIN, seal
from trak_cli.store.shards import FeatureRows
from trak_cli.types import Json, Rows

FINGERPRINT: Json = {"format": 1, "projection": {"kind": "rademacher", "dim": 16, "seed": 0}, "checkpoint": "a" * 64}
PROVENANCE: Json = {"program": "0.1.0", "device": "cpu", "host": "here"}


@pytest.fixture
def fingerprint() -> Json:
    return {**FINGERPRINT, "projection": dict(FINGERPRINT["projection"])}


@pytest.fixture
def provenance() -> Json:
    return dict(PROVENANCE)


@pytest.fixture
def values() -> FeatureRows:
    return make_values(Rows(8, 20))


def make_values(rows: Rows, k: int = 16) -> FeatureRows:
    """Values that are a function of the row number alone."""
    numbers = np.arange(rows.start, rows.stop)
    features = np.sin(np.outer(numbers + 1.0, np.arange(1.0, k + 1))).astype(np.float32)
    q, f = (numbers / 100).astype(np.float32), np.cos(numbers).astype(np.float32)
    return FeatureRows(rows, features, q, f, numbers.astype(np.uint64) * 7919)


@pytest.fixture
def rows_of_sines() -> Callable[[Rows], FeatureRows]:
    return make_values


@pytest.fixture
def crafted(tmp_path: Path) -> Callable[[Callable[[h5py.File], None]], Path]:
    """Write a file whose header and digest are right but whose HDF5 content ``fill`` chooses freely."""

    def craft(fill: Callable[[h5py.File], None], kind: int = PLAIN) -> Path:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver="latest") as file:
            for name, text in (("created_by", CREATED_BY), ("fingerprint", "{}"), ("provenance", "{}")):
                write_text(file, name, text)
            fill(file)
        path = tmp_path / "crafted.h5"
        path.write_bytes(seal(memoryview(buffer.getvalue()), "0" * 64, kind))
        return path

    return craft
