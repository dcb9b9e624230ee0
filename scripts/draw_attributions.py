"""Draw the output of `trak top experiment=digits --json`: each target with its most helpful and most harmful training images.

trak top experiment=digits --target 4 --target 17 -k 5 --json | python scripts/draw_attributions.py OUT.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trak_cli.plugins import Digits

INK, HELPFUL, HARMFUL = "#222222", "#1b7a5a", "#b2433f"


def image(axes: Axes, description: dict[str, Any], caption: str, colour: str) -> None:
    """One digit in a coloured frame with a caption under it."""
    axes.imshow(description["image"], cmap="gray_r", interpolation="nearest", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2)
    axes.set_xlabel(caption, color=colour, fontsize=9, labelpad=4)


def draw(answer: dict[str, Any], path: Path) -> None:
    """One row for each target: the target, its helpful training images, its harmful ones."""
    train, test = Digits("train"), Digits("test")
    k = len(answer["targets"][0]["helpful"])
    rows = len(answer["targets"])
    figure = Figure(figsize=(1.12 * (2 * k + 2), 1.5 * rows + 0.9), facecolor="white")
    FigureCanvasAgg(figure)
    widths = [1.25, 0.25, *[1] * k, 0.25, *[1] * k]
    grid = figure.add_gridspec(
        rows,
        len(widths),
        width_ratios=widths,
        left=0.02,
        right=0.98,
        top=1 - 0.8 / (1.5 * rows + 0.9),
        bottom=0.07,
        hspace=0.45,
    )
    for row, target in enumerate(answer["targets"]):
        about = test.describe(target["row"])
        image(figure.add_subplot(grid[row, 0]), about, f"test {target['row']}: a {about['label']}", INK)
        for first, side, colour in ((2, "helpful", HELPFUL), (3 + k, "harmful", HARMFUL)):
            for column, one in enumerate(target[side]):
                neighbour = train.describe(one["row"])
                axes = figure.add_subplot(grid[row, first + column])
                image(axes, neighbour, f"{neighbour['label']}   {one['score']:+.2g}", colour)
    boxes = {column: grid[0, column].get_position(figure) for column in (0, 2, 3 + k)}
    top = boxes[0].y1 + 0.25 / (1.5 * rows + 0.9)
    for column, text, colour in (
        (0, "target", INK),
        (2, "training images that raised its margin the most", HELPFUL),
        (3 + k, "… that lowered it the most", HARMFUL),
    ):
        figure.text(boxes[column].x0, top, text, color=colour, fontsize=12, weight="bold", va="bottom")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    draw(json.load(sys.stdin), Path(sys.argv[1]))
