"""Tables: named columns of CSV and Parquet files become float32 inputs and a label."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trak_cli.errors import ConfigError, InputError
from trak_cli.plugins import Table

ROWS = [[5.1, 3.5, 0, 1.25], [4.9, 3.0, 2, -0.5], [6.2, 2.9, 1, 3.0]]
NAMES = ["length", "width", "kind", "price"]


@pytest.fixture(params=["csv", "parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    file = tmp_path / f"flowers.{request.param}"
    if request.param == "csv":
        file.write_text("\n".join([",".join(NAMES), *(",".join(map(str, row)) for row in ROWS)]) + "\n\n")
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {name: [row[i] for row in ROWS] for i, name in enumerate(NAMES)}
        parquet.write_table(arrow.table(columns), file)
    return str(file)


def test_inputs_come_in_the_order_in_which_they_are_named(path: str) -> None:
    data = Table(path, inputs=["width", "length"], label="kind")
    inputs, label = data[1]
    assert inputs.dtype == torch.float32
    assert inputs.tolist() == pytest.approx([3.0, 4.9])
    assert label.dtype == torch.int64
    assert [int(data[i][1]) for i in range(len(data))] == [0, 2, 1]


def test_a_label_that_is_not_an_integer_is_for_regression(path: str) -> None:
    data = Table(path, inputs=["length"], label="price", first=1)
    assert [data[i][1].dtype for i in range(len(data))] == [torch.float32] * 2
    assert data[0][1] == -0.5


def test_the_kind_of_label_does_not_depend_on_the_selected_rows(path: str) -> None:
    assert Table(path, inputs=["length"], label="price", first=2)[0][1].dtype == torch.float32


def test_unknown_columns_are_named_together(path: str) -> None:
    with pytest.raises(InputError) as caught:
        Table(path, inputs=["length", "depth"], label="sort")
    assert [problem.found for problem in caught.value.problems] == ["no column 'depth'", "no column 'sort'"]


def test_classes_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,cat\n2,dog\n3,cat\n")
    data = Table(str(tmp_path / "t.csv"), ["x"], "y", classes=["dog", "cat"])
    assert [int(data[i][1]) for i in range(3)] == [1, 0, 1]
    with pytest.raises(InputError, match=r"y, row 1: found 'dog'; expected one of cat, cow"):
        Table(str(tmp_path / "t.csv"), ["x"], "y", classes=["cat", "cow"])


def test_values_that_are_not_numbers_are_refused_by_row_and_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y,z\n1,nan,0\n,2,1\n")
    with pytest.raises(InputError) as caught:
        Table(str(tmp_path / "t.csv"), ["x", "y"], "z")
    assert [problem.where.split(": ")[1] for problem in caught.value.problems] == ["x, row 1", "y, row 0"]


def test_lines_of_unequal_length_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,2\n3\n")
    with pytest.raises(InputError, match=r"row 1 of .*found 1 value"):
        Table(str(tmp_path / "t.csv"), ["x"], "y")
    with pytest.raises(InputError, match="no such file"):
        Table(str(tmp_path / "nothing.csv"), ["x"], "y")
    with pytest.raises(ConfigError, match="inputs"):
        Table(str(tmp_path / "t.csv"), [], "y")


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"no Parquet")
    with pytest.raises(InputError, match="a file that cannot be read"):
        Table(str(tmp_path / "t.parquet"), ["x"], "y")
