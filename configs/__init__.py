"""The shipped configuration files (``trak_cli.configs`` once installed)."""
