"""The page of all error messages, read from the code: where, what was found, what was expected and what to do.

Part of the documentation site (site_pages.py). Values that a message fills in are shown as "…".
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "trak_cli"

#: Headings, and the packages whose messages they hold; the first that fits a file.
PARTS = (
    ("Clusters", ("cluster", "cli/cluster", "config/validate/cluster", "stages/submit")),
    ("Configuration and command line", ("config", "cli", "projection", "attribution/estimator")),
    ("Text", ("plugins/text", "tasks/language", "tasks/tokens")),
    ("Images", ("plugins/images",)),
    ("Checkpoints and optimizers", ("plugins/checkpoints", "plugins/optimizers", "plugins/hub", "stages/inputs/checkpoints")),
    (
        "Training, unrolling and refined scores",
        ("plugins/trainers", "stages/training", "stages/unroll", "unrolling", "stages/refin"),
    ),
    (
        "Retrained models and evaluation",
        ("stages/evaluation", "stages/retrain", "stages/eval", "stages/tune", "attribution/lds"),
    ),
    (
        "Models, tasks, data and gradients",
        ("tasks", "gradients", "plugins", "stages/inputs", "stages/featuriz", "stages/diagnosis"),
    ),
    ("Stores and scores", ("store", "stages", "results", "report", "api", "attribution")),
    ("Machine and files", ("",)),
)

HEAD = """# All messages

Every refusal of `trak`, from the code. A message has four lines: what it is about, what was found, what was expected, and
what to do. "…" stands for a value. Search this page for words of your message; [troubleshooting](troubleshooting.md) starts
from symptoms.
"""

FIELDS = ("about", "found", "expected", "do")


def page() -> str:
    """The text of the page."""
    rows: dict[str, set[tuple[str, ...]]] = {heading: set() for heading, _ in PARTS}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        heading = next(heading for heading, starts in PARTS if name.startswith(starts))
        rows[heading] |= set(_messages(path))
    tables = [f"\n## {heading}\n\n{_table(sorted(found))}" for heading, found in rows.items() if found]
    return HEAD + "".join(tables)


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(FIELDS) + " |", "|" + "---|" * len(FIELDS)]
    lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")


def _messages(path: Path) -> Iterator[tuple[str, ...]]:
    """The arguments of every ``Problem`` in a file whose texts are in the code, not in variables only."""
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        assigned = dict(_assignments(function))
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem" and len(node.args) == len(FIELDS):
                texts = tuple(_text(assigned.get(arg.id, arg) if isinstance(arg, ast.Name) else arg) for arg in node.args)
                if all(text.strip("… ") for text in texts[1:]):
                    yield texts


def _assignments(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """The names that a function assigns once each, with their values; of two assignments, the last."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    yield from (
                        (one.id, value)
                        for one, value in zip(target.elts, node.value.elts, strict=True)
                        if isinstance(one, ast.Name)
                    )


def _text(node: ast.expr) -> str:
    """The text of an expression, with … for what is known only when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=other):
            return f"{_text(body)} / {_text(other)}"
        case _:
            return "…"
