"""Pages of the documentation site that do not lie in docs/: README.md and others, with links adapted, and all messages.

A hook of MkDocs (mkdocs.yml).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

from messages import page as page_of_messages

ROOT = Path(__file__).parents[2]

#: Files outside docs/ and their names on the site.
OUTSIDE = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    files.append(File.generated(config, "messages.md", content=page_of_messages()))
    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=_on_site((ROOT / name).read_text())))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links of pages in docs/ at the added pages."""
    for name, page in OUTSIDE.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown


def _on_site(text: str) -> str:
    """The text of a page outside docs/, with its links on the site. A link to a file of the code becomes its text."""
    text = re.sub(r"\]\(docs/", "](", text)
    for name, page in OUTSIDE.items():
        text = text.replace(f"]({name}", f"]({page}")
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:|[\w/]+\.(?:md|png)|#)[^)]*\)", r"\1", text)
