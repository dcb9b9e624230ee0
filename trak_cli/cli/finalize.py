"""``trak finalize``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trak_cli.cli.run import Results, stage_command, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.stages.finalize import FinalizeSummary

NAME = "finalize"
HELP = """Sum the Gram matrix of the training features, factorise it and report the ridge.

The command reads features only and loads no model. A different ridge later needs no new pass. Several processes share the
training rows of every checkpoint (worker.index, Slurm)."""
EXAMPLES = """Examples:

  trak finalize experiment=digits

  trak finalize experiment=digits estimator.ridge=3                                   (3 times the mean weighted ‖x‖²)

  trak finalize experiment=digits estimator.ridge=3 estimator.ridge_unit=mean_norm    (3 times the mean ‖x‖²)

  trak finalize experiment=digits estimator.ridge=0.01 estimator.ridge_unit=absolute  (λ itself)"""


def show(summary: FinalizeSummary, console: Results) -> None:
    console.print(f"estimator {summary.estimator}{f': {summary.formula}' if console.verbose else ''}", soft_wrap=True)
    if not summary.needs_gram:
        console.print("this estimator needs no Gram matrix: nothing to finalise")
        return
    for checkpoint, parts in summary.incomplete.items():
        missing = counted(parts, "part")
        console.print(f"{checkpoint}: {missing} of other workers missing; the last worker merges all parts", soft_wrap=True)
    if not summary.grams:
        if not summary.incomplete:
            console.print("nothing to finalise for this worker: there is less work than workers")
        return
    simulated = any(gram.training_length > 0 for gram in summary.grams)
    more = ("#training length", "#effective samples") if simulated else ()
    explains = any(gram.explained == gram.explained for gram in summary.grams)  # not NaN
    outputs = ("#outputs explained",) if explains else ()
    rows = table("checkpoint", "#ridge λ", *outputs, "#effective dimension", *more, "Gram")
    for gram in summary.grams:
        rows.add_row(
            gram.checkpoint,
            f"{gram.ridge:.4g}",
            *((f"{gram.explained:.0%}",) if explains else ()),
            f"{gram.effective_dimension:.1f}",
            *((f"{gram.training_length:.3g}", f"{gram.effective_samples:,.0f}") if simulated else ()),
            "already there" if gram.reused else "computed",
        )
    first = summary.grams[0]
    console.print(f"{counted(first.rows, 'training sample')}, {counted(first.dim, 'feature')} under each checkpoint")
    show_table(console, rows)
    if terms := max(gram.terms for gram in summary.grams):
        console.print(
            f"the Gram matrix is over {terms:,} single terms (tokens) of these samples, and so is λ: see gradients.terms",
            soft_wrap=True,
        )
    if summary.all_classes:
        console.print(
            "the Gram matrix covers the other classes of these samples too, and their residuals enter the weights:"
            " see gradients.classes",
            soft_wrap=True,
        )
    if console.verbose:
        _explain(summary, simulated, console)
    for gram in summary.grams:
        if not gram.arrived:
            console.print(f"{gram.checkpoint}: the simulated training did not come as far as the checkpoint", soft_wrap=True)


def _explain(summary: FinalizeSummary, simulated: bool, console: Results) -> None:
    """Print what the numbers of the table are."""
    console.print(summary.weights_rule, soft_wrap=True)
    if simulated:
        console.print(
            "training length: of the simulated training, in units of 1 / mean ‖x‖²; effective samples: (Σ q)² / Σ q²",
            soft_wrap=True,
        )
    console.print(summary.ridge_rule, soft_wrap=True)


command = stage_command(NAME, show, formulas=True)
