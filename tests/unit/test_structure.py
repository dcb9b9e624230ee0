"""What keeps the package easy to read: small folders, few parameters, plain words. The import contracts are in setup.cfg."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "trak_cli"

MAX_FILES = 16
MAX_PARAMETERS = 7

#: User-facing constructors and command lines list their options one by one.
MANY_PARAMETERS_ALLOWED = ("trak_cli/cli/", "trak_cli/plugins/")

#: Turns of phrase that readers stumbled over, beside the plain wording that replaces them.
UNPLAIN = {
    r"whoever": "name who: the first worker, the caller, a rerun",
    r"in vain": "without effect; negative results",
    r"leftovers? vanish": "stale temporary files are removed",
    r"\bis no news\b": "skip errors caused by an earlier one",
    r"out of the race": "is disqualified",
    r"lead nowhere": "redirect to /dev/null",
    r"no clear gain": "not significantly better than",
    r"how far to trust": "how reliable",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"the loop is asked": "results are checked against the loop",
    r"no one multiplies": "never materialised",
    r"is it right\?": "Validation",
    r"\bfloors?\b of (the|this) (house|program)": "layer",
    r"\b(six|seven) floors\b": "layers",
    r"who has a ground truth": "if you have ground truth",
    r"pulls? at the model": "contributes to the gradient",
}


def python_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameter_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def tracked_texts() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git checkout: the list of tracked files")
    kinds = {".py", ".md", ".yaml", ".yml", ".cfg", ".toml", ".c", ".h", ".cu", ".cuh", ""}
    return [ROOT / name for name in listed.splitlines() if Path(name).suffix in kinds and ROOT / name != Path(__file__)]


def test_no_folder_of_the_package_has_more_than_sixteen_python_files() -> None:
    count = Counter(path.parent.relative_to(ROOT).as_posix() for path in python_files())
    assert {folder: files for folder, files in count.items() if files > MAX_FILES} == {}


def test_no_function_has_more_than_seven_parameters() -> None:
    long = {}
    for path in python_files():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(MANY_PARAMETERS_ALLOWED):
            continue
        for function in functions(path):
            if parameter_count(function) > MAX_PARAMETERS:
                long[f"{name}:{function.lineno} {function.name}"] = parameter_count(function)
    assert long == {}


def test_no_text_of_the_repository_uses_a_phrase_that_readers_stumble_over() -> None:
    pattern = re.compile("|".join(f"(?:{phrase})" for phrase in UNPLAIN), re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in tracked_texts()
        if path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert found == [], "\n".join(found)


def test_no_two_files_of_tests_have_the_same_name() -> None:
    """They are modules without a package, so pytest could import one of them only."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
