"""The wheel: everything the program needs is in it, and it works where the source is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2]
SOURCE_FILES = ("trak_cli", "configs", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
KERNELS = "trak_cli/projection/kernels"
KERNEL_SUFFIXES = (".c", ".cu", ".cuh", ".h")

pytestmark = pytest.mark.slow


def run(folder: Path, *command: str | Path) -> str:
    """Run a program in a folder, without this process's import paths; its stdout."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the source, so that no product of an earlier build gets in."""
    pytest.importorskip("build", reason="the wheel is built with the package build")
    source = tmp_path_factory.mktemp("source")
    for name in SOURCE_FILES:
        if (SOURCE / name).is_dir():
            shutil.copytree(SOURCE / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
        else:
            shutil.copy(SOURCE / name, source)
    run(source, sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", ".")
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of a new environment with the wheel; other packages are this environment's."""
    environment = tmp_path_factory.mktemp("installed")
    run(environment, sys.executable, "-m", "venv", "--without-pip", environment)
    programs = environment / "bin"
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    run(environment, *pip, "install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", wheel)
    places = {sysconfig.get_path(key) for key in ("purelib", "platlib")}
    ours = {path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")} | places
    # A .pth file adds folders after the environment's own, and the .pth files in them (an editable trak) are not read.
    theirs = run(environment, programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(theirs) / "other_packages.pth").write_text("\n".join(sorted(ours)) + "\n")
    return programs


def relative_files(folder: str, keep: Callable[[Path], bool]) -> set[str]:
    return {str(path.relative_to(SOURCE)) for path in (SOURCE / folder).rglob("*") if path.is_file() and keep(path)}


def test_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = relative_files("trak_cli", lambda path: path.suffix == ".py")
    configs = relative_files("configs", lambda path: path.suffix == ".yaml")
    kernels = relative_files(KERNELS, lambda path: path.suffix in KERNEL_SUFFIXES)
    assert "configs/trak.yaml" in configs
    expected = {*modules, *kernels, *(f"trak_cli/{name}" for name in configs), "trak_cli/py.typed"}
    assert expected <= names, f"missing: {sorted(expected - names)}"
    assert all(name.startswith(("trak_cli/", "trak_cli-")) for name in names), "something outside of the package"


def test_the_installed_program_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    where = run(tmp_path, installed / "python", "-c", "import trak_cli; print(trak_cli.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_the_pipeline_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    run(tmp_path, installed / "trak", "train", "experiment=digits", "train.count=1", "trainer.epochs=1")
    run(tmp_path, installed / "trak", "run", "experiment=digits", "projection.dim=128")
    assert list((tmp_path / "runs" / "digits" / "scores").glob("*/*.h5"))
