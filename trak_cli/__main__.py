"""``trak``, and ``python -m trak_cli``."""

from __future__ import annotations

from trak_cli.interrupts import exit_on_interrupt


def main() -> None:
    """Entry point of the ``trak`` script."""
    exit_on_interrupt()
    from trak_cli.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
