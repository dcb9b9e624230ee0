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
        {"label": "early_training", "lds": {1: [0.7274, 0.7, 0.75], 5: [0.8, 0.7, 0.9]}, "seconds": 1.25},
        {"label": "early_training + 4 masks", "lds": {1: [0.75, 0.7, 0.8]}, "seconds": 5.0},
        {"label": "kronfluence EK-FAC, heuristic", "lds": {10: [0.6, NAN, NAN]}, "seconds": NAN},
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
    "methods": [{"label": "unroll", "lds": {1: [0.99, 0.98, 1.0]}, "seconds": NAN}],
    "paired": [],
}


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    monkeypatch.syspath_prepend(ROOT / "scripts" / "lds")
    importlib.import_module("tables").write_csv([HALVES, THIS_RUN], tmp_path, ["iris"])
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


def test_costs_are_of_the_methods_that_were_timed(rows: dict[str, list[dict[str, Any]]]) -> None:
    found = {row["method"]: row["seconds"] for row in rows["lds_costs.csv"]}
    assert found == {"early_training": "1.250", "early_training with 4 masks": "5.000"}


def test_a_second_call_replaces_what_it_measured_and_keeps_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts" / "lds")
    tables = importlib.import_module("tables")
    order = ["wine", "iris"]
    tables.write_csv([HALVES, THIS_RUN], tmp_path, order)
    again = {**THIS_RUN, "methods": [{"label": "dot", "lds": {1: [0.5, 0.4, 0.6]}, "seconds": NAN}]}
    tables.write_csv([again, {**THIS_RUN, "setting": "wine"}], tmp_path, order)
    with (tmp_path / "lds.csv").open() as file:
        rows = [(row["setting"], row["protocol"], row["method"]) for row in csv.DictReader(file)]
    assert rows[0] == ("wine", "this run", "unroll")
    assert rows[1:] == [
        *[("iris", "halves", name) for name in ["early_training"] * 2 + ["early_training with 4 masks", "EK-FAC heuristic"]],
        ("iris", "halves", "noise ceiling"),
        ("iris", "this run", "dot"),
    ]
    with (tmp_path / "lds_costs.csv").open() as file:
        assert {row["setting"] for row in csv.DictReader(file)} == {"iris"}
