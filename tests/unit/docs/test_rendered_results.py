"""The tables in docs/*.md are what scripts/docs/render_results.py renders from docs/results."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "docs" / "render_results.py"
RESULTS = ROOT / "docs" / "results"


def test_pages_are_up_to_date() -> None:
    completed = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr


def test_every_result_file_has_its_command() -> None:
    documented = re.findall(r"`(\w+\.csv)`", (RESULTS / "README.md").read_text())
    assert sorted(documented) == sorted(path.name for path in RESULTS.glob("*.csv"))


def test_every_table_is_used_by_a_page() -> None:
    defined = set(tomllib.loads((RESULTS / "tables.toml").read_text()))
    used = {name for page in (ROOT / "docs").glob("*.md") for name in re.findall(r"<!-- table: (\w+) -->", page.read_text())}
    assert used == defined


def test_a_table_is_replaced_between_its_marks() -> None:
    fill = runpy.run_path(str(SCRIPT))["fill"]
    table = {"csv": "demo.csv", "where": {"estimator": ["cosine"]}, "columns": [["name", "{estimator}"], ["LDS", "{lds}"]]}
    page = "before\n<!-- table: one -->\nold\n<!-- end of table -->\nafter\n"
    expected = "before\n<!-- table: one -->\n| name | LDS |\n| --- | --- |\n| cosine | 0.159 |\n<!-- end of table -->\nafter\n"
    assert fill(page, {"one": table}) == expected
