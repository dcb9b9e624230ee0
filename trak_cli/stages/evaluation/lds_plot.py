"""The plot of an LDS evaluation: the LDS of every set of scores with its interval, and the LDS of single targets."""

from __future__ import annotations

import importlib
import io
import math

from trak_cli.errors import MachineError, Problem
from trak_cli.plurals import counted
from trak_cli.stages.evaluation.summary import EvalSummary


def require_matplotlib() -> None:
    """Check that the plot can be drawn, before anything is computed.

    Raises:
        MachineError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError:
        remedy = "pip install 'trak-cli[demo]', or set lds.plot=false"
        raise MachineError(Problem("lds.plot", "no matplotlib", "matplotlib", remedy)) from None


def draw(summary: EvalSummary) -> bytes:
    """Draw the plot and return it as PNG bytes. Call :func:`require_matplotlib` first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [score_set.name for score_set in summary.score_sets]
    figure = Figure(figsize=(7, 1.2 + 0.7 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for height, score_set in enumerate(summary.score_sets):
        lds = score_set.lds
        values = [value for value in score_set.per_target if not math.isnan(value)]
        axes.scatter(values, [height + 0.22] * len(values), s=14, alpha=0.25, linewidths=0, color="#4477aa")
        axes.plot([lds.low, lds.high], [height, height], color="#222222", linewidth=2.5, solid_capstyle="butt")
        axes.plot([lds.estimate], [height], "o", color="#222222", markersize=7)
        share = f" ({lds.estimate / summary.ceiling:.0%} of the ceiling)" if summary.ceiling > 0 else ""
        axes.annotate(f"{lds.estimate:.3f}{share}", (lds.estimate, height), (0, 8), textcoords="offset points", ha="center")
    if not math.isnan(summary.ceiling):
        axes.axvline(summary.ceiling, color="#444444", linestyle=":", linewidth=1.2, zorder=0)
        text = f"noise ceiling {summary.ceiling:.3f}"
        axes.annotate(
            text, (summary.ceiling, -0.55), (-4, 0), textcoords="offset points", ha="right", color="#444444", fontsize=8
        )
    axes.axvline(0, color="#bbbbbb", linewidth=1, zorder=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    best = "good scores come close to the noise ceiling"
    if math.isnan(summary.ceiling):
        best = "chance in the retrained models keeps a perfect prediction below 1 (two models per subset show how far)"
    axes.set_xlabel(
        "Spearman correlation over subsets (LDS: dot, 95% interval: bar, single targets: blue)\n"
        f"0 is no better than chance; {best}"
    )
    targets = f"mean over {counted(summary.targets, 'target')}" if summary.group else counted(summary.targets, "target")
    axes.set_title(f"{summary.split}: {targets}, {counted(summary.subsets, 'subset')}", loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    plot = io.BytesIO()
    figure.savefig(plot, format="png", dpi=150, metadata={"Software": None})
    return plot.getvalue()
