"""One browser for all tests, and a report for each kind of data set, made by the command from one tiny store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kinds import KINDS, PLUGIN
from system_browser import chromium

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))  # the tiny project

from tiny_project import ROWS, call, write_project


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield program
        program.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of each kind, and "bare": of the data set without describe."""
    folder = tmp_path_factory.mktemp("reports") / "tiny"
    write_project(folder)
    (folder / "described_plugin.py").write_text(PLUGIN, encoding="utf-8")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for stage in ("featurize", "finalize", "score"):
            outcome = call(folder, monkeypatch, stage)
            assert outcome.code == 0, outcome.stderr
        pages = {}
        for kind in (*KINDS, "bare"):
            pages[kind] = folder / f"{kind}.html"
            described = (
                [] if kind == "bare" else [*_described("dataset.train", kind), *_described("dataset.targets.test", kind)]
            )
            outcome = call(folder, monkeypatch, "report", "--out", str(pages[kind]), *described)
            assert outcome.code == 0, outcome.stderr
    assert ROWS == 60
    return pages


def _described(key: str, kind: str) -> list[str]:
    return [f"{key}._target_=described_plugin.Described", f"+{key}.kind={kind}"]
