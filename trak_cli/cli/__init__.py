"""The command line: one file per subcommand. argv -> config -> one stage call -> what a person or a pipe reads."""

from trak_cli.cli.app import app, main

__all__ = ["app", "main"]
