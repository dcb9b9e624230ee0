"""The pictures of the benchmark: LDS against checkpoints and against compute, one panel for each setting; and of this run.

python scripts/lds/picture.py docs/results docs

Draws them from lds.csv and, if it is there, lds_costs.csv of the first folder, as scripts/bench_lds.py writes them.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from setting import HALVES, THIS_RUN
from tables import read_csv

#: The colour of every method that is drawn; the tables have more. A number of a version may follow the name.
COLOURS = {
    "unroll": "#000000",
    "refine": "#dd77cc",
    "early_training": "#c1272d",
    "early_training with 4 blends": "#e6a0a0",
    "balanced": "#ee8866",
    "trak": "#4477aa",
    "cosine": "#228833",
    "dot": "#99ccaa",
    "traker": "#222255",
    "dattri": "#aa99cc",
    "EK-FAC 1e-8": "#bbbbbb",
    "EK-FAC heuristic": "#999999",
    "EK-FAC 1e-3": "#666666",
}

DEFAULT = "early_training"

#: Estimates by number of checkpoints: the LDS and the ends of its interval, NaN where none was computed.
Curve = dict[int, tuple[float, float, float]]


#: CPU seconds of a checkpoint, by setting and method.
Costs = dict[str, dict[str, float]]


@dataclass
class Panel:
    """One setting under one protocol: the curves of its methods, and the noise ceiling if there is one."""

    setting: str
    curves: dict[str, Curve] = field(default_factory=dict)
    ceiling: float | None = None


def draw(tables: Path, folder: Path) -> None:
    """Write lds.png and lds_compute.png, of the protocol "halves", and this_run.png."""
    rows = read_csv(tables / "lds.csv")
    run, halves = _panels(rows, THIS_RUN), _panels(rows, HALVES)
    costs: Costs = {}
    for row in read_csv(tables / "lds_costs.csv") if (tables / "lds_costs.csv").exists() else []:
        costs.setdefault(row["setting"], {})[_method(row["method"])] = float(row["seconds"])
    if run:
        _dots(run, folder / "this_run.png")
    if halves:
        _figure(halves, folder / "lds.png", None)
    if timed := [panel for panel in halves if panel.setting in costs]:
        _figure(timed, folder / "lds_compute.png", costs)


def _panels(rows: list[dict[str, Any]], protocol: str) -> list[Panel]:
    """The settings in the order of the file."""
    panels: dict[str, Panel] = {}
    for row in rows:
        if row["protocol"] != protocol:
            continue
        panel = panels.setdefault(row["setting"], Panel(row["setting"]))
        if row["method"] == "noise ceiling":
            panel.ceiling = float(row["lds"])
            continue
        lds, low, high = (float(row[key] or "nan") for key in ("lds", "low", "high"))
        panel.curves.setdefault(_method(row["method"]), {})[int(row["checkpoints"])] = lds, low, high
    return list(panels.values())


def _method(name: str) -> str:
    """The name of a method without the version of a package."""
    return name if name in COLOURS else name.rpartition(" ")[0]


def _dots(panels: list[Panel], path: Path) -> None:
    """One row of dots for each setting, one dot for each method, with its 95 % interval."""
    figure = _canvas((8, 0.33 * len(panels) + 1.6))
    axes = figure.subplots()
    methods = [method for method in COLOURS if any(method in panel.curves for panel in panels)]
    for place, method in enumerate(methods):
        rows = [(y, panel.curves[method][1]) for y, panel in enumerate(panels) if method in panel.curves]
        at = [y + 0.6 * (place / max(1, len(methods) - 1) - 0.5) for y, _ in rows]
        lds, low, high = zip(*(values for _, values in rows), strict=True)
        axes.plot(lds, at, "o", markersize=4, color=COLOURS[method], label=method)
        axes.hlines(at, low, high, color=COLOURS[method], linewidth=0.8)
    axes.set_yticks(range(len(panels)), [panel.setting for panel in panels])
    axes.invert_yaxis()
    axes.axvline(0, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set_xlabel("LDS under the protocol “this run”, one checkpoint")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _figure(panels: list[Panel], path: Path, costs: Costs | None) -> None:
    """One panel for each setting: LDS against checkpoints or, with ``costs``, against CPU seconds."""
    # The fewest empty places of the two.
    columns = min(min((4, 5), key=lambda count: -len(panels) % count), len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = _canvas((3.3 * columns, 3.0 * rows + 0.6))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    shown: dict[str, Any] = {}
    for axes, panel in zip(places, panels, strict=False):
        for method in reversed([method for method in COLOURS if method in panel.curves]):
            scale = 1.0 if costs is None else costs[panel.setting].get(method)
            if scale is None:
                continue
            curve = dict(sorted(panel.curves[method].items()))
            at = [scale * count for count in curve]
            lds, low, high = zip(*curve.values(), strict=True)
            width, size = (2.6, 5) if method == DEFAULT else (1.3, 3)
            (shown[method],) = axes.plot(at, lds, "o-", linewidth=width, markersize=size, color=COLOURS[method])
            if method == DEFAULT:
                axes.fill_between(at, low, high, alpha=0.15, color=COLOURS[method], linewidth=0)
        if panel.ceiling is not None:
            shown["noise ceiling"] = axes.axhline(panel.ceiling, color="#444444", linestyle=":", linewidth=1.2)
        axes.set_xscale("log")
        if costs is None:
            axes.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        axes.set_title(panel.setting, loc="left", fontsize=10)
        axes.axhline(0, color="#dddddd", linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in places[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("checkpoints" if costs is None else "CPU seconds, training included", fontsize=9)
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    order = [method for method in COLOURS if method in shown] + ["noise ceiling"] * ("noise ceiling" in shown)
    figure.legend([shown[method] for method in order], order, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.supylabel("LDS", fontsize=10)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _canvas(size: tuple[float, float]) -> Any:
    """A figure without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
