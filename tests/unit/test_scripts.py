"""Every script of the repository can be imported, and those with options explain them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_process import fresh_python

SCRIPTS = Path(__file__).parents[2] / "scripts"
#: Scripts of one folder import each other by name.
FOLDERS = sorted({path.parent for path in SCRIPTS.rglob("*.py")})

#: Imports every script of a folder, in one process.
IMPORT_ALL = """
import importlib, pathlib, sys, traceback
folder = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(folder))
failed = []
for path in sorted(folder.glob("*.py")):
    try:
        importlib.import_module(path.stem)
    except Exception:
        traceback.print_exc()
        failed.append(path.name)
sys.exit(f"cannot be imported: {', '.join(failed)}" if failed else 0)
"""


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(SCRIPTS.parent).as_posix())
def test_every_script_can_be_imported(folder: Path) -> None:
    outcome = fresh_python(SCRIPTS.parent, "-c", IMPORT_ALL, str(folder))
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("script", ["bench_lds.py", "bench_projection.py", "bench_featurize.py"])
def test_a_benchmark_explains_its_options(script: str) -> None:
    outcome = fresh_python(SCRIPTS.parent, str(SCRIPTS / script), "--help")
    assert outcome.returncode == 0, outcome.stderr
    assert "options:" in outcome.stdout


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.py")), ids=lambda path: path.relative_to(SCRIPTS).as_posix())
def test_every_script_says_what_it_does(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", sorted((SCRIPTS / "lds").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_setting_of_the_benchmark_is_a_valid_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trak_cli.config.load import load

    monkeypatch.chdir(SCRIPTS.parent)
    monkeypatch.syspath_prepend(SCRIPTS / "lds")
    if path.stem != "common":
        assert load("train", path.stem, path.parent, []).config.name == path.stem


def test_a_data_set_whose_package_is_not_installed_is_left_out_with_a_remedy(tmp_path: Path) -> None:
    """A module of the same name, which has no files, stands in for a package that is not installed."""
    (tmp_path / "mlxtend.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(SCRIPTS / "lds" / "data.py"), str(tmp_path / "data"), "mnist", "iris"]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"iris_train.npz", "iris_test.npz"}
    assert "package mlxtend is not installed" in outcome.stderr
    assert "-r scripts/lds/requirements.txt" in outcome.stderr
