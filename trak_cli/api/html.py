"""HTML for notebooks: a heading with a table of names and values, escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def card(heading: str, rows: Mapping[str, str]) -> str:
    """A heading and a table of two columns."""
    left = "style='text-align:left;vertical-align:top'"
    lines = "".join(f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<div><b>{escape(heading)}</b><table>{lines}</table></div>"
