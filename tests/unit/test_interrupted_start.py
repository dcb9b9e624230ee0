"""Ctrl-C while Python is still importing: exit code 130, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Ctrl-C arrives when the module named is looked for.
SCRIPT = """
import sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
sys.argv = ["trak", "finalize", "store=none"]
from trak_cli.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "trak_cli.cli", "trak_cli.config", "torch"])
def test_an_interrupt_during_imports_is_an_interrupt(module: str) -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT.format(module=module)], capture_output=True, text=True, check=False)
    assert found.returncode == 130, found.stderr
    assert "Traceback" not in found.stderr
