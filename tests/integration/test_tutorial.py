"""docs/tutorial.md, tried as it stands, with one short training instead of three and fewer retrained models."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from small_project import type_command

from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()

#: What is made smaller: in the script and in the commands.
SMALLER = {"range(10)": "range(1)", "range(3)": "range(1)", "subsets=20": "subsets=3", "trainer.epochs=10": "trainer.epochs=1"}


def smaller(text: str) -> str:
    """The text, with less to compute."""
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


def test_the_tutorial_leads_from_a_training_script_to_an_lds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="the tutorial's data set comes with scikit-learn")
    folder = tmp_path / "my_digits"
    folder.mkdir()
    for name, text in re.findall(r"^```\w+ file=my_digits/(\S+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL):
        (folder / name).write_text(smaller(text))
    monkeypatch.chdir(folder)
    runpy.run_path("train.py", run_name="__main__")
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    answers = {line.split()[1]: type_command(folder, monkeypatch, smaller(line)) for line in lines if line.startswith("trak ")}
    assert list(answers) == ["doctor", "featurize", "finalize", "score", "top", "retrain", "eval-lds"]
    assert "target 3 of test (label" in answers["top"]
    assert "3 subsets" in answers["eval-lds"]
    assert read_scores(Layout(folder / "runs" / "digits").scores("early_training", "test")).shape == (200, 800)
