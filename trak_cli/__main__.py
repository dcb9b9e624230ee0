"""``python -m trak_cli`` is ``trak``."""

from trak_cli.cli import main

main()
