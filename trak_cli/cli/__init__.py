"""The command line: one file per subcommand. Each composes the configuration, calls one stage and prints its summary."""

from trak_cli.cli.app import app, main

__all__ = ["app", "main"]
