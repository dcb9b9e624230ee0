"""Every code block of README.md and docs/ is run on a small project, checked, or named here with a reason."""

from __future__ import annotations

import configparser
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fresh_process import fresh_python
from page_blocks import PAGES, ROOT, Block, blocks, parsed
from small_project import type_command
from tiny_project import ROWS, TARGETS

from trak_cli.config.load import load
from trak_cli.errors import ConfigError

#: Pages with a test of their own, which runs every block.
OWN_TEST = {
    "README.md": "test_readme.py",
    "docs/cluster.md": "test_submit.py",
    "docs/tutorial.md": "test_tutorial.py",
    "docs/python.md": "test_python_page.py",
    "docs/projects.md": "test_projects.py",
}

#: Pages whose commands are checked and not run: the options exist, and the configuration is valid with empty files in the
#: places of data and checkpoints.
CHECKED = {
    "docs/clip.md": "needs a CLIP and its data",
    "docs/images.md": "needs CIFAR-10",
    "docs/text.md": "needs weights of the hub",
}

#: Lines of other pages that are checked and not run.
CHECKED_LINES = {
    "trak ask -d my_project --text": "the small project has no texts",
    "trak ask -d my_project --prompt": "the small project has no texts",
    "trak ask -d my_project --image": "the small project has no images",
    "trak init reviews": "tests/integration/test_init.py writes such projects",
    "trak init shapes": "tests/integration/test_init.py writes such projects",
    "trak init mine": "tests/integration/test_init.py writes such projects",
    "trak train -d my_project train.start=CHECKPOINT": "tests/integration/test_train_start.py runs such trainings",
}

#: Lines that do not call trak, and what checks them instead.
OTHER_LINES = {
    "sh reviews/run.sh": "tests/integration/test_init.py",
    "make demo": "the Makefile has this target",
    "make test": "the Makefile has this target",
    "pip install 'trak-cli[": "setup.cfg has these extras",
}

#: Blocks in other languages are pictures, formulas and code of other programs.
LANGUAGES = {"sh", "yaml", "python"}

#: Pages with such blocks.
PICTURES = {"docs/architecture.md", "docs/formats.md", "docs/migration.md"}

#: What is different in the small project: it has fewer rows and checkpoints, other names, and no cluster.
SMALLER = {
    "trak submit -d": "trak submit --dry-run -d",
    "[0,7,42]": "[0,7,4]",
    "candidates=100": "candidates=5",
    "[1, 5, 10]": "[1, 2]",
    "[0, 1, 2, 3, 4]": "[0, 1]",
    "'*_0'": "'a-*'",
    "[mine]": "[test]",
    "5.1,3.5,1.4,0.2 --label setosa": "1,2,3,4,5,6,7,8 --label 2",
    "-k 50": "-k 20",
}

SETTINGS = """
trainer: {epochs: 1, batch_size: 16}
train: {count: 2}
retrain: {subsets: 6}
refine: {tolerance: 0.5}
"""

BLOCKS = list(blocks())


def code(language: str) -> list[Block]:
    """The blocks of a language on pages without a test of their own."""
    return [block for block in BLOCKS if block.language == language and block.page not in OWN_TEST]


def named(block: Block) -> str:
    """The page of a block and its first words."""
    return f"{block.page}: {block.text[:50].splitlines()[0]}"


