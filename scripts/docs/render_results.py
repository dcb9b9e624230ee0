"""Render the tables of docs/*.md from the CSV files in docs/results.

python scripts/docs/render_results.py            rewrites the pages
python scripts/docs/render_results.py --check    changes nothing; exits with 1 if a page is not up to date

A page marks a table with ``<!-- table: NAME -->`` and ``<!-- end of table -->``; what is between them is replaced. The section
``[NAME]`` of docs/results/tables.toml defines the table:

- ``csv``: the file.
- ``where`` (optional): column -> values to keep.
- ``labels`` (optional): column -> {value in the file: text in the table}; other values are shown as they are.
- ``pivot`` (optional): ``index``, ``columns`` and ``values`` as in pandas; ``columns`` is a template. There is one row for each
  value of ``index``.
- ``largest`` (optional): new column -> columns whose largest number it holds.
- ``columns``: pairs of a header and a template. A cell is empty if one of its values is missing.

A template is a text with names of columns in braces.

``[NAME]`` with ``summary = true`` is the summary of paired differences over settings (:func:`summarise`).
"""

from __future__ import annotations

import csv
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "lds"))

from comparison import paired_summary

from trak_cli.attribution.lds.bootstrap import PValue

Row = dict[str, str]

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "results"
#: A field of a template: the name of a column in braces.
FIELD = re.compile(r"\{([^}]+)\}")
MARKED = re.compile(r"(?<=<!-- table: )(?P<name>\w+)(?P<open> -->\n).*?(?=<!-- end of table -->)", flags=re.DOTALL)


def main() -> None:
    tables = tomllib.loads((RESULTS / "tables.toml").read_text())
    pages = {page: fill(page.read_text(), tables) for page in sorted(DOCS.glob("*.md"))}
    outdated = [page for page, text in pages.items() if text != page.read_text()]
    if "--check" in sys.argv[1:]:
        if outdated:
            names = ", ".join(page.name for page in outdated)
            sys.exit(f"not up to date: {names}; run python scripts/docs/render_results.py")
        return
    for page in outdated:
        page.write_text(pages[page])
        print(page.name)


def fill(page: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a page with every marked table rendered."""
    return MARKED.sub(lambda match: f"{match['name']}{match['open']}{render(tables[match['name']])}", page)


def render(table: Mapping[str, Any]) -> str:
    """A table as Markdown, from its definition."""
    rows = [row for row in read_rows(table["csv"]) if all(row[key] in kept for key, kept in table.get("where", {}).items())]
    for column, texts in table.get("labels", {}).items():
        for row in rows:
            row[column] = texts.get(row[column], row[column])
    if table.get("summary"):
        rows = summarise(rows)
    if "pivot" in table:
        rows = pivot(rows, **table["pivot"])
    for column, others in table.get("largest", {}).items():
        for row in rows:
            row[column] = max((row[other] for other in others if other in row), key=float, default="")
    header, templates = zip(*table["columns"], strict=True)
    lines = [header, ["---"] * len(header), *([cell(template, row) for template in templates] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_rows(name: str) -> list[Row]:
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def pivot(rows: Sequence[Row], index: str, columns: str, values: str | Sequence[str]) -> list[Row]:
    """One row for each value of ``index``, in order of appearance.

    A single ``values`` column is stored under ``columns``; several are stored under ``columns`` plus a space and their name.
    """
    wide: dict[str, Row] = {}
    for row in rows:
        key = FIELD.sub(lambda match, row=row: row[match[1]], columns)
        target = wide.setdefault(row[index], {index: row[index]})
        if isinstance(values, str):
            target[key] = row[values]
        else:
            target |= {f"{key} {value}": row[value] for value in values}
    return list(wide.values())


def cell(template: str, row: Row) -> str:
    """A template with the values of a row; empty if one of them is missing. Negative numbers get a minus sign."""
    if not all(row.get(name) for name in FIELD.findall(template)):
        return ""
    return FIELD.sub(lambda match: re.sub(r"^-(?=\d)", "−", row[match[1]]), template)


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Paired differences, one row for each setting, as one row for each pair of methods (:func:`paired_summary`)."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = (row["method"], row["checkpoints"], row["compared_with"], row["other_checkpoints"])
        groups.setdefault(key, []).append(row)
    summaries = []
    for (method, checkpoints, other, other_checkpoints), group in groups.items():
        differences = [float(row["difference"]) for row in group]
        summary = paired_summary(differences, [PValue(float(row["p_value"])) for row in group])
        numbers = {
            "mean": summary.mean.estimate,
            "low": summary.mean.low,
            "high": summary.mean.high,
            "smallest": min(differences),
        }
        counts = {
            "settings": summary.settings,
            "positive": summary.positive,
            "significantly_positive": summary.significantly_positive,
            "significantly_negative": summary.significantly_negative,
        }
        summaries.append(
            {"method": f"{method}, {checkpoints}", "other": f"{other}, {other_checkpoints}"}
            | {name: f"{number:+.3f}".replace("-", "−") for name, number in numbers.items()}
            | {name: str(count) for name, count in counts.items()}
        )
    return summaries


if __name__ == "__main__":
    main()
