"""Ctrl-C while Python is still importing: exit code 130, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: SIGINT arrives when the named module is about to be imported.
SCRIPT = """
import signal, sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
sys.argv = ["trak", "finalize", "store=none"]
from trak_cli.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "trak_cli.cli", "trak_cli.config", "antlr4", "torch"])
def test_an_interrupt_during_imports_exits_with_130(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(module=module)], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "trak: interrupted\n"


def test_an_ignored_interrupt_stays_ignored() -> None:
    """As for a job that a shell started in the background with nohup."""
    script = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{SCRIPT.format(module='typer')}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
