"""``trak export``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, run
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.config.load import Loaded
    from trak_cli.results.exchange.export import ExportSummary
    from trak_cli.types import Reporter

NAME = "export"
HELP = """Write scores, or features with --features, for other programs: CSV, Parquet, NumPy (npz) or Zarr, the score folder of
bergson, the score tensor of dattri, the cache of quanda, or the score file of DATE-LM.

docs/exchange.md has the orientation and the sign of each format."""
EXAMPLES = """Examples:

  trak export experiment=digits --out scores.parquet

  trak export experiment=digits --out top.csv -k 10

  trak export experiment=digits estimator=cosine --split test --format bergson --out scores_for_bergson

  trak export experiment=digits --features --split train --checkpoint '*_0' --out features.npz"""


def command(
    overrides: Overrides = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="File or folder to write.", show_default=False)],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="csv, parquet, npz, zarr, bergson, dattri, quanda or date-lm (default: by the suffix of --out).",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", "-s", help="Target split (default: the configured one); with --features, train by default."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="Only the k highest and k lowest scores of each target (csv, parquet).")
    ] = None,
    features: Annotated[bool, typer.Option("--features", help="Features instead of scores (npz, parquet, zarr).")] = False,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="Whose features; a name or a pattern (default: the only one).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
) -> None:
    def stage(loaded: Loaded, reporter: Reporter) -> ExportSummary:
        from trak_cli.results.exchange.export import Export, export

        return export(loaded, reporter, to=Export(out, format, split, k, features, checkpoint, overwrite))

    run(NAME, Call(overrides, config_name, config_dir, as_json), lambda: stage, show)


def show(summary: ExportSummary, console: Console) -> None:
    first, second = summary.shape
    if summary.k is not None:
        about = f"the {summary.k} highest and lowest of {counted(first, 'target')} × {second:,} training rows"
    elif summary.what == "features":
        about = f"{counted(first, 'row')} × {second:,} features"
    else:
        about = f"{counted(first, 'target')} × {second:,} training rows"
    console.print(f"{summary.what} on {summary.split}: {about}", soft_wrap=True)
    console.print(f"{summary.out}  ({summary.format}, {summary.bytes:,} bytes)", soft_wrap=True)
