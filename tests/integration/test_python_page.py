"""docs/python.md and the notebooks, tried as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def test_the_blocks_of_the_page_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("pandas", "xarray", "sklearn", "jinja2"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", (DOCS / "python.md").read_text(), flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "(50, 250)" in printed
    assert "trak store" in printed
    assert "128 hooks" in printed
    assert "trak finalize" in printed or "trak featurize" in printed


def outputs(notebook: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The code cells of a notebook with their outputs."""
    cells = json.loads(notebook.read_text())["cells"]
    return [(cell, cell["outputs"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_executed_and_hold_nothing_of_a_machine(notebook: Path) -> None:
    cells = outputs(notebook)
    assert [cell["execution_count"] for cell, _ in cells] == list(range(1, len(cells) + 1))
    shown = [output for _, found in cells for output in found]
    assert not [output for output in shown if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("text/html" in output.get("data", {}) for output in shown)
    texts = json.dumps([output for output in shown if "image/png" not in output.get("data", {})])
    assert not re.search(r"/tmp/|/home/|/root/|/work/|/Users/", texts)
