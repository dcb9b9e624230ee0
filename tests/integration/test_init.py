"""``trak init``: the folders that it writes are complete configurations, and what it cannot know is refused at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from trak_cli.cli.app import app
from trak_cli.config.compose.plugin_import import locate
from trak_cli.config.load import load
from trak_cli.errors import ConfigError

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


#: Options of a project for the table rows.csv.
TABLE = ("--checkpoints", "mine.pt", "--model", "train.Net", "--kind", "table", "--train", "rows.csv", "--targets", "rows.csv")


def test_a_table_with_names_of_classes(tmp_path: Path) -> None:
    Path("rows.csv").write_text("a,b,class\n1,2,yes\n3,4,no\n")
    assert init("project", *TABLE)[0] == 0
    train = load("config", None, Path("project"), []).config.dataset.train
    assert (train["inputs"], train["label"], train["classes"]) == (["a", "b"], "class", ["no", "yes"])
    assert "trak featurize -d project" in Path("project/run.sh").read_text()


def test_files_are_read_as_the_data_sets_read_them() -> None:
    """A byte order mark belongs to no column, and a line that is no row is refused by its number."""
    Path("rows.csv").write_text("label,a\n1,2\n", encoding="utf-8-sig")
    assert init("project", *TABLE)[0] == 0
    Path("rows.csv").write_text("label,a\n1,2,3\n")
    code, text = init("other", *TABLE)
    assert (code, "rows.csv line 2" in text, Path("other").exists()) == (4, True, False)


def test_the_architecture_of_an_image_model_follows_from_its_tensors() -> None:
    models = pytest.importorskip("torchvision.models")
    torch.save(models.mobilenet_v3_small(num_classes=3).state_dict(), "mine.pt")  # two other architectures are tried before it
    for name in ("cat", "dog", "owl"):
        Path("pictures", name).mkdir(parents=True)
    given = ("--checkpoints", "mine.pt", "--train", "pictures", "--targets", "pictures", "--optimizer", "adamw")
    code, text = init("project", *given)
    assert code == 0, text
    model = load("config", None, Path("project"), []).config.model
    assert (model["name"], model["classes"]) == ("mobilenet_v3_small", 3)


def test_what_is_missing_is_refused_at_once_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("torchvision.models", "timm"):  # to try all of their architectures takes seconds
        monkeypatch.setitem(sys.modules, library, None)
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


TEXTS = ("--checkpoints", "out", "--optimizer", "adamw", "--train", "rows.jsonl", "--targets", "new.jsonl")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (("text=words", "label=mod"), "a column mod"),
        (("text=wrods", "label=mood"), "a column wrods"),
        (("text=words",), "--column label=NAME"),
        (("text", "label=mood"), "KEY=COLUMN"),
        (("text=words", "label=mood"), "new.jsonl"),
    ],
)
def test_a_column_that_a_file_does_not_have_is_refused(columns: tuple[str, ...], says: str) -> None:
    hugging_face_folder("out", "BertForSequenceClassification")
    Path("rows.jsonl").write_text(json.dumps({"words": "once", "mood": "good"}) + "\n")
    Path("new.jsonl").write_text(json.dumps({"words": "once", "label": "good"}) + "\n")
    code, text = init("project", *TEXTS, *(word for column in columns for word in ("--column", column)))
    assert code in (2, 4)
    assert says in text
    assert not Path("project").exists()


def test_a_model_of_yours_reads_a_folder_of_images() -> None:
    Path("pictures/cat").mkdir(parents=True)
    given = ("--checkpoints", "mine.pt", "--model", "train.Net", "--train", "pictures", "--targets")
    code, text = init("project", *given, "pixtures")
    assert (code, "a folder with one folder of images" in text) == (2, True)
    assert init("project", *given, "pictures")[0] == 0
    config = load("config", None, Path("project"), []).config
    assert config.dataset.train["path"] == "pictures"
    assert config.model["_target_"] == "train.Net"


@pytest.mark.parametrize("data", ["rows.bin", "data/rows", "rows"])
def test_a_path_is_no_data_set_of_yours(data: str) -> None:
    Path("rows.bin").write_text("")
    code, text = init("project", "--checkpoints", "mine.pt", "--model", "a.B", "--train", data, "--targets", "a.C")
    assert (code, "give MODULE.CLASS" in text) == (2, True)
    assert not Path("project").exists()


def test_modules_in_the_current_folder_are_importable_for_the_script() -> None:
    Path("mine_net.py").write_text("class Net: ...")
    given = ("--checkpoints", "mine.pt", "--model", "mine_net.Net", "--train", "mine_net.Data", "--targets", "mine_net.Data")
    assert "PYTHONPATH=. trak doctor -d project" in init("project", *given)[1]
    assert 'export PYTHONPATH=".' in Path("project/run.sh").read_text()
    with pytest.raises(ConfigError, match=r"mine_net\.py is in .*export PYTHONPATH=\."):
        locate("mine_net.Net", "model._target_")
    Path("inside").mkdir()
    Path("mine_net.py").rename("inside/mine_net.py")
    assert "next: trak doctor" in init("inside", *given)[1]
    assert "PYTHONPATH" not in Path("inside/run.sh").read_text()
