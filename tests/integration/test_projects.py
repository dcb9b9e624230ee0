"""docs/projects.md, tried as it stands: projects of other libraries go from their own training script to scores."""

from __future__ import annotations

import importlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fresh_process import fresh_python
from small_project import read_store, type_command

from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores

PAGE = Path(__file__).parents[2] / "docs" / "projects.md"
PROJECTS = PAGE.parent / "examples" / "projects"


@dataclass(frozen=True)
class Expected:
    """A project: the package that it needs, the name of its run, its target split, and rows of both sets.

    ``few``: what makes the training set a small part of itself, see :func:`write_few`.
    """

    package: str
    run: str
    split: str
    train: int
    targets: int
    few: str


EXPECTED = {
    "lightning": Expected("lightning", "digits", "test", 400, 297, "+dataset.train.module.train_images=40"),
    "trainer_classification": Expected("transformers", "docstrings", "test", 200, 20, "dataset.train.path=few.jsonl"),
    "trainer_causal_lm": Expected("transformers", "summaries", "test", 200, 20, "dataset.train.path=few.jsonl"),
    "gru_regression": Expected("statsmodels", "sunspots", "later", 226, 59, "+dataset.train.last=1763"),
    "timm_images": Expected("timm", "digits", "test", 200, 50, "dataset.train.path=images/few"),
}


def commands() -> list[str]:
    """The lines of the page's block of commands of a project."""
    (block,) = re.findall(r"^```sh\n(python .*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    return block.splitlines()


def copy_of(name: str, parent: Path) -> Path:
    """A copy of the project, with nothing in it but the script and the YAML file."""
    try:
        importlib.import_module(EXPECTED[name].package)
    except ImportError as error:
        pytest.skip(f"needs the extra projects: {error}")
    return Path(shutil.copytree(PROJECTS / name, parent / name))


def write_few(folder: Path) -> None:
    """Copy the first training samples of a file, or of each folder of images."""
    if (folder / "train.jsonl").exists():
        lines = (folder / "train.jsonl").read_text().splitlines(keepends=True)
        (folder / "few.jsonl").write_text("".join(lines[:30]))
    for label in (folder / "images" / "train").glob("*"):
        few = folder / "images" / "few" / label.name
        few.mkdir(parents=True)
        for image in sorted(label.iterdir())[:3]:
            shutil.copy(image, few)


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the project named by the parameter."""
    return copy_of(request.param, tmp_path)


@pytest.fixture(scope="module")
def trained_gru(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recurrent network, trained for a moment."""
    folder = copy_of("gru_regression", tmp_path_factory.mktemp("trained"))
    trained = fresh_python(folder, "train.py", "--epochs", "1")
    assert trained.returncode == 0, trained.stderr
    return folder


def test_the_page_shows_the_yaml_files() -> None:
    shown = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert shown == [(PROJECTS / name / "trak.yaml").read_text() for name in EXPECTED]


@pytest.mark.slow
@pytest.mark.timeout(900)  # half a minute of computation each
@pytest.mark.parametrize("folder", EXPECTED, indirect=True)
def test_a_project_goes_from_training_to_scores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = EXPECTED[folder.name]
    train, *stages = commands()
    assert train == "python train.py"
    trained = fresh_python(folder, "train.py")
    assert trained.returncode == 0, trained.stderr
    answers = [type_command(folder, monkeypatch, line) for line in stages]
    assert f"target 0 of {expected.split}" in answers[-1]

    layout = Layout(folder / "runs" / expected.run)
    assert read_scores(layout.scores("early_training", expected.split)).shape == (expected.targets, expected.train)

    # Training samples as targets: nothing is more similar to a sample than itself, and little has more influence.
    for line in (
        "trak featurize -d . '+dataset.targets.seen=${dataset.train}'",
        "trak score -d . 'score.splits=[seen]'",
        "trak score -d . 'score.splits=[seen]' estimator=cosine",
    ):
        type_command(folder, monkeypatch, line)
    assert (_ranks(layout, "cosine") == 0).mean() > 0.95
    assert np.median(_ranks(layout, "early_training")) < expected.train / 10

    write_few(folder)
    type_command(folder, monkeypatch, f"trak featurize -d . gradients.engine=loop store=runs/loop {expected.few}")
    found, loop = read_store(layout.root), read_store(folder / "runs" / "loop")
    for key, rows in loop.items():
        same = [found[key].sample_ids.tolist().index(sample) for sample in rows.sample_ids.tolist()]
        assert len(set(same)) >= 20
        np.testing.assert_allclose(found[key].outputs[same], rows.outputs, rtol=1e-3, atol=1e-4)
        distance = np.linalg.norm(found[key].features[same] - rows.features, axis=1) / np.linalg.norm(rows.features, axis=1)
        # Rounding can move a sample over the kink of a ReLU, where the gradient jumps.
        assert np.median(distance) < 1e-4
        assert (distance > 1e-3).mean() < 0.05


@pytest.mark.parametrize("change", ["'~task.inputs' '~task.value'", "'task.inputs=[serie,lengths]'", "task.value=after"])
def test_the_remedy_for_parts_of_a_batch_that_are_not_named_can_be_pasted(
    trained_gru: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    folder = shutil.copytree(trained_gru, tmp_path / "project")
    line = f"trak featurize -d . {change}"
    with pytest.raises(AssertionError, match="name the parts") as refused:
        type_command(folder, monkeypatch, line)
    (remedy,) = re.findall(r"do: .*?('task\.inputs=.*)", str(refused.value))
    type_command(folder, monkeypatch, f"trak featurize -d . {remedy}")
    features = read_store(folder / "runs" / "sunspots")
    assert {split: len(rows.features) for (_, split), rows in features.items()} == {"train": 226, "later": 59}


def _ranks(layout: Layout, estimator: str) -> np.ndarray:
    """How many training samples count more for (or against) sample i than itself."""
    scores = np.abs(read_scores(layout.scores(estimator, "seen")))
    return (scores > np.diag(scores)[:, None] * (1 + 1e-5)).sum(axis=1)
