"""The Chromium of the system, which the tests of pages drive without a window."""

from __future__ import annotations

import importlib.util
import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str | None:
    """The program: what the environment variable CHROMIUM names, or one on the path."""
    names = (os.environ["CHROMIUM"],) if "CHROMIUM" in os.environ else NAMES
    return next((found for name in names if (found := shutil.which(name))), None)


def missing() -> str | None:
    """Why no browser can be driven; None if one can."""
    absent = [name for name in ("playwright", "axe_playwright_python") if importlib.util.find_spec(name) is None]
    if absent:
        return f"there is no {' and no '.join(absent)}: pip install 'trak-cli[browser]'"
    return None if chromium() else "there is no chromium: make browser installs it as root, or set CHROMIUM=/path/to/it"
