"""The stages: one file per subcommand, each a function (loaded config, reporter) -> summary.

No terminal, no argv: what a stage has to say it says through its reporter, returns in its summary, or raises as a
:class:`~trak_cli.errors.TrakError`.
"""
