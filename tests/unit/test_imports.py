"""Commands that need no model start without importing PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Runs the command line in this process, then prints which of the named modules it imported.
PROGRAM = """
import sys
from trak_cli.__main__ import main
try:
    main()
except SystemExit as error:
    assert error.code in (0, None, {code}), error.code
print(*sorted({{"torch", "h5py", "hydra"}} & set(sys.modules)), file=sys.stderr)
"""

STORE = "store=none"


def imported(folder: Path, *arguments: str, code: int = 0) -> set[str]:
    """The heavy modules that ``trak ARGUMENTS`` imports when it exits with ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code=code), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), *((command, "--help") for command in ("featurize", "top", "report"))]
)
def test_help_imports_neither_torch_nor_hydra_nor_h5py(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert imported(tmp_path, *arguments) == set()


def test_printing_the_configuration_imports_no_torch(tmp_path: Path) -> None:
    assert imported(tmp_path, "config", "experiment=digits") == {"hydra"}


def test_status_imports_no_torch(tmp_path: Path) -> None:
    assert "torch" not in imported(tmp_path, "status", STORE)


def test_top_without_a_dataset_imports_no_torch(tmp_path: Path) -> None:
    assert "torch" not in imported(tmp_path, "top", STORE, code=3)


def test_a_wrong_configuration_is_reported_without_importing_torch(tmp_path: Path) -> None:
    assert "torch" not in imported(tmp_path, "score", "projection.dimension=3", code=2)
