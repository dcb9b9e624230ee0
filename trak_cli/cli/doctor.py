"""``trak doctor``"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from trak_cli.cli.run import AsJson, Call, ConfigDir, ConfigName, Overrides, imported, run, table
from trak_cli.cli.terminal.tables import show_table
from trak_cli.errors import InputError
from trak_cli.plurals import counted

if TYPE_CHECKING:
    from trak_cli.stages.diagnosis.costs import Costs
    from trak_cli.stages.doctor import DoctorSummary

NAME = "doctor"
HELP = """Check a run on a few samples, and estimate its time, memory and disk space.

The checks compare gradients with plain autograd, and samples alone with samples in a batch, and look for overflow and NaN.
Nothing is written. The options are those of featurize. The exit code is 4 if a check fails."""
EXAMPLES = """Examples:

  trak doctor experiment=digits

  trak doctor -d my_project features.dtype=float16 --json"""


def command(
    overrides: Overrides = None, config_name: ConfigName = None, config_dir: ConfigDir = None, as_json: AsJson = False
) -> None:
    summary = run(NAME, Call(overrides, config_name, config_dir, as_json), partial(imported, NAME), show)
    if not summary.ok:
        raise typer.Exit(InputError.exit_code)


def show(summary: DoctorSummary, console: Console) -> None:
    rows = table("", "check", "found", "expected")
    for check in summary.checks:
        found, expected = (check.found, check.expected) if check.held else ("see below", "")
        rows.add_row("ok" if check.held else "FAILS", check.name, found, expected)
    show_table(console, rows)
    for check in summary.checks:
        if not check.held:
            console.print(f"{check.name} fails")
            for label, text in (("found", check.found), ("expected", check.expected), ("do", check.remedy)):
                console.print(f"  {label + ':':<10}{text}", soft_wrap=True)
    for quality in summary.quality:
        console.print(str(quality), soft_wrap=True)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    if summary.costs is not None:
        _show_costs(summary, summary.costs, console)
    for sentence in summary.advice:
        console.print(f"try {sentence}", soft_wrap=True)


def _show_costs(summary: DoctorSummary, costs: Costs, console: Console) -> None:
    rows = table("whole run", "#estimate", "made of")
    shares = f"data {costs.data:.0%}, gradients {costs.gradients:.0%}, projection and the rest {costs.projection:.0%}"
    rows.add_row("speed", f"{costs.samples_per_second:,.1f} samples/s", shares)
    work = f"{counted(costs.rows, 'sample')} under {counted(costs.checkpoints, 'checkpoint')}, one worker, {summary.device}"
    rows.add_row("time", interval(costs.seconds, costs.slow_seconds), work)
    rows.add_row(
        "peak memory",
        size(costs.peak_memory),
        f"{counted(costs.microbatch, 'sample')} at a time, {counted(summary.parameters, 'parameter')}",
    )
    parts = f"features {size(costs.features)}, Gram matrices {size(costs.finalized)}, scores {size(costs.scores)}"
    rows.add_row("disk", size(costs.disk), parts)
    show_table(console, rows)


def interval(seconds: float, slow_seconds: float) -> str:
    """The range of a duration; one value if both ends read alike."""
    return " to ".join(dict.fromkeys((duration(seconds), duration(slow_seconds))))


def duration(seconds: float) -> str:
    """Seconds as people say them: 41 s, 12 min, 3.5 h, 2.1 days."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "h" and seconds >= length):
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: int) -> str:
    """Bytes in binary units."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count / 1024:,.1f} KiB"
