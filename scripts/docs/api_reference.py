"""Generate the API reference from docstrings: docs/api.md, a list of the public names, and build/api, pages for each of them.

``make docs`` runs this. A test checks that docs/api.md lists every public name.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

#: The modules that users import.
MODULES = (
    "trak_cli",
    "trak_cli.tasks",
    "trak_cli.plugins",
    "trak_cli.plugins.images",
    "trak_cli.plugins.text",
    "trak_cli.plugins.checkpoints.readers",
    "trak_cli.gradients.rules.registry",
    "trak_cli.projection.registry",
    "trak_cli.attribution.estimator.registry",
    "trak_cli.errors",
)

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
HTML = Path(__file__).parents[2] / "build" / "api"

HEAD = """\
# Public classes and functions

The modules that your own code imports. `make docs` generates this page from the docstrings, and the full reference with
signatures and arguments in `build/api/index.html`. Other modules may change in any version.
"""


def page() -> str:
    """The text of docs/api.md."""
    return HEAD + "".join(section(import_module(name)) for name in MODULES)


def section(module: ModuleType) -> str:
    """A heading, the first sentence of the module's docstring, and a table of its public names."""
    rows = [f"| `{name}` | {summary(getattr(module, name))} |\n" for name in public_names(module)]
    return f"\n## `{module.__name__}`\n\n{summary(module)}\n\n| name | |\n|---|---|\n{''.join(rows)}"


def public_names(module: ModuleType) -> list[str]:
    """The names in ``__all__``, or the public classes and functions that the module defines, in alphabetical order."""
    defined = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__ and callable(value)
    ]
    return sorted(getattr(module, "__all__", defined), key=str.lower)


def summary(value: object) -> str:
    """The first paragraph of the docstring in one line, as Markdown."""
    paragraph = (inspect.getdoc(value) or "").partition("\n\n")[0]
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", " ".join(paragraph.split()))
    return text.replace("``", "`").replace("|", "\\|")


def main() -> None:
    import pdoc

    PAGE.write_text(page(), encoding="utf-8")
    # pdoc sees only names that are loaded, and trak_cli.plugins loads its names on first use: page() has loaded all of them.
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(*MODULES, output_directory=HTML)
    print(PAGE, HTML / "index.html", sep="\n")


if __name__ == "__main__":
    main()
