"""The page of ``trak report`` in a headless Chromium, for each kind of data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kinds import HOSTILE, KINDS
from tiny_project import TARGETS

pytestmark = pytest.mark.browser

PARTS = ("targets", "suspects", "scores", "run")


@dataclass
class Opened:
    """A page, with what went wrong while it was open."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def count(self) -> str:
        return str(self.page.inner_text("#count"))

    def shown(self) -> int:
        return int(self.page.locator(".card").count())


def open_page(browser: Any, file: Path, **context: Any) -> Opened:
    page = browser.new_context(viewport={"width": 1200, "height": 900}, **context).new_page()
    opened = Opened(page)
    page.on("console", lambda message: opened.errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(file.as_uri())
    return opened


@pytest.fixture(params=[*KINDS, "bare"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(browser: Any, reports: dict[str, Path], kind: str) -> Iterator[Opened]:
    found = open_page(browser, reports[kind])
    yield found
    found.page.context.close()


def test_every_part_opens_without_an_error_and_without_a_request(opened: Opened) -> None:
    for part in PARTS:
        opened.page.click(f"#tab-{part}")
        assert opened.page.is_visible(f"#{part} h2, #{part} .filters")
    assert opened.errors == []
    assert {url.split(":", 1)[0] for url in opened.requests} <= {"file", "data"}


def test_images_load_and_have_a_text_that_names_the_sample(opened: Opened, kind: str) -> None:
    images = opened.page.evaluate(
        "[...document.querySelectorAll('#targets img')].map((i) => [i.loading = 'eager', i.complete || i.decode(), i.alt])"
    )
    opened.page.wait_for_function(
        "[...document.querySelectorAll('#targets img')].every((i) => i.complete && i.naturalWidth > 0)"
    )
    assert (len(images) > 0) == (kind in ("image", "pair"))
    assert all(text.startswith(("train ", "test ")) and "label" in text for _, _, text in images)


def test_markup_in_the_data_stays_text(opened: Opened, kind: str) -> None:
    for part in PARTS:
        opened.page.click(f"#tab-{part}")
    assert opened.page.evaluate("window.injected") is None
    assert opened.page.locator("script").count() == 3
    assert opened.page.locator("main img:not([src^='data:']), main b, main i, main svg[onload]").count() == 0
    if kind in ("text", "pair", "image"):
        text = opened.page.evaluate("document.getElementById('targets').textContent")
        assert all(hostile in text for hostile in HOSTILE)


def test_filters_work_by_mouse(opened: Opened, kind: str) -> None:
    opened.page.fill("#search", "test 3")
    assert opened.count() == f"1 of {TARGETS} targets match"
    opened.page.click("text=Clear")
    opened.page.wait_for_function(f"document.getElementById('count').textContent === '{TARGETS} targets'")
    opened.page.select_option("#class", index=1)
    assert 0 < opened.shown() < TARGETS
    opened.page.select_option("#class", "")
    opened.page.locator(".tile button.link").first.click()
    assert opened.page.input_value("#search").startswith("train:")
    assert opened.shown() >= 1


def test_the_filter_shows_the_targets_that_the_model_gets_wrong(opened: Opened) -> None:
    shown = {}
    for choice in ("wrong", "right"):
        opened.page.select_option("#wrong", choice)
        cards = opened.page.locator(".card .own .chips")
        shown[choice] = cards.count()
        texts = [cards.nth(place).inner_text() for place in range(shown[choice])]
        assert all("predicted" in text for text in texts)
        assert all(("wrong" in text) == (choice == "wrong") for text in texts)
    assert shown["wrong"] > 0
    assert opened.page.locator(".tile .caption", has_text="predicted").count() > 0


def test_everything_works_by_keyboard(opened: Opened) -> None:
    keyboard = opened.page.keyboard
    focused = "document.activeElement.id || document.activeElement.className"
    keyboard.press("Tab")
    assert opened.page.evaluate(focused) == "skip"
    keyboard.press("Tab")
    keyboard.press("Enter")
    assert opened.page.evaluate("document.documentElement.dataset.theme") == "dark"
    keyboard.press("Tab")
    keyboard.press("ArrowRight")
    assert opened.page.evaluate(focused) == "tab-suspects"
    assert opened.page.is_visible("#suspects")
    keyboard.press("Home")
    keyboard.press("/")
    keyboard.type("test 7")
    assert opened.count() == f"1 of {TARGETS} targets match"
    for _ in range(6):
        keyboard.press("Backspace")
    opened.page.focus("#class")
    keyboard.press("ArrowDown")
    assert 0 < opened.shown() < TARGETS
    keyboard.press("ArrowUp")
    opened.page.focus(".card")
    keyboard.press("ArrowDown")
    assert opened.page.evaluate("document.activeElement.previousElementSibling.className") == "card"
    keyboard.press("ArrowRight")
    assert opened.page.inner_text("#place") == "Page 2 of 2"
    outline = opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(browser: Any, reports: dict[str, Path], kind: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = open_page(browser, reports[kind], color_scheme=scheme)
    for part in PARTS:
        opened.page.click(f"#tab-{part}")
        violations = Axe().run(opened.page).response["violations"]
        serious = [
            (part, one["id"], one["nodes"][0]["html"], one["nodes"][0].get("failureSummary"))
            for one in violations
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []
    opened.page.context.close()


def test_a_phone_needs_no_sideways_scrolling(browser: Any, reports: dict[str, Path], kind: str) -> None:
    opened = open_page(browser, reports[kind], is_mobile=True)
    opened.page.set_viewport_size({"width": 360, "height": 740})
    for part in PARTS:
        opened.page.evaluate(f"document.getElementById('tab-{part}').click()")
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    opened.page.context.close()


def test_the_page_forbids_the_network_even_to_its_own_script(browser: Any, reports: dict[str, Path]) -> None:
    opened = open_page(browser, reports["bare"])
    added = "const i = new Image(); i.src = 'file:///nothing.png'; const s = document.createElement('script');"
    opened.page.evaluate(f"() => {{ {added} s.textContent = 'window.injected = 5'; document.body.append(i, s); }}")
    assert opened.page.evaluate("window.injected") is None
    assert any("Content Security Policy" in error for error in opened.errors)
    opened.page.context.close()
