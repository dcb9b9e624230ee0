"""Images in a terminal: pixels where the terminal says that it draws them, else half blocks."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

import pytest

PROGRAM = """
import numpy as np
from rich.console import Console
from trak_cli.cli.terminal.blocks import strip

image = np.zeros((8, 6, 3), np.uint8)
image[:4] = (255, 0, 0)
Console(width=80).print(strip([image, None, image], ["+ 3", "", "- 5"], 80))
print("END")
"""

#: What a terminal answers to questions: device attributes (4 is sixel), the size of a character, and the protocol of kitty.
SIZE = {rb"\x1b\[16t": rb"\x1b[6;20;10t"}
SIXEL = {**SIZE, rb"\x1b\[c": rb"\x1b[?62;4c"}
KITTY = {**SIZE, rb"\x1b\[c": rb"\x1b[?62c", rb"\x1b_G[^\x1b]*?i=(\d+)[^\x1b]*a=q": rb"\x1b_Gi=%s;OK\x1b\\"}


def printed(answers: dict[bytes, bytes]) -> str:
    """What the program writes to a terminal that gives these answers."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=its, stdout=its, env=environment)
    os.close(its)
    text, answered, end = b"", set[bytes](), time.monotonic() + 60
    while b"END" not in text and time.monotonic() < end:
        if select.select([ours], [], [], 1)[0]:
            try:
                text += os.read(ours, 65536)
            except OSError:  # the program has ended
                break
        for question, answer in answers.items():
            if question not in answered and (found := re.search(question, text)):
                answered.add(question)
                reply = answer.decode("unicode_escape").encode()
                os.write(ours, reply.replace(b"%s", found.group(1)) if found.groups() else reply)
    os.close(ours)
    process.wait(30)
    return text.decode()


@pytest.mark.parametrize(
    ("answers", "mark"), [(SIXEL, "\x1bP"), (KITTY, "\U0010eeee"), ({}, "▀")], ids=["sixel", "kitty", "none"]
)
def test_a_terminal_shows_images_as_it_says_that_it_can(answers: dict[bytes, bytes], mark: str) -> None:
    pytest.importorskip("textual_image")
    text = printed(answers)
    assert mark in text
    assert "+ 3            - 5" in text
    assert ("▀" in text) == (mark == "▀")
