"""The plots of a page as SVG, drawn by Matplotlib, in the colours of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trak_cli.plugins.optional import needed
from trak_cli.types import Float64

#: A colour that Matplotlib is given -> the CSS variable of the page that replaces it.
_COLOURS = {"#010101": "var(--ink)", "#020202": "var(--muted)", "#030303": "var(--line)", "#040404": "var(--accent)"}
_INK, _MUTED, _LINE, _ACCENT = _COLOURS


@dataclass(frozen=True)
class Interval:
    """A named estimate with its interval, if it has one; ``strong``: highlighted."""

    name: str
    estimate: float
    low: float | None
    high: float | None
    strong: bool


def spread_plot(centres: Float64, densities: Float64) -> str:
    """The distribution of scores: the share of the scores (log scale) by their size in standard deviations of the target."""
    figure, axes = _figure(6.4, 2.6)
    shown = densities > 0
    axes.bar(centres[shown], densities[shown], width=centres[1] - centres[0], color=_ACCENT, linewidth=0)
    axes.set_yscale("log")
    axes.margins(x=0.01)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_xlabel("score, in standard deviations of its target (the last bars: and beyond)")
    axes.set_ylabel("share of all scores")
    return _svg(figure, "spread")


def lds_plot(intervals: Sequence[Interval], ceiling: float | None) -> str:
    """The LDS of several sets of scores with their intervals, and the noise ceiling."""
    figure, axes = _figure(6.4, 0.9 + 0.42 * len(intervals))
    for height, one in enumerate(intervals):
        colour = _ACCENT if one.strong else _MUTED
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [height, height], color=colour, linewidth=3, solid_capstyle="round")
        axes.plot([one.estimate], [height], "o", color=colour, markersize=7)
        axes.annotate(
            f"{one.estimate:.2f}", (one.estimate, height), (0, 7), textcoords="offset points", ha="center", color=_INK, size=9
        )
    axes.axvline(0, color=_LINE, linewidth=1, zorder=0)
    if ceiling is not None:
        axes.axvline(ceiling, color=_MUTED, linewidth=1.2, linestyle=":", zorder=0)
        axes.annotate("ceiling", (ceiling, -0.55), (3, 0), textcoords="offset points", color=_MUTED, size=9, va="top")
    axes.set_yticks(range(len(intervals)), [one.name for one in intervals])
    axes.set_ylim(len(intervals) - 0.5, -0.7)
    axes.set_xlabel("LDS, with its 95 % interval")
    return _svg(figure, "lds")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure and its axes, without a window, in the colours of the page."""
    matplotlib = needed("matplotlib", "report", "trak report")
    figure_module = needed("matplotlib.figure", "report", "trak report")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure = figure_module.Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.tick_params(colors=_MUTED, labelcolor=_INK, labelsize=9, which="both")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=_INK, size=9.5)
    return figure, axes


def _svg(figure: Any, salt: str) -> str:
    """The SVG element alone: without the XML declaration, metadata and style sheet, its colours replaced by variables."""
    matplotlib = needed("matplotlib", "report", "trak report")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for element in ("metadata", "style"):
        text = re.sub(f"<{element}.*?</{element}>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sid="([^"]+)"', rf' id="{salt}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{salt}-", text)
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    return re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', text, count=1
    )
