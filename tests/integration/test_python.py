"""The program from Python: the same files and errors as the command line, and objects in memory in the place of plugins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_project import assert_identical, read_store
from tiny_project import DIM, MICROBATCH, ROWS, SHARD_ROWS, TARGETS, Project, weights
from torch import nn

import trak_cli as trak
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import Silent

#: The choices of the tiny project that are not defaults.
CHOICES: dict[str, Any] = {
    "device": "cpu",
    "threads": 1,
    "gradients": {"engine": "hooks", "microbatch": MICROBATCH},
    "projection__kind": "rademacher",
    "projection__dim": DIM,
    "features__shard_rows": SHARD_ROWS,
    "score__target_block": 8,
    "progress": False,
}

PREDICTED = ("predicted", "predicted_probability")


class Net(nn.Module):
    """The model of the tiny project."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


def columns(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples of the tiny project."""
    inputs, labels = [], []
    for row in range(rows):
        generator = torch.Generator().manual_seed(1000 * seed + row)
        inputs.append(torch.randn(8, generator=generator))
        labels.append(int(torch.randint(3, (), generator=generator)))
    return torch.stack(inputs), torch.tensor(labels)


class Samples:
    """The samples as a data set with descriptions."""

    def __init__(self, rows: int, seed: int) -> None:
        self.inputs, self.labels = columns(rows, seed)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.inputs[row], int(self.labels[row])

    def describe(self, row: int) -> dict[str, Any]:
        return {"text": f"sample {row}", "label": int(self.labels[row])}


TRAIN, TEST = Samples(ROWS, 1), Samples(TARGETS, 2)


def attribute(**changes: Any) -> trak.Store:
    """The tiny project from objects alone."""
    arguments = {"model": Net(), "checkpoints": [weights(0), weights(1)], "train": TRAIN, "targets": {"test": TEST}}
    return trak.attribute(**{**arguments, **CHOICES, **changes})


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> trak.Store:
    """A finished store, which no test changes."""
    return attribute(store=tmp_path_factory.mktemp("result") / "store")


def test_importing_the_package_imports_neither_torch_nor_numpy(tmp_path: Path) -> None:
    program = (
        "import sys, trak_cli as trak; trak.TrakError; print(*sorted({'torch', 'numpy', 'hydra', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_exists_and_a_wrong_one_is_an_attribute_error() -> None:
    assert all(getattr(trak, name) is not None for name in trak.__all__)
    assert set(trak.__all__) <= set(dir(trak))
    with pytest.raises(AttributeError, match="nothing"):
        _ = trak.nothing


def test_stages_write_the_same_bytes_as_the_command_line(
    project: Project, scored: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    for stage in (trak.featurize, trak.finalize, trak.score):
        stage(config_dir=".", progress=False)
    expected = {path.replace(str(scored.folder), ""): content for path, content in scored.files().items()}
    found = {path.replace(str(project.folder), ""): content for path, content in project.files().items()}
    assert found == expected


def test_run_writes_the_same_bytes_as_the_three_stages(
    project: Project, scored: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    done = trak.run(config_dir=".", progress=False)
    assert (done.featurize.dim, done.finalize is None, done.score is None) == (DIM, False, False)
    expected = {path.replace(str(scored.folder), ""): content for path, content in scored.files().items()}
    assert {path.replace(str(project.folder), ""): content for path, content in project.files().items()} == expected
    with pytest.raises(trak.ConfigError, match=r"did you mean projection.dim"):
        trak.run(projection__dimm=3, config_dir=".")


def test_features_are_read_as_arrays(scored: Project) -> None:
    store = trak.open_store(scored.store)
    expected = read_store(scored.store)
    for checkpoint in store.checkpoints:
        for split in ("train", "test"):
            arrays = store.features(split, checkpoint)
            for name in ("features", "outputs", "out_to_loss", "sample_ids"):
                np.testing.assert_array_equal(arrays[name], getattr(expected[checkpoint, split], name))
    with pytest.raises(trak.ConfigError, match="checkpoint='a-"):
        store.features()
    with pytest.raises(trak.StoreError, match="split mine"):
        store.features("mine", store.checkpoints[0])
    with pytest.raises(trak.TrakError):
        store.features(checkpoint="nothing")


def test_stages_raise_the_errors_of_the_command_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    with pytest.raises(trak.StoreError):
        trak.score(config_dir=".", progress=False)
    with pytest.raises(trak.ConfigError, match=r"did you mean projection.dim"):
        trak.featurize("projection.dimm=3", config_dir=".")
    with pytest.raises(trak.ConfigError, match=r"did you mean projection.dim"):
        trak.featurize(projection__dimm=3, config_dir=".")
    with pytest.raises(trak.ConfigError, match="did you mean estimator=trak"):
        trak.score(estimator="track", store="s")
    with pytest.raises(trak.InputError, match="fix"):
        trak.featurize("dataset.train.nan=3", "dataset.train.rows=broken", config_dir=".", progress=False)
    assert not (project.folder / "runs").exists()


def test_a_store_is_opened_as_data(scored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (scored.folder / "foreign_plugin.py").write_text("raise SystemExit('code of a store ran')")
    config = scored.store / "config.yaml"
    config.write_text(config.read_text().replace("tiny_plugin", "foreign_plugin"))
    monkeypatch.chdir(scored.folder)
    monkeypatch.syspath_prepend(str(scored.folder))
    store = trak.open_store("runs/tiny")
    assert store.splits == {"test": TARGETS, "train": ROWS}
    assert len(store.checkpoints) == 2
    assert store.estimators == {"early_training": ["test"]}
    assert store.config["model"] == {"_target_": "foreign_plugin.Net"}
    assert "early_training of test" in repr(store)
    assert "<table>" in store._repr_html_()
    assert store.scores().shape == (TARGETS, ROWS)
    assert "foreign_plugin" not in sys.modules
    with pytest.raises(trak.ConfigError, match="code of a store ran"):
        trak.open_store("runs/tiny", datasets=True)


@pytest.mark.parametrize(("path", "says"), [("runs/none", "no such folder"), (".", "without config.yaml")])
def test_a_folder_without_a_store_is_refused(scored: Project, path: str, says: str) -> None:
    with pytest.raises(trak.StoreError, match=says):
        trak.open_store(scored.folder / path)


def test_only_the_files_with_the_chosen_scores_are_read(scored: Project) -> None:
    scores = trak.open_store(scored.store).scores("test")
    layout = Layout(scored.store)
    whole = read_scores(layout.scores("early_training", "test"))
    layout.scores_shard("early_training", "test", 1, 2).unlink()  # targets 8 to 11, training rows 32 to 47
    assert np.array_equal(scores[:8], whole[:8])
    assert np.array_equal(scores[9, [0, 50, 31]], whole[9, [0, 50, 31]])
    with pytest.raises(trak.StoreError):
        scores[9, 40]


def test_the_highest_and_lowest_scores_are_a_table(scored: Project) -> None:
    pytest.importorskip("pandas")
    store = trak.open_store(scored.store, datasets={"train": TRAIN})
    table = store.top([3, 5], k=2)
    scores = store.scores()
    assert table.columns.tolist() == ["target", "row", "score", "label", *PREDICTED, "text"]
    assert table["target"].tolist() == [3] * 4 + [5] * 4
    order = np.argsort(-scores.of(3))
    assert table["row"].tolist()[:4] == [*order[:2], *order[-2:]]
    assert table["text"].tolist() == [f"sample {row}" for row in table["row"]]
    assert table["label"].tolist() == [int(TRAIN.labels[row]) for row in table["row"]]
    assert trak.open_store(scored.store).top(k=1).columns.tolist() == ["target", "row", "score", *PREDICTED]
    with pytest.raises(trak.ConfigError, match=r"^split: found nothing|^target: found 99"):
        store.top(99)


def test_which_scores_are_meant_is_asked(scored: Project) -> None:
    scored.done("score", "estimator=cosine")
    store = trak.open_store(scored.store)
    assert store.scores().estimator == "early_training"
    assert store.scores(estimator="cosine").estimator == "cosine"
    with pytest.raises(trak.StoreError):
        store.scores(estimator="dot")
    with pytest.raises(trak.ConfigError, match="splits of the store"):
        trak.open_store(scored.store, datasets={"tests": TEST})


def test_objects_in_memory_have_the_features_and_scores_of_the_command_line(scored: Project, tmp_path: Path) -> None:
    files = sorted((scored.folder / "checkpoints").iterdir())
    found = attribute(checkpoints=files, store=tmp_path / "store")
    assert_identical(read_store(tmp_path / "store"), read_store(scored.store))
    assert np.array_equal(found.scores()[:], trak.open_store(scored.store).scores()[:])


def test_new_targets_have_the_scores_of_a_target_split(result: trak.Store) -> None:
    before = {path: path.stat().st_mtime_ns for path in result.path.rglob("*")}
    new = result.score((TEST.inputs[:5], TEST.labels[:5]), progress=False)
    assert np.allclose(new[:], result.scores()[:5], atol=1e-6)
    assert {path: path.stat().st_mtime_ns for path in result.path.rglob("*")} == before
    with pytest.raises(trak.InputError, match=r"LOADER.dataset"):
        result.score(torch.utils.data.DataLoader(TEST), progress=False)
    with pytest.raises(trak.ConfigError, match="trak ask"):
        trak.open_store(result.path).score(TEST)


def test_candidates_have_the_scores_of_the_full_pass(tmp_path: Path) -> None:
    result, new = attribute(store=tmp_path / "store"), (TEST.inputs[:3], TEST.labels[:3])
    full = result.score(new, progress=False)
    assert full.train_rows.tolist() == list(range(ROWS))
    assert "train_rows" not in repr(full)
    with pytest.raises(trak.StoreError, match=r"(?s)none.*call trak.compress with the same .*ask without candidates"):
        result.score(new, candidates=5, progress=False)
    with pytest.raises(trak.ConfigError, match="a whole number of at least 1"):
        result.score(new, candidates=0, progress=False)
    trak.compress(store=result.path, worker__part_rows=2 * SHARD_ROWS, progress=False)
    said = Lines()
    few = result.score(new, candidates=5, progress=said)
    assert few.shape == (3, len(few.train_rows))
    assert 10 <= len(few.train_rows) < ROWS
    assert np.allclose(few[:], full[:, few.train_rows], rtol=2e-5, atol=2e-5 * np.abs(full[:]).max())
    assert said.lines[-1] in repr(few)
    scored = f"{len(few.train_rows)} of {ROWS} training rows scored, the 5 best candidates of each end"
    assert said.lines[-1].startswith(f"{scored}; trak compress found ")
    assert f"of the 5 highest and lowest scores of {TARGETS} targets of test" in said.lines[-1]
    assert few.of(2).tolist() == few[2].tolist()
    everything = result.score(new, candidates=ROWS, progress=False)
    assert np.array_equal(everything[:], full[:])


def test_candidates_are_named_in_an_array_with_labels(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    result = attribute(store=tmp_path / "store")
    trak.compress(store=result.path, progress=False)
    few = result.score((TEST.inputs[:2], TEST.labels[:2]), candidates=3, progress=False)
    array = few.to_xarray(targets=1)
    assert array["train"].values.tolist() == few.train_rows.tolist()
    row = int(few.train_rows[-1])
    assert float(array.sel(train=row, target=1)) == few[1, -1]


def drawing(samples: list[Any]) -> Any:
    """A collate function that draws random numbers, which it does not use."""
    torch.rand(3)
    return torch.utils.data.default_collate(samples)


def test_scores_of_new_targets_leave_the_random_states_of_the_caller(tmp_path: Path) -> None:
    result, before = attribute(store=tmp_path / "store", collate=drawing), torch.get_rng_state()
    result.score((TEST.inputs[:3], TEST.labels[:3]), progress=False)
    assert torch.equal(torch.get_rng_state(), before)


class Lines(Silent):
    """A reporter that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def test_samples_are_selected_by_their_mean_score(result: trak.Store, tmp_path: Path) -> None:
    mean = result.scores()[:].astype(np.float64).mean(axis=0)
    assert result.select(k=3, out=tmp_path / "rows.txt") == np.argsort(-mean)[:3].tolist()
    assert [int(row) for row in (tmp_path / "rows.txt").read_text().split()] == np.argsort(-mean)[:3].tolist()


def test_a_page_describes_the_objects(result: trak.Store, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    page = result.report(tmp_path / "page.html", targets=[3], suspects=0).read_text()
    assert "sample 3" in page


def test_scores_are_exported_and_evaluated(result: trak.Store, tmp_path: Path) -> None:
    written = result.export(tmp_path / "scores.npz", split="test")
    with np.load(written) as arrays:
        assert any(np.array_equal(arrays[name], result.scores()[:]) for name in arrays.files)
    metrics = result.evaluate(classes=True, flipped=[2, 5])
    assert TARGETS in metrics["count"].tolist()
    assert metrics["metric"].str.startswith("mislabel detection AUC").any()
    with pytest.raises(trak.ConfigError, match="nothing to compare"):
        result.evaluate()


def test_suspects_are_a_table(result: trak.Store) -> None:
    pytest.importorskip("pandas")
    table = result.suspects(k=4)
    assert len(table) == 4
    assert table["text"].tolist() == [f"sample {row}" for row in table["row"]]
    assert {"row", "label", "proposed", table.attrs["by"]} <= set(table.columns)


def test_a_temporary_store_is_removed_with_its_object() -> None:
    found = attribute(checkpoints=weights(0), targets=[TEST[0]])
    folder = found.path
    assert folder.exists()
    assert found.splits == {"targets": 1, "train": ROWS}
    scores = found.scores()
    del found
    assert scores[:].shape == (1, ROWS)
    del scores
    assert not folder.exists()


def test_the_model_of_the_caller_stays_as_it_is() -> None:
    model = Net().train()
    model.load_state_dict(weights(0))
    attribute(model=model, checkpoints=None, targets=[TEST[0]])
    assert model.training
    assert all(torch.equal(value, weights(0)[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_gradients_that_the_caller_has_switched_off_are_computed(switched_off: Any, result: trak.Store) -> None:
    with switched_off():
        found = attribute(targets=[TEST[0]])
        assert not torch.is_grad_enabled()
    assert np.allclose(found.scores()[:], result.scores()[:1], atol=1e-6)


class Shifted(Samples):
    """The samples, of which one is another."""

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        inputs, label = super().__getitem__(row)
        return inputs + (row == 23), label


class Twice(Net):
    """A model of the same tensors that computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another sample in the middle": ({"train": Shifted(ROWS, 1)}, "sample 23 of train"),
    "other weights": ({"checkpoints": [weights(0), weights(2)]}, "give another store"),
    "another model": ({"model": Twice()}, "give the model that the store was made with"),
    "another task": ({"task": "binary"}, "give the task that the store was made with"),
    "another collate function": ({"collate": lambda samples: samples}, "give the collate that the store was made with"),
    "another projection": ({"projection__dim": 2 * DIM}, f"give projection__dim={DIM}"),
}


def test_equal_objects_resume_a_store(result: trak.Store) -> None:
    before = {path: path.read_bytes() for path in result.path.rglob("*") if path.is_file()}
    other = Net()
    attribute(store=result.path, model=other, checkpoints=[weights(0), weights(1)], train=Samples(ROWS, 1))
    assert {path: path.read_bytes() for path in result.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("change", REFUSED)
def test_other_objects_are_refused_by_a_store(result: trak.Store, change: str) -> None:
    changes, says = REFUSED[change]
    with pytest.raises(trak.TrakError) as refused:
        attribute(store=result.path, **changes)
    assert says in str(refused.value)


def test_a_store_of_objects_names_them_as_data(result: trak.Store, project: Project) -> None:
    assert trak.open_store(result.path).config["model"]["kind"] == f"{__name__}.Net"
    with pytest.raises(trak.InputError, match=r"datasets=\{'train': DATA, 'test': DATA\}"):
        trak.open_store(result.path, datasets=True)
    project.done("top", f"store={result.path}")


def test_a_class_of_a_task_is_a_task() -> None:
    from trak_cli.tasks import Classification

    found = attribute(task=Classification, checkpoints=weights(0), targets=[TEST[0]])
    assert found.estimators
    with pytest.raises(trak.ConfigError, match="did you mean task='classification'"):
        attribute(task="clasification")
    with pytest.raises(trak.InputError, match=r"derive its class from trak_cli.tasks.Task"):
        attribute(task=nn.CrossEntropyLoss())


def test_a_checkpoint_of_trak_train_has_blends_only_with_a_function_that_builds_models(project: Project) -> None:
    """Copies of a model have the same weights each time."""
    project.done("train", "train.count=1", "trainer.epochs=1")
    (file,) = (project.store / "checkpoints").iterdir()
    assert len(attribute(checkpoints=file).checkpoints) == 1
    assert len(attribute(model=Net, checkpoints=file).checkpoints) == 5
    masked = attribute(checkpoints=file, ensemble={"members": 2})
    assert [name.partition("+")[2][:4] for name in masked.checkpoints] == ["", "mask", "mask"]
