"""The benchmark writes its results in the form of docs/results."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

NAN = float("nan")
HALVES = {
    "setting": "iris",
    "protocol": "halves",
    "ceiling": 0.9,
    "methods": [
        {"label": "early_training", "lds": {1: [0.7274, 0.7, 0.75], 5: [0.8, 0.7, 0.9]}},
        {"label": "early_training + 4 masks", "lds": {1: [0.75, 0.7, 0.8]}},
        {"label": "kronfluence EK-FAC, heuristic", "lds": {10: [0.6, NAN, NAN]}},
    ],
    "paired": [
        {
            "comparison": ["early_training@5", "best kronfluence EK-FAC@10"],
            "of": ["early_training@5", "kronfluence EK-FAC, heuristic@10"],
            "mean": -0.2,
            "low": -0.3,
            "high": -0.1,
            "p": 0.002,
        }
    ],
}
THIS_RUN = {
    "setting": "iris",
    "protocol": "this run",
    "ceiling": NAN,
    "methods": [{"label": "unroll", "lds": {1: [0.99, 0.98, 1.0]}}],
    "paired": [],
}


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    monkeypatch.syspath_prepend(ROOT / "scripts" / "lds")
    importlib.import_module("tables").write_csv([HALVES, THIS_RUN], tmp_path)
    return {path.name: list(csv.DictReader(path.open())) for path in tmp_path.iterdir()}


def test_columns_are_those_of_the_documented_results(rows: dict[str, list[dict[str, Any]]]) -> None:
    for name, written in rows.items():
        documented = csv.DictReader((ROOT / "docs" / "results" / name).open())
        assert list(written[0]) == documented.fieldnames, name


def test_each_method_has_a_row_for_each_protocol_and_number_of_checkpoints(rows: dict[str, list[dict[str, Any]]]) -> None:
    found = [(row["protocol"], row["method"], row["checkpoints"], row["lds"]) for row in rows["lds.csv"]]
    assert found == [
        ("halves", "early_training", "1", "0.727"),
        ("halves", "early_training", "5", "0.800"),
        ("halves", "early_training with 4 masks", "1", "0.750"),
        ("halves", "EK-FAC heuristic", "10", "0.600"),
        ("halves", "noise ceiling", "", "0.900"),
        ("this run", "unroll", "1", "0.990"),
    ]


def test_a_difference_names_the_best_variant_and_its_group(rows: dict[str, list[dict[str, Any]]]) -> None:
    (row,) = rows["lds_differences.csv"]
    assert (row["other"], row["compared_with"]) == ("EK-FAC heuristic", "EK-FAC, best of three dampings")
    assert (row["checkpoints"], row["other_checkpoints"], row["difference"]) == ("5", "10", "-0.200")
