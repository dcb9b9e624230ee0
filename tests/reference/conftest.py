"""The reference data: a small CNN on digits, ten checkpoints, retrained models, and scores of the original library."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared" / "reference" / "digits_cnn"


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The part in this folder: two checkpoints, and scores on every tenth target."""
    return Path(__file__).with_name("data")


@pytest.fixture(scope="session")
def reference() -> Path:
    """All reference data, if they are next to the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data at {SHARED}")
    return SHARED
