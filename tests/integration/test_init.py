"""``trak init``: the folders that it writes are complete configurations, and what it cannot know is refused at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from trak_cli.cli.app import app
from trak_cli.config.load import load

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"layers.0.weight": torch.zeros(3, 2)}, "mine.pt")


def init(*arguments: str) -> tuple[int, str]:
    """The exit code and everything that was printed."""
    result = RUNNER.invoke(app, ["init", *arguments])
    return result.exit_code, result.output


def hugging_face_folder(name: str, architecture: str) -> None:
    """A folder with the configuration of a model, and weights that nothing reads."""
    Path(name).mkdir()
    (Path(name) / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    torch.save({"weight": torch.zeros(1)}, Path(name) / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("architecture", "row", "kind"),
    [
        ("BertForSequenceClassification", {"review": "good", "category": "praise"}, "text_classification"),
        ("GPT2LMHeadModel", {"content": "once"}, "causal_lm"),
        ("T5ForConditionalGeneration", {"question": "why", "answer": "because"}, "seq2seq_lm"),
    ],
)
def test_the_kind_of_a_language_model_follows_from_its_folder(architecture: str, row: dict[str, str], kind: str) -> None:
    hugging_face_folder("out", architecture)
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    given = ("--checkpoints", "out", "--train", "rows.jsonl", "--targets", "rows.jsonl", "--optimizer", "adamw")
    assert init("project", *given)[0] == 0
    config = load("config", None, Path("project"), []).config
    assert config.model["pretrained"] == "out"
    assert config.task["_target_"].lower().replace("_", "").endswith(kind.replace("_", ""))
    assert all(column in config.dataset.train.values() for column in row)
    assert config.gradients.optimizer == "adam"


def test_a_table_with_names_of_classes(tmp_path: Path) -> None:
    Path("rows.csv").write_text("a,b,class\n1,2,yes\n3,4,no\n")
    given = (
        "--checkpoints",
        "mine.pt",
        "--model",
        "train.Net",
        "--kind",
        "table",
        "--train",
        "rows.csv",
        "--targets",
        "rows.csv",
    )
    assert init("project", *given)[0] == 0
    train = load("config", None, Path("project"), []).config.dataset.train
    assert (train["inputs"], train["label"], train["classes"]) == (["a", "b"], "class", ["no", "yes"])
    assert "trak featurize -d project" in Path("project/run.sh").read_text()


def test_what_is_missing_is_refused_at_once_and_nothing_is_written() -> None:
    code, text = init("project", "--checkpoints", "mine.pt", "--optimizer", "lbfgs")
    assert code == 2
    for option in ("--kind", "--train", "--targets", "--optimizer", "--model MODULE.CLASS"):
        assert option in text
    assert not Path("project").exists()


def test_an_existing_project_is_not_overwritten() -> None:
    Path("project").mkdir()
    Path("project/trak.yaml").write_text("mine")
    code, text = init("project", "--checkpoints", "mine.pt", "--model", "a.B", "--train", "a.C", "--targets", "a.D")
    assert (code, Path("project/trak.yaml").read_text()) == (2, "mine")
    assert "a file that is there already" in text
