"""Tables in a terminal of any width: words, such as names of checkpoints and paths, are never broken."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


def show_table(console: Console, table: Table) -> None:
    """Print a table. If it has a row with more long words than fit into a line, print each row as a paragraph instead: its
    first cell, and below it the others after their headings."""
    options = console.options.update(max_width=10_000)
    for column in table.columns:
        cells = (column.header, *column.cells)
        column.min_width = max(Measurement.get(console, options, cell).minimum for cell in cells)
    if Measurement.get(console, options, table).minimum <= console.width:
        console.print(table)
        return
    headings = [Text(str(column.header), "bold") for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        shown = [(heading, _text(cell)) for heading, cell in zip(headings, cells, strict=True) if _text(cell).plain]
        for place, (heading, cell) in enumerate(shown):
            line = Text("  " * (place > 0))
            line.append_text(heading).append(" " * bool(heading.plain)).append_text(cell)
            console.print(line, soft_wrap=True)


def _text(cell: object) -> Text:
    return cell.copy() if isinstance(cell, Text) else Text(str(cell))
