"""The pictures of the benchmark: LDS against checkpoints and against compute, one panel for each setting; and of this run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from setting import HALVES, THIS_RUN

COLOURS = {
    "unroll": "#000000",
    "refine": "#dd77cc",
    "early_training": "#c1272d",
    "early_training + 4 masks": "#e6a0a0",
    "balanced": "#ee8866",
    "trak": "#4477aa",
    "cosine": "#228833",
    "dot": "#99ccaa",
    "traker": "#222255",
    "dattri TRAK": "#aa99cc",
    "kronfluence EK-FAC, default": "#bbbbbb",
    "kronfluence EK-FAC, heuristic": "#999999",
    "kronfluence EK-FAC, 1e-3": "#666666",
}


def draw(results: list[dict[str, Any]], folder: Path) -> None:
    """Write lds.png and compute.png, of the protocol "halves", and this_run.png."""
    run = [result for result in results if result["protocol"] == THIS_RUN]
    results = [result for result in results if result["protocol"] == HALVES]
    if run:
        _dots(run, folder / "this_run.png")
    if not results:
        return
    _figure(results, folder / "lds.png", "checkpoints", lambda _, count: count)
    _figure(results, folder / "compute.png", "CPU seconds, training included", lambda row, count: count * row["seconds"])


def _dots(results: list[dict[str, Any]], path: Path) -> None:
    """One row of dots for each setting, one dot for each method, with its 95 % interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.33 * len(results) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    labels = [label for label in COLOURS if any(label == row["label"] for result in results for row in result["methods"])]
    for place, label in enumerate(labels):
        rows = [(y, row["lds"][1]) for y, result in enumerate(results) for row in result["methods"] if row["label"] == label]
        at = [y + 0.6 * (place / max(1, len(labels) - 1) - 0.5) for y, _ in rows]
        lds, low, high = zip(*(values for _, values in rows), strict=True)
        panel.plot(lds, at, "o", markersize=4, color=COLOURS[label], label=label)
        panel.hlines(at, low, high, color=COLOURS[label], linewidth=0.8)
    panel.set_yticks(range(len(results)), [result["setting"] for result in results])
    panel.invert_yaxis()
    panel.axvline(0, color="#dddddd", linewidth=0.8, zorder=0)
    panel.set_xlabel("LDS under the protocol “this run”, one checkpoint")
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _figure(results: list[dict[str, Any]], path: Path, xlabel: str, x: Any) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The fewest empty places of the two.
    columns = min(min((4, 5), key=lambda count: -len(results) % count), len(results))
    figure = Figure(figsize=(3.3 * columns, 3.0 * math.ceil(len(results) / columns) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(math.ceil(len(results) / columns), columns, squeeze=False).ravel()
    shown: dict[str, Any] = {}
    for panel, result in zip(panels, results, strict=False):
        for row in reversed(result["methods"]):
            counts = sorted(row["lds"])
            at = [x(row, count) for count in counts]
            first = row["label"] == result["methods"][0]["label"]
            style = {"linewidth": 2.6 if first else 1.3, "markersize": 5 if first else 3, "color": COLOURS.get(row["label"])}
            (shown[row["label"]],) = panel.plot(at, [row["lds"][count][0] for count in counts], "o-", **style)
            if first:
                low, high = ([row["lds"][count][i] for count in counts] for i in (1, 2))
                panel.fill_between(at, low, high, alpha=0.15, color=style["color"], linewidth=0)
        if result["ceiling"] == result["ceiling"]:
            shown["noise ceiling"] = panel.axhline(result["ceiling"], color="#444444", linestyle=":", linewidth=1.2)
        panel.set_xscale("log")
        if xlabel == "checkpoints":
            panel.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
            panel.minorticks_off()
        else:
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter("")
        panel.set_title(result["setting"], loc="left", fontsize=10)
        panel.axhline(0, color="#dddddd", linewidth=0.8, zorder=0)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[max(0, len(results) - columns) : len(results)]:
        panel.set_xlabel(xlabel, fontsize=9)
    for panel in panels[len(results) :]:
        panel.set_visible(False)
    order = [label for label in COLOURS if label in shown] + ["noise ceiling"] * ("noise ceiling" in shown)
    figure.legend([shown[label] for label in order], order, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.supylabel("LDS", fontsize=10)
    figure.savefig(path, dpi=130, metadata={"Software": None})
