"""The data of a page: shared samples, its size, and texts that cannot leave it."""

from __future__ import annotations

import json

import pytest

from trak_cli.report.page import Page, render
from trak_cli.report.payload import Payload, Sample, Target, dumps
from trak_cli.report.values import Value


def payload(budget: int) -> Payload:
    def describe(split: str, row: int) -> Sample:
        return Sample([Value("text", "text", f"{split} {row}")], label=row % 3, probability=0.123456789)

    return Payload(describe, "train", budget)


def target(row: int) -> Target:
    return Target("test", row, helpful=[(1, 0.5), (row, 0.25)], harmful=[(2, -1 / 3)], counts=[1, 2], reach=2.0)


def test_a_sample_is_stored_once_and_targets_are_sorted_by_row() -> None:
    data = payload(10**6)
    assert all(data.add(target(row)) for row in (9, 7, 8))
    found = json.loads(data.json())
    rows = [(one["s"], one["r"]) for one in found["samples"]]
    assert len(rows) == len(set(rows)) == 8
    assert [found["samples"][one["i"]]["r"] for one in found["targets"]] == [7, 8, 9]
    first = found["targets"][0]
    assert [(found["samples"][place]["r"], score) for place, score in first["a"] + first["b"]] == [
        (1, 0.5),
        (7, 0.25),
        (2, -0.33333),
    ]


def test_the_budget_is_never_exceeded_and_a_target_that_does_not_fit_leaves_nothing() -> None:
    whole = payload(10**6)
    whole.add(target(5))
    for budget in (whole.size - 1, whole.size):
        data = payload(budget)
        fits = data.add(target(5))
        assert fits == (budget == whole.size)
        assert data.samples == (4 if fits else 0)
        assert len(data.json()) <= budget + len('{"samples":[],"targets":[]}')


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "{{ 7 * 7 }}", "\u2028\u202e", "\ud800", "'\"&"])
def test_no_text_leaves_its_json_island(text: str) -> None:
    written = dumps({"x": text})
    assert not set("<>&'") & set(written)
    assert json.loads(written) == {"x": text}
    written.encode("ascii")


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}"])
def test_texts_of_the_template_are_escaped(text: str) -> None:
    page = Page(text, text, "train", [text], [text], {text: [text]}, {text: [(text, text)]}, config=text, row_list={text: text})
    html = render(page, payload(0).json())
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "49" not in html.partition("<style>")[0]


def test_the_policy_forbids_everything_but_the_page_itself() -> None:
    html = render(Page("t", "s", "train", [], [], {}, {}), payload(0).json())
    assert "default-src 'none'" in html
    assert "http://" not in html.replace("http://www.w3.org/", "")
    assert "https://" not in html
