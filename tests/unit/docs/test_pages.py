"""The pages point at things that exist: other pages, headings, files of the package, configuration keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trak_cli.config.wording import all_keys

#: Groups whose keys are arguments of a plugin.
PLUGINS = ("model", "dataset", "task", "trainer")

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_have_targets(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if path.startswith(("http:", "https:", "mailto:")):
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_files_that_are_named_exist(page: Path) -> None:
    files = [str(path) for folder in ("trak_cli", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")]
    for name in re.findall(r"`([\w/]+\.py)`", page.read_text()):
        if name.startswith("my_") or "my_project" in name:
            continue
        assert any(file.endswith(f"/{name}") for file in files), name


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_keys_that_are_set_exist(page: Path) -> None:
    keys = set(all_keys())
    for key in re.findall(r"(?<![\w.])((?:[a-z_]+\.)+[a-z_]+)=", page.read_text()):
        assert key.split(".")[0] in PLUGINS or key in keys or key.startswith("tune.grid."), key


def test_the_list_of_pages_is_complete() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


def test_every_page_is_on_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert re.search(rf"\b{page.name}\b", site), page.name


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for package in (path.parent for path in (ROOT / "trak_cli").glob("*/__init__.py")):
        assert f"{package.name}/" in text, package.name


def test_pages_are_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
    assert len((ROOT / "docs" / "benchmarks.md").read_text().splitlines()) <= 250
