"""One self-contained HTML page: it loads nothing, and its Content-Security-Policy forbids the browser to."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from trak_cli.plugins.optional import needed
from trak_cli.report.payload import dumps


@dataclass(frozen=True)
class Suspects:
    """The table of suspicious training samples.

    Attributes:
        columns: names of the columns after the sample and its label.
        rows: for each sample its index among the samples of the page, and the values of the columns.
        about: what the columns are and how far they go, a paragraph each.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[int, Sequence[str | float | int | None]]]
    about: Sequence[str] = ()


@dataclass(frozen=True)
class LdsTable:
    """The LDS of several sets of scores on one split: a plot (SVG), and rows of name, LDS and interval."""

    split: str
    plot: str
    rows: Sequence[tuple[str, str, str]]
    about: str


@dataclass(frozen=True)
class Page:
    """What a report says, except its targets and samples.

    Attributes:
        title: the heading.
        subtitle: a line below it.
        train: name of the training split.
        notes: about the choice of targets, a sentence each.
        warnings: about the scores.
        reliability: sentences for each split.
        facts: how the scores were made, for each split.
        config: the configuration as YAML; None if it is not stored.
        spread: the distribution of scores (SVG); None if it is not known.
        row_list: the rows on the page, for each split, where not all are.
        suspects: suspicious training samples; None without, and ``no_suspects`` says why.
    """

    title: str
    subtitle: str
    train: str
    notes: Sequence[str]
    warnings: Sequence[str]
    reliability: dict[str, Sequence[str]]
    facts: dict[str, Sequence[tuple[str, str]]]
    config: str | None = None
    spread: str | None = None
    row_list: dict[str, str] = field(default_factory=dict)
    lds: Sequence[LdsTable] = ()
    suspects: Suspects | None = None
    no_suspects: Sequence[str] = ()


def require_packages() -> None:
    """Check that a page can be made, before anything is computed for it.

    Raises:
        ConfigError: a package of the extra ``report`` is missing.
    """
    for module in ("jinja2", "matplotlib.figure", "PIL.Image"):
        needed(module, "report", "trak report")


def render(page: Page, data: str) -> str:
    """The page as HTML.

    Args:
        page: everything but the data.
        data: the targets and samples, from :meth:`~trak_cli.report.payload.Payload.json`.
    """
    jinja2 = needed("jinja2", "report", "trak report")
    markup = needed("markupsafe", "report", "trak report").Markup
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trak_cli.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = _asset("report.js"), _asset("report.css")
    meta = {"train": page.train, "suspects": [[index, *values] for index, values in (page.suspects or Suspects([], [])).rows]}
    text: str = environment.get_template("report.html").render(
        page=page,
        script=markup(script),
        style=markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=markup(data),
        meta=markup(dumps(meta)),
        svg=markup,
    )
    return text


def _asset(name: str) -> str:
    """A file beside the template, as the browser hashes it: with \\n as the end of a line."""
    return (files("trak_cli.report") / "templates" / name).read_text(encoding="utf-8").replace("\r\n", "\n")
