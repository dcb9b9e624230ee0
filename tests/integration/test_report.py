"""``trak report``: what is on the page, and what it refuses. Its looks are tested in tests/browser."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import numpy as np
import pytest
from test_chosen_targets import CHOSEN, GROUP, NAMED, write
from tiny_project import ROWS, TARGETS, Project

from trak_cli.stages.scoring.score_notes import write_notes
from trak_cli.store.layout import Layout

USAGE, STORE = 2, 3

#: Without the list of suspicious samples, which has tests of its own.
FAST = ("--suspects", "0")


def data(project: Project, name: str = "report.html") -> dict[str, Any]:
    """The samples and targets of a page."""
    html = (project.folder / name).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert found is not None
    return dict(json.loads(found[1]))


def test_a_page_shows_what_top_prints(scored: Project) -> None:
    out = scored.folder / "page.html"
    summary = json.loads(scored.done("report", "--out", str(out), "-k", "3", "--json").stdout)
    assert (summary["path"], summary["bytes"]) == (str(out), out.stat().st_size)
    assert summary["targets"] == [
        {"split": "test", "shown": TARGETS, "available": TARGETS, "rows": list(range(TARGETS)), "did_not_fit": []}
    ]
    page = data(scored, "page.html")
    wanted = [option for row in range(TARGETS) for option in ("--target", str(row))]
    tops = json.loads(scored.done("top", *wanted, "-k", "3", "--json").stdout)["targets"]
    for shown, top in zip(page["targets"], tops, strict=True):
        assert page["samples"][shown["i"]]["r"] == top["row"]
        for end, name in (("a", "helpful"), ("b", "harmful")):
            assert [page["samples"][place]["r"] for place, _ in shown[end]] == [one["row"] for one in top[name]]
            assert [score for _, score in shown[end]] == pytest.approx([one["score"] for one in top[name]], rel=1e-4)
        assert sum(shown["c"]) == ROWS
    assert all({"l", "f", "p", "v"} <= set(sample) for sample in page["samples"])
    assert all(("q" in sample) == (sample["s"] == "train") for sample in page["samples"])


def test_targets_are_sampled_and_the_page_says_so(scored: Project) -> None:
    scored.done("report", "--out", "report.html", "--targets", "3", *FAST)
    page = data(scored)
    assert [page["samples"][one["i"]]["r"] for one in page["targets"]] == [0, 6, TARGETS - 1]
    html = (scored.folder / "report.html").read_text(encoding="utf-8")
    assert f"3 of {TARGETS} targets of split test" in html
    assert "All other rows of the split are left out" in html


def test_a_file_is_never_larger_than_its_limit(scored: Project) -> None:
    whole = json.loads(scored.done("report", "--out", "report.html", "--json", *FAST).stdout)
    limit = (whole["bytes"] - 2_500) / 1e6
    cut = json.loads(scored.done("report", "--out", "cut.html", "--max-mb", str(limit), "--json", *FAST).stdout)
    assert cut["bytes"] <= limit * 1e6
    (split,) = cut["targets"]
    assert 0 < split["shown"] < TARGETS
    assert sorted([*split["rows"], *split["did_not_fit"]]) == list(range(TARGETS))
    scored.refused(USAGE, "report", "--max-mb", "0.01", *FAST, says=("--max-mb", "room for one target", "a smaller -k"))


@pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"shards": 1, "block": 3}, {"shards": 5, "block": 1}])
def test_scores_of_chosen_targets_are_shown_with_their_warnings(featurized: Project, options: dict[str, int]) -> None:
    scores = write(featurized.store, CHOSEN, **options)
    write_notes(Layout(featurized.store), "mine", "test", ["only <b>three</b> targets"], {})
    featurized.done("report", "--out", "report.html", NAMED, "-k", "3", *FAST)
    page = data(featurized)
    for target, position in zip(page["targets"], (1, 0, 2), strict=True):
        assert page["samples"][target["i"]]["r"] == CHOSEN.rows[position]
        for end, order in (("a", np.argsort(-scores[position])), ("b", np.argsort(scores[position]))):
            assert [page["samples"][place]["r"] for place, _ in target[end]] == order[:3].tolist()
    assert "only &lt;b&gt;three&lt;/b&gt; targets" in (featurized.folder / "report.html").read_text(encoding="utf-8")


def test_scores_of_a_group_are_shown_with_its_members(featurized: Project) -> None:
    write(featurized.store, GROUP)
    summary = json.loads(featurized.done("report", "--out", "report.html", NAMED, "--json", *FAST).stdout)
    assert (summary["targets"][0]["shown"], summary["targets"][0]["rows"]) == (1, [])
    page = data(featurized)
    (target,) = page["targets"]
    assert [page["samples"][place]["r"] for place in target["g"]] == list(GROUP.rows)
    assert target["n"] == len(GROUP.rows)
    featurized.refused(USAGE, "report", NAMED, "--target", "7", *FAST, says=("--target", "leave out --target"))


def test_a_page_of_top_scores_alone_has_no_distribution(scored: Project) -> None:
    scored.done("score", "score.top_k=4", "estimator.name=ends")
    scored.done("report", "--out", "report.html", "estimator.name=ends", "-k", "4", *FAST)
    assert all("c" not in target for target in data(scored)["targets"])
    scored.refused(USAGE, "report", "estimator.name=ends", "-k", "5", *FAST, says=("at most 4", "give -k 4"))


def test_a_store_without_its_data_sets_shows_rows_and_scores(scored: Project) -> None:
    scored.done("report", "--out", "report.html", "-n", "trak", "store=runs/tiny", *FAST)
    samples = data(scored)["samples"]
    assert all("l" not in sample and sample["v"] == [] for sample in samples)


def test_other_splits_and_targets_are_refused(scored: Project) -> None:
    scored.refused(STORE, "report", "--split", "none", *FAST, says=("split none", "test"))
    scored.refused(USAGE, "report", "--target", str(TARGETS), *FAST, says=("--target", f"0 to {TARGETS - 1}"))


def test_a_missing_package_is_named_with_its_extra_before_any_work(scored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    scored.refused(USAGE, "report", *FAST, says=("PIL", "pip install 'trak-cli[report]'"))
    assert not (scored.folder / "report.html").exists()
