"""``trak``, and ``python -m trak_cli``."""

from __future__ import annotations

import gc
import os

from trak_cli.interrupts import exit_on_interrupt
from trak_cli.stop_signals import exit_on_stop_signals


def main() -> None:
    """Entry point of the ``trak`` script."""
    exit_on_interrupt()
    exit_on_stop_signals()
    for switch in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(switch, "1")  # progress bars of libraries would mix with those of this program; 0 shows them
    if "_TRAK_COMPLETE" in os.environ:
        os.environ["TYPER_USE_RICH"] = "0"  # a shell waits for completion, and formatting its help texts takes longer than it
    gc.disable()  # importing modules and composing the configuration leave next to no garbage; a stage enables it again
    from trak_cli.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