@pytest.fixture(scope="session")
def small_project(finished: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the pages work: ``-d my_project`` and ``experiment=digits`` are the tiny project, with
    scores of three estimators and retrained models."""
    folder = tmp_path_factory.mktemp("pages") / "project"
    shutil.copytree(finished["score"], folder)
    project = folder / "my_project"
    (project / "experiment").mkdir(parents=True)
    (folder / "tiny_plugin.py").rename(project / "tiny_plugin.py")
    (project / "my_run.yaml").write_text((folder / "tiny.yaml").read_text().replace("name: tiny", "name: digits") + SETTINGS)
    (folder / "tiny.yaml").unlink()
    (folder / "runs" / "tiny").rename(folder / "runs" / "digits")
    (project / "experiment" / "digits.yaml").write_text("# @package _global_\n")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for estimator in ("cosine", "dot"):
            type_command(folder, monkeypatch, f"trak score -d my_project estimator={estimator}")
        type_command(folder, monkeypatch, "trak retrain -d my_project")
    return folder


def saved_by_other_programs(folder: Path) -> None:
    """Scores of the small project as MadryLab/trak and torch.save write them."""
    scores = np.random.default_rng(0).standard_normal((ROWS, TARGETS)).astype(np.float32)
    (folder / "_trak" / "scores").mkdir(parents=True)
    np.save(folder / "scores.npy", scores)
    (folder / "scores.npy").rename(folder / "_trak" / "scores" / "quick.mmap")
    entry = {"num_targets": TARGETS, "scores_path": "quick.mmap", "scores_finalized": 1}
    (folder / "_trak" / "experiments.json").write_text(json.dumps({"quick": entry}))
    (folder / "_trak" / "metadata.json").write_text(json.dumps({"JL dimension": 8, "train set size": ROWS}))
    torch.save(torch.from_numpy(scores.T.copy()), folder / "scores.pt")


def known_about_the_data(folder: Path) -> None:
    """Flipped rows, planted sources, and a store of a model with random weights."""
    (folder / "flipped_rows.txt").write_text("3\n17\n")
    (folder / "sources.json").write_text(json.dumps({"0": [17, 29], "1": [4]}))
    shutil.copytree(folder / "runs" / "digits", folder / "runs" / "digits_random")


def questions(folder: Path) -> None:
    """A file of new targets."""
    (folder / "questions.jsonl").write_text(json.dumps({"row": list(range(8)), "label": 1}) + "\n")


def another_run(folder: Path) -> None:
    """Scores of the same estimator, of another run."""
    shutil.copytree(folder / "runs" / "digits", folder / "runs" / "adam")


#: Page -> what makes the files that its commands read.
FILES: dict[str, Callable[[Path], None]] = {
    "docs/ask.md": questions,
    "docs/command_line.md": another_run,
    "docs/evaluate.md": known_about_the_data,
    "docs/exchange.md": saved_by_other_programs,
}

#: Page -> commands that it expects to have been run.
BEFORE = {
    "docs/evaluate.md": "trak retrain -d my_project retrain.same_seed=true 'retrain.remove_top=[early_training]'"
    " 'retrain.flip_top=[early_training]'"
    " 'lds.targets=[0]'",
    "docs/migration.md": "trak score -d my_project estimator=dot",
}


def is_checked(line: str) -> bool:
    return any(line.startswith(start) for start in CHECKED_LINES)


@pytest.mark.parametrize("block", [one for one in code("sh") if one.page not in CHECKED], ids=named)
def test_commands_run(block: Block, small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(small_project, tmp_path / "project")
    lines = [line for line in block.commands if line.startswith("trak ")]
    running = [line for line in lines if not is_checked(line)]
    if running and block.page in FILES:
        FILES[block.page](folder)
    if running and block.page in BEFORE:
        type_command(folder, monkeypatch, BEFORE[block.page])
    for line in lines:
        name, options = parsed(line)
        if is_checked(line):
            continue
        for large, small in SMALLER.items():
            line = line.replace(large, small)
        if options.get("config_dir") is None:
            load("config", None, None, options["overrides"] or [])  # with the shipped experiment
            line = line.split(" # ")[0] + " -d my_project"
        assert type_command(folder, monkeypatch, line) or name == "select"


def require_valid(stage: str, name: str | None, folder: Path | None, overrides: list[str]) -> None:
    """Require everything that a stage needs but files: data and checkpoints."""
    try:
        load(stage, name, folder, overrides)
    except ConfigError as error:
        ConfigError.raise_for(problem for problem in error.problems if "no file" not in problem.found)


@pytest.mark.parametrize("block", [one for one in code("sh") if one.page in CHECKED], ids=named)
def test_commands_are_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in (line for line in block.commands if line.startswith("trak ")):
        name, options = parsed(line)
        require_valid(name, options["config_name"], options["config_dir"], options["overrides"] or [])


@pytest.mark.parametrize("block", code("yaml"), ids=named)
def test_configurations_are_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole one with everything that featurize needs; a part of one in its place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("class ShapeNet: ...\n")
    (tmp_path / "my_module.py").touch()
    whole = "defaults" in yaml.safe_load(block.text)
    (tmp_path / "my_run.yaml").write_text(block.text if whole else f"defaults: [trak, _self_]\n{block.text}")
    require_valid("featurize" if whole else "config", "my_run", tmp_path, [] if "name:" in block.text else ["name=mine"])


#: Page -> what its Python code relies on, and what shows that it does what it says.
PROGRAMS = {
    "docs/ask.md": (
        "from torch.utils.data import Dataset\ndef load(path): return [float(len(path))]\n",
        "assert MyData().sample_from({'audio': 'a.wav', 'label': '3'}) == ([5.0], 3)\n",
    ),
    "docs/extending.md": (
        "from torch import nn\nclass MyLayer(nn.Module): ...\n",
        "from trak_cli.attribution.estimator.registry import metric_names\nassert 'diagonal' in metric_names()\n",
    ),
}


@pytest.mark.parametrize("page", PROGRAMS)
def test_programs_run(page: str, tmp_path: Path) -> None:
    before, after = PROGRAMS[page]
    text = "\n".join([before, *(block.text for block in code("python") if block.page == page), after])
    outcome = fresh_python(tmp_path, "-c", text)
    assert outcome.returncode == 0, outcome.stderr


def test_every_block_of_code_has_a_test() -> None:
    assert {block.page for block in code("python")} == set(PROGRAMS)
    assert {block.page for block in BLOCKS if block.language not in LANGUAGES} == PICTURES
    for block in code("sh"):
        others = [line for line in block.commands if not line.startswith("trak ")]
        assert [line for line in others if not line.startswith(tuple(OTHER_LINES))] == [], block.page
    for page in (path.relative_to(ROOT) for path in PAGES):
        indented = re.findall(r"^ {4,}(?:trak|pip|make) .*$", _without_fences(ROOT / page), flags=re.MULTILINE)
        assert not indented, f"{page}: commands belong into a block that begins with ```sh"


def _without_fences(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_pages_with_a_test_of_their_own_have_it() -> None:
    for page, test in OWN_TEST.items():
        text = (Path(__file__).parent / test).read_text()
        assert Path(page).name in text, page
        assert any(block.page == page for block in BLOCKS)


def test_the_reasons_for_not_running_a_line_are_of_lines_that_exist() -> None:
    lines = [line for block in BLOCKS if block.language == "sh" for line in block.commands]
    for start in (*CHECKED_LINES, *OTHER_LINES):
        assert any(line.startswith(start) for line in lines), start
    for large in SMALLER:
        assert any(large in line for line in lines), large
    assert {block.page for block in code("sh")} >= {*CHECKED, *FILES, *BEFORE}


def test_other_programs_in_the_blocks_exist() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = [line for block in BLOCKS if block.language == "sh" for line in block.commands]
    for line in lines:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        if line.startswith("pip install"):
            (extras,) = re.findall(r"trak-cli\[(.*?)\]", line)
            assert set(extras.split(",")) <= set(settings["options.extras_require"]), line
