"""The help of a subcommand with a target split: it names the splits of the run, if the command line says which run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

#: The option of a target split.
_SPLIT = "split"


class SplitNaming(TyperCommand):
    """A subcommand. ``trak top experiment=digits --help`` names the splits in the store of that run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base class, which shows the help: it does not know the other options then, so they are noted before."""
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        if given.get("help") and any(given.get(name) for name in ("overrides", "config_dir", "config_name")):
            ctx.meta[_SPLIT] = given
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """With the splits in the help of --split."""
        option: Any = next((one for one in self.params if one.name == _SPLIT), None)
        splits = _splits_of(ctx.meta[_SPLIT]) if option is not None and _SPLIT in ctx.meta else []
        if not splits:
            super().format_help(ctx, formatter)
            return
        usual = option.help
        option.help = f"{usual} This run has: {', '.join(splits)}."
        try:
            super().format_help(ctx, formatter)
        finally:
            option.help = usual


def _splits_of(given: Mapping[str, Any]) -> list[str]:
    """The target splits in the store of a run; none if the command line does not name a run with features or scores."""
    from trak_cli.config.load import load
    from trak_cli.errors import TrakError
    from trak_cli.store.layout import Layout
    from trak_cli.types import TRAIN

    folder = given.get("config_dir")
    try:
        loaded = load(
            "status", given.get("config_name"), None if folder is None else Path(folder), given.get("overrides") or []
        )
        return [split for split in Layout(Path(loaded.config.store)).described_splits() if split != TRAIN]
    except (TrakError, OSError):  # the help is shown all the same
        return []
