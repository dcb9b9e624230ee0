"""The images of samples, and a picture of targets beside their most helpful and most harmful training samples."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trak_cli.errors import ConfigError, MachineError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.report.encoding import SERIES_CHANNELS
from trak_cli.results.neighbours import TargetTop
from trak_cli.results.samples import Samples, SampleSets
from trak_cli.types import TRAIN, Float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, HELPFUL, HARMFUL = "#222222", "#1b7a5a", "#b2433f"
Image = np.ndarray[Any, np.dtype[np.uint8]]

#: Smallest and largest side of an array that is taken for an image, and characters of a text that a cell shows.
_SIDES = (4, 8192)
_CHARACTERS = 220

_FORMATS = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")


def image_of(samples: Samples | None, row: int) -> Image | None:
    """The image of a sample, (H, W, 3) uint8: of its description, else of the sample itself; None if there is none."""
    if samples is None:
        return None
    images = (as_image(value.content) for value in samples.values(row) if value.kind == "image")
    return next((image for image in images if image is not None), None)


def picture_of(samples: Samples | None, row: int) -> Image | Float64 | None:
    """The image of a sample, else its first series, (channels, time); None if it has neither."""
    image = image_of(samples, row)
    if image is not None or samples is None:
        return image
    return next((value.content[:SERIES_CHANNELS] for value in samples.values(row) if value.kind == "series"), None)


def as_image(array: np.ndarray[Any, Any]) -> Image | None:
    """An array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as (H, W, 3) uint8; None for any other array.

    Floating values outside [0, 1], such as those of normalised images, are scaled to it.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if (
        array.ndim != 3
        or array.shape[2] not in (1, 3, 4)
        or not all(_SIDES[0] <= side <= _SIDES[1] for side in array.shape[:2])
    ):
        return None
    if array.dtype.kind not in "uifb" or not np.isfinite(array).all():
        return None
    if array.dtype != np.uint8:
        values = array.astype(np.float64)
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 1.0)
        array = np.round(255 * (values - low) / (high - low)).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[:, :, :3])


def require_picture(path: Path) -> None:
    """Check that a picture can be drawn, before anything else is done.

    Raises:
        ConfigError: matplotlib is not installed, or the file has another suffix than those of pictures.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(Problem("--plot", str(path), f"a file ending in {', '.join(_FORMATS)}", f"give {path}.png"))
    needed("matplotlib.figure", "demo", "--plot")


def draw(samples: SampleSets, split: str, targets: Sequence[TargetTop], path: Path) -> None:
    """Draw one line for each target: the target, its helpful training samples, its harmful ones.

    A cell shows the image of a sample or a plot of its series, else its description.

    Raises:
        MachineError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, test = samples[TRAIN], samples[split]
    k = max(1, *(max(len(target.helpful), len(target.harmful)) for target in targets))
    height = 1.5 * len(targets) + 0.9
    figure = Figure(figsize=(1.25 * (2 * k + 2), height), facecolor="white")
    FigureCanvasAgg(figure)
    widths = [1.25, 0.25, *[1] * k, 0.25, *[1] * k]
    edges = {"left": 0.02, "right": 0.98, "top": 1 - 0.8 / height, "bottom": 0.3 / height}
    grid = figure.add_gridspec(len(targets), len(widths), width_ratios=widths, hspace=0.45, **edges)
    for line, target in enumerate(targets):
        axes = figure.add_subplot(grid[line, 0])
        picture = None if target.row is None else picture_of(test, target.row)
        _cell(
            axes,
            picture,
            target.description,
            _caption(f"{split} {target.row}" if target.row is not None else split, test, target.row),
            INK,
        )
        for first, side, colour in ((2, target.helpful, HELPFUL), (3 + k, target.harmful, HARMFUL)):
            for column, one in enumerate(side):
                axes = figure.add_subplot(grid[line, first + column])
                _cell(axes, picture_of(train, one.row), one.description, _caption(f"{one.score:+.2g}", train, one.row), colour)
    for column, text, colour in (
        (0, "target", INK),
        (2, "training samples that raised f the most", HELPFUL),
        (3 + k, "… that lowered it the most", HARMFUL),
    ):
        place = grid[0, column].get_position(figure)
        figure.text(place.x0, place.y1 + 0.25 / height, text, color=colour, fontsize=11, weight="bold", va="bottom")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
    except OSError as error:
        found = error.strerror or str(error)
        raise MachineError(Problem(str(path), found, "a file that can be written", "choose another file")) from error


def _caption(text: str, samples: Samples | None, row: int | None) -> str:
    label = samples.label(row) if samples is not None and row is not None else None
    return text if label is None else f"{str(label)[:18]}   {text}"


def _cell(axes: Axes, picture: Image | Float64 | None, description: str, caption: str, colour: str) -> None:
    """One sample in a coloured frame with a caption under it."""
    if picture is not None and picture.ndim == 3:
        axes.imshow(picture, interpolation="nearest")
    elif picture is not None:
        axes.plot(picture.T, linewidth=0.8)
    else:
        text = textwrap.fill(textwrap.shorten(description, _CHARACTERS, placeholder=" …"), 22)
        axes.text(0.04, 0.96, text, fontsize=5.5, va="top", color=INK, transform=axes.transAxes, clip_on=True)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2)
    axes.set_xlabel(caption, color=colour, fontsize=8, labelpad=4)
