"""``trak finalize``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, run, table

if TYPE_CHECKING:
    from trak_cli.stages.finalize import FinalizeSummary

NAME = "finalize"
HELP = """Sum the Gram matrix of the training features, factorise it and report the ridge.

One pass over the shards of each checkpoint; no model is loaded. Another ridge later needs no new pass."""
EXAMPLES = """Examples:

  trak finalize experiment=digits

  trak finalize experiment=digits estimator.ridge=3x     (3 times the mean diagonal of XᵀX)

  trak finalize experiment=digits estimator.ridge=0.01   (an absolute λ)"""


def command(
    overrides: Overrides = None, config_name: ConfigName = None, config_dir: ConfigDir = None, as_json: AsJson = False
) -> None:
    from trak_cli.stages.finalize import finalize

    run(NAME, Call.of(overrides, config_name, config_dir, as_json), finalize, show)


def show(summary: FinalizeSummary, console: Console) -> None:
    console.print(f"estimator {summary.estimator}: {summary.formula}", soft_wrap=True)
    if not summary.grams:
        console.print("this estimator needs no Gram matrix: nothing to finalise")
        return
    rows = table("checkpoint", "#rows", "#features", "#ridge λ", "#λ / mean diag", "#effective dimension", "Gram")
    for gram in summary.grams:
        rows.add_row(
            gram.checkpoint,
            f"{gram.rows:,}",
            f"{gram.dim:,}",
            f"{gram.ridge:.4g}",
            f"{gram.ridge / gram.mean_diagonal:.3g}",
            f"{gram.effective_dimension:.1f}",
            "already there" if gram.reused else "computed",
        )
    console.print(rows)
    console.print(summary.ridge_rule)
