"""docs/api.md lists the public names."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "scripts" / "docs"))

from api_reference import MODULES, PAGE, public_names


def test_the_page_lists_every_public_name_of_every_module() -> None:
    sections = re.split(r"^## `(.+)`$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    names = [re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for text in sections[1::2]]
    public = [public_names(import_module(module)) for module in MODULES]
    assert dict(zip(sections[::2], names, strict=True)) == dict(zip(MODULES, public, strict=True)), "run: make docs"
