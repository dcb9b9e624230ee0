"""HTML for notebooks: headings and tables of names and values, escaped."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape
from typing import Any

from trak_cli.types import listed, plain

_LEFT = "style='text-align:left;vertical-align:top'"

#: Formulas, which a terminal shows with -v only.
_LONG = ("formula", "ridge_rule", "weights_rule")

#: Items of a list that are shown.
_MOST = 20


def card(heading: str, rows: Mapping[str, str]) -> str:
    """A heading and a table of two columns."""
    lines = "".join(f"<tr><th {_LEFT}>{escape(name)}</th><td {_LEFT}>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<div><b>{escape(heading)}</b><table>{lines}</table></div>"


def html_of(value: Any) -> str:
    """A JSON value: a mapping as a table of names and values, a list of mappings as a table with headings, others as text.

    What is None or empty is left out, as are formulas, and the items of a list after the first :data:`_MOST`.
    """
    if isinstance(value, Mapping):
        lines = [
            f"<tr><th {_LEFT}>{escape(str(name))}</th><td {_LEFT}>{html_of(value[name])}</td></tr>" for name in _shown(value)
        ]
        return f"<table>{''.join(lines)}</table>"
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        names = list(dict.fromkeys(name for item in value for name in _shown(item)))
        head = "".join(f"<th {_LEFT}>{escape(str(name))}</th>" for name in names)
        rows = ["".join(f"<td {_LEFT}>{html_of(item.get(name))}</td>" for name in names) for item in value[:_MOST]]
        rows += [f"<td>and {len(value) - _MOST} more</td>"] if len(value) > _MOST else []
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
    if isinstance(value, list):
        return escape(listed([_text(item) for item in value], _MOST))
    return escape(_text(value))


def _shown(value: Mapping[str, Any]) -> list[str]:
    return [name for name, held in value.items() if name not in _LONG and held not in (None, "", [], {})]


def show_summaries(kind: type[Any]) -> None:
    """Let notebooks show the summaries of this class, which are dataclasses, as tables; nothing outside of IPython."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(kind, _summary)


def _summary(summary: Any) -> str:
    return f"<div><b>{escape(type(summary).__name__)}</b>{html_of(plain(summary))}</div>"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
