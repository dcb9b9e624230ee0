"""Generate the API reference from docstrings into build/api; `make docs` runs this."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pdoc

#: The modules that users import.
MODULES = (
    "trak_cli.tasks",
    "trak_cli.plugins",
    "trak_cli.plugins.images",
    "trak_cli.plugins.text",
    "trak_cli.plugins.checkpoints.readers",
    "trak_cli.gradients.rules.registry",
    "trak_cli.errors",
)

FOLDER = Path("build/api")


def main() -> None:
    for module in map(import_module, MODULES):
        for name in getattr(module, "__all__", ()):
            getattr(module, name)  # pdoc sees only names that are loaded, and trak_cli.plugins loads its names on first use
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(*MODULES, output_directory=FOLDER)
    print(FOLDER / "index.html")


if __name__ == "__main__":
    main()
