"""``trak top``"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, Stage, run, table
from trak_cli.cli.terminal.blocks import shows_images, strip
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.config.load import Loaded
    from trak_cli.results.neighbours import TargetTop
    from trak_cli.results.pictures import Image
    from trak_cli.results.samples import SampleSets
    from trak_cli.results.top import TopSummary
    from trak_cli.types import Reporter

NAME = "top"
HELP = """Show the training samples that raised or lowered the model output on a target the most.

A terminal with colours also shows images; --plot draws them into a file."""
EXAMPLES = """Examples:

  trak top experiment=digits --target 0 --target 7 -k 5

  trak top experiment=digits --target 4 --target 17 --plot attributions.png

  trak top experiment=digits --split mine --json | jq '.targets[0].helpful[].row'

  trak top store=runs/digits estimator=cosine --target 3

  trak top store=runs/digits estimator.name=unroll"""

#: Training row or None for the target -> image.
Images = dict[tuple[str, int], "Image | None"]


def command(
    overrides: Overrides = None,
    target: Annotated[
        list[int] | None,
        typer.Option("--target", "-t", help="Row of the target in its split (default: the first); may be repeated."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", "-s", help="Target split, one of dataset.targets; trak status lists them (default: the configured one)."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many helpful and how many harmful samples to show.")] = 5,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw the samples into this file (.png, .pdf, .svg).")
    ] = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Show no images in the terminal.")] = False,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    pictures = shows_images(not no_images and not as_json)
    images: Images = {}

    def stage() -> Stage[TopSummary]:
        from trak_cli.results.pictures import draw, require_picture
        from trak_cli.results.samples import SampleSets
        from trak_cli.results.top import top

        def drawn(loaded: Loaded, reporter: Reporter) -> TopSummary:
            if plot is not None:
                require_picture(plot)
            samples = SampleSets(loaded.config)
            summary = top(loaded, reporter, split=split, targets=tuple(target or ()), k=k, samples=samples)
            if plot is not None:
                draw(samples, summary.split, summary.targets, plot)
                reporter.log(f"picture: {plot}")
            if pictures:
                images.update(_images(samples, summary))
            return summary

        return drawn

    def shown(summary: TopSummary, console: Console) -> None:
        show(summary, console, images)

    run(NAME, Call(overrides, config_name, config_dir, as_json), stage, shown)


def show(summary: TopSummary, console: Console, images: Images) -> None:
    for target in summary.targets:
        predicted = "" if target.predicted is None else target.predicted.clause()
        about = ", ".join(text for text in (target.description, predicted) if text)
        about = f" ({about})" if about else ""
        shown = f"target {target.row}" if summary.group is None else f"the mean over {counted(len(summary.group), 'target')}"
        console.print(f"{shown} of {summary.split}{about}, estimator {summary.estimator}", soft_wrap=True)
        if target.row is not None and images.get((summary.split, target.row)) is not None:
            console.print(strip([images[summary.split, target.row]], [""], console.width) or "")
        show_neighbours(target, console, images)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)


def show_neighbours(target: TargetTop, console: Console, images: Images) -> None:
    """Print the training rows of one target as a table, after their images."""
    known = any(one.predicted is not None for one in (*target.helpful, *target.harmful))
    rows = table("", "#row", "#score", *(["predicted"] if known else []), "description")
    for sign, colour, neighbours in (("+", "green", target.helpful), ("−", "red", target.harmful)):
        found = [images.get(("train", one.row)) for one in neighbours]
        pictures = strip(found, [f"{sign} {one.row}" for one in neighbours], console.width)
        if pictures is not None:
            console.print(pictures)
        for one in neighbours:
            predicted = [str(one.predicted or "")] if known else []
            rows.add_row(Text(sign, colour), str(one.row), Text(f"{one.score:+.4g}", colour), *predicted, one.description)
    console.print(rows)
    for neighbours, size in ((target.helpful, "positive"), (target.harmful, "negative")):
        if not neighbours:
            console.print(f"no training sample has a {size} score")


def _images(samples: SampleSets, summary: TopSummary) -> Images:
    """The images of all samples that are shown."""
    from trak_cli.results.pictures import image_of

    wanted: dict[str, Sequence[Any]] = {
        summary.split: [target.row for target in summary.targets if target.row is not None],
        "train": [one.row for target in summary.targets for one in (*target.helpful, *target.harmful)],
    }
    return {(split, row): image_of(samples[split], row) for split, rows in wanted.items() for row in dict.fromkeys(rows)}
