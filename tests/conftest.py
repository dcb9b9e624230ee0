"""What tests of every kind share: tests that need something rare are skipped without it, or fail where it must be."""

from __future__ import annotations

import os

import pytest


def require(what: str, missing: str | None) -> None:
    """Skip the running test when ``missing`` says why ``what`` is not there.

    Where it must be there, the environment variable TRAK_REQUIRE names it (several: separated by commas), and the test
    fails instead.
    """
    if missing is None:
        return
    if what in os.environ.get("TRAK_REQUIRE", "").split(","):
        pytest.fail(f"TRAK_REQUIRE asks for {what}, but {missing}", pytrace=False)
    pytest.skip(f"needs {what}: {missing}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``gpu`` need a CUDA device and CuPy."""
    if item.get_closest_marker("gpu") is not None:
        from trak_cli.projection.gpu import cuda

        require("gpu", cuda.missing())
