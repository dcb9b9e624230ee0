"""The stages: one file per subcommand, each a function (loaded config, reporter) -> summary.

No terminal, no argv: a stage reports through its reporter, returns a summary, or raises a
:class:`~trak_cli.errors.TrakError`.
"""
