"""Export and import: every format gives back the scores that were written, and refuses what it cannot read."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import zarr
from exchange_store import Store, random_scores, store_with
from safetensors.numpy import save_file

from trak_cli.cli.app import app
from trak_cli.config.load import load
from trak_cli.errors import ConfigError, InputError, MachineError, StoreError, TrakError
from trak_cli.results.exchange.registry import FORMATS
from trak_cli.results.top import top
from trak_cli.types import Silent

ROOT = Path(__file__).parents[3]
WRITTEN = [name for name, one in FORMATS.items() if one.writes]
SHAPES = [(1, 1), (7, 13), (3, 1500)]


def output_of(folder: Path, name: str) -> Path:
    suffixes = FORMATS[name].suffixes
    return folder / f"exported{suffixes[0] if suffixes else ''}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_with(tmp_path / "store", random_scores(7, 13))


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scores_are_the_same_bits_after_export_and_import(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    scores = random_scores(*shape)
    out = output_of(tmp_path, name)
    summary = store_with(tmp_path / "store", scores).exported(out, format=name)
    assert summary.shape == shape
    copy = Store(tmp_path / "copy")
    copy.imported(out, format=name, split="test")
    np.testing.assert_array_equal(copy.scores(), scores)
    assert not [file for file in tmp_path.rglob(".*") if file.name != ".zattrs"], "temporary files are removed"


@pytest.mark.parametrize("name", ["csv", "parquet", "npz", "zarr"])
def test_the_rows_of_chosen_targets_are_kept(tmp_path: Path, name: str) -> None:
    scores = random_scores(3, 5)
    np.savez(tmp_path / "some.npz", scores=scores, targets=[7, 2, 4])
    store = store_with(tmp_path / "store", random_scores(9, 5))
    store.imported(tmp_path / "some.npz", "some")
    out = output_of(tmp_path, name)
    store.exported(out, "some", format=name)
    store.imported(out, "again", format=name)
    loaded = load("top", None, None, [f"store={store.root}", "estimator.name=again"])
    (target,) = top(loaded, Silent(), split=None, targets=[2], k=1).targets
    assert target.helpful[0].row == scores[1].argmax()


def test_the_highest_and_lowest_scores_are_lines_of_a_csv(store: Store, tmp_path: Path) -> None:
    store.exported(tmp_path / "top.csv", k=2)
    lines = (tmp_path / "top.csv").read_text().splitlines()
    assert lines[0] == "target,row,score"
    order = np.argsort(-store.scores()[0])
    assert [int(line.split(",")[1]) for line in lines[1:5]] == [order[0], order[1], order[-2], order[-1]]
    assert len(lines) == 1 + 7 * 4
    with pytest.raises(InputError, match="7 targets and 13 training rows"):
        store.imported(tmp_path / "top.csv", "again")


def test_more_extremes_than_rows_are_every_score_once(store: Store, tmp_path: Path) -> None:
    store.exported(tmp_path / "top.csv", k=10)
    store.imported(tmp_path / "top.csv", "again")
    np.testing.assert_array_equal(store.scores("again"), store.scores())


@pytest.mark.parametrize("name", ["csv", "quanda"])
def test_an_existing_output_stays_without_overwrite(store: Store, tmp_path: Path, name: str) -> None:
    out = output_of(tmp_path, name)
    store.exported(out, format=name)
    with pytest.raises(ConfigError, match="exists"):
        store.exported(out, format=name)
    store.exported(out, format=name, overwrite=True)
    store.imported(out, "again", format=name)
    np.testing.assert_array_equal(store.scores("again"), store.scores())


@pytest.mark.parametrize("name", ["csv", "quanda"])
def test_an_export_that_is_not_on_the_disk_is_an_error(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    out = output_of(tmp_path, name)
    with pytest.raises(MachineError, match="ENOSPC"):
        store.exported(out, format=name)
    assert not out.exists()


def test_a_disk_without_hard_links_takes_an_export(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    store.exported(tmp_path / "scores.csv")
    store.imported(tmp_path / "scores.csv", "again")
    np.testing.assert_array_equal(store.scores("again"), store.scores())


def test_a_folder_with_other_files_is_never_replaced(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"thesis\.txt"):
        store.exported(tmp_path / "mine", format="bergson", overwrite=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "dattri", "k": 3}, "csv, parquet"),
        ({"format": "bergson", "features": True}, "parquet, npz, zarr"),
        ({"format": "traker"}, "bergson"),
        ({}, "one of: csv"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(store: Store, tmp_path: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        store.exported(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


# Files of other programs as they come


def test_a_negated_score_means_the_opposite(store: Store, tmp_path: Path) -> None:
    np.save(tmp_path / "loss.npy", store.scores())
    store.imported(tmp_path / "loss.npy", "turned", negate=True)
    np.testing.assert_array_equal(store.scores("turned"), -store.scores())


def test_one_row_of_scores_is_of_a_group(store: Store, tmp_path: Path) -> None:
    (tmp_path / "flat.json").write_text(json.dumps(list(range(13))))
    with pytest.raises(InputError, match="--group"):
        store.imported(tmp_path / "flat.json", "flat")
    store.imported(tmp_path / "flat.json", "flat", group=True)
    summary = top(
        load("top", None, None, [f"store={store.root}", "estimator.name=flat"]), Silent(), split=None, targets=[], k=1
    )
    assert summary.group == list(range(7))
    assert summary.targets[0].helpful[0].row == 12


def test_other_scores_of_the_same_name_are_not_replaced(store: Store, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", random_scores(7, 13, seed=1))
    with pytest.raises(StoreError, match="--overwrite"):
        store.imported(tmp_path / "other.npy")
    store.imported(tmp_path / "other.npy", overwrite=True)
    np.testing.assert_array_equal(store.scores(), random_scores(7, 13, seed=1))


def bergson_folder(folder: Path, scores: np.ndarray, kind: str, *, written: bool = True) -> None:
    """A folder as bergson writes it, of scores (rows, queries)."""
    folder.mkdir()
    size = 2 if kind == "bfloat16" else np.dtype(kind).itemsize
    pair = 1 << size.bit_length()
    count = scores.shape[1]
    names = [f"{name}_{i}" for i in range(count) for name in ("score", "written")]
    offsets = [offset for i in range(count) for offset in (pair * i, pair * i + size)]
    itemsize = -(-pair * count // 8) * 8
    layout = {"names": names, "formats": [kind, "bool"] * count, "offsets": offsets, "itemsize": itemsize}
    plain = np.dtype({**layout, "formats": ["<u2" if kind == "bfloat16" else kind, "?"] * count})
    records = np.zeros(len(scores), plain)
    for i in range(count):
        column = scores[:, i]
        records[f"score_{i}"] = (column.astype(np.float32).view(np.uint32) >> 16) if kind == "bfloat16" else column
        records[f"written_{i}"] = written
    records.tofile(folder / "scores.bin")
    info = {"num_items": len(scores), "num_rows": len(scores), "num_scores": count, "attribute_tokens": False, "dtype": layout}
    (folder / "info.json").write_text(json.dumps(info))


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("higher_is_better", [True, False, None])
def test_a_score_folder_of_bergson_in_any_dtype_and_sign(tmp_path: Path, kind: str, higher_is_better: bool | None) -> None:
    scores = np.random.default_rng(0).integers(-8, 8, (11, 3)).astype(np.float32) / 4
    bergson_folder(tmp_path / "theirs", scores, kind)
    if higher_is_better is not None:
        config = {"steps": [{"score": {"score_cfg": {"higher_is_better": higher_is_better}}}]}
        (tmp_path / "theirs" / "config.yaml").write_text(json.dumps(config))
    store = Store(tmp_path / "store")
    summary = store.imported(tmp_path / "theirs", split="test")
    np.testing.assert_array_equal(store.scores(), -scores.T if higher_is_better is False else scores.T)
    assert bool(summary.notes) == (higher_is_better is None), "an assumed sign is reported"


def test_scores_of_tokens_are_added_up(tmp_path: Path) -> None:
    tokens = np.arange(12, dtype=np.float32).reshape(6, 2)
    bergson_folder(tmp_path / "theirs", tokens, "float32")
    info = json.loads((tmp_path / "theirs" / "info.json").read_text()) | {"attribute_tokens": True, "num_items": 4}
    (tmp_path / "theirs" / "info.json").write_text(json.dumps(info))
    np.save(tmp_path / "theirs" / "offsets.npy", np.array([0, 2, 2, 3, 6]))
    store = Store(tmp_path / "store")
    store.imported(tmp_path / "theirs", split="test")
    expected = [tokens[:2].sum(0), [0, 0], tokens[2], tokens[3:].sum(0)]
    np.testing.assert_array_equal(store.scores(), np.array(expected).T)


def test_unfinished_scores_of_bergson_are_refused(tmp_path: Path) -> None:
    bergson_folder(tmp_path / "theirs", np.ones((4, 2)), "float32", written=False)
    with pytest.raises(InputError, match="unwritten scores of query 0"):
        Store(tmp_path / "store").imported(tmp_path / "theirs", split="test")
    assert not (tmp_path / "store" / "splits").exists(), "the store learns nothing from a refused file"


def traker_folder(folder: Path, scores: np.ndarray, finalized: int = 1) -> None:
    """A save directory of traker 0.3, with scores (n, targets) of the experiment ``quick``."""
    (folder / "scores").mkdir(parents=True)
    np.save(folder / "scores" / "quick.npy", scores)
    (folder / "scores" / "quick.npy").rename(folder / "scores" / "quick.mmap")
    entry = {"num_targets": scores.shape[1], "scores_path": "/elsewhere/quick.mmap", "scores_finalized": finalized}
    (folder / "experiments.json").write_text(json.dumps({"quick": entry}))
    (folder / "metadata.json").write_text(json.dumps({"JL dimension": 8, "train set size": len(scores)}))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_save_directory_of_traker(tmp_path: Path, dtype: type) -> None:
    scores = np.random.default_rng(0).standard_normal((10, 4)).astype(dtype)
    traker_folder(tmp_path / "_trak", scores)
    store = Store(tmp_path / "store")
    store.imported(tmp_path / "_trak", split="test")
    np.testing.assert_array_equal(store.scores(), scores.T.astype(np.float32))
    with pytest.raises(ConfigError, match="quick"):
        store.imported(tmp_path / "_trak", "other", experiment="slow")


def test_unfinished_scores_of_traker_are_refused(tmp_path: Path) -> None:
    traker_folder(tmp_path / "_trak", np.zeros((10, 4), np.float32), finalized=0)
    with pytest.raises(InputError, match="finalize_scores"):
        Store(tmp_path / "store").imported(tmp_path / "_trak", split="test")


class Harmful:
    """An object whose pickle runs code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path("/nowhere").touch, ())


BROKEN: dict[str, tuple[str, bytes | None]] = {
    "csv": ("a.csv", b"target,row\n1,2\n"),
    "csv-text": ("b.csv", b"target,row,score\n1,2,high\n"),
    "csv-twice": ("c.csv", b"target,row,score\n0,0,1\n0,0,2\n0,1,1\n1,1,1\n"),
    "csv-negative": ("d.csv", b"target,row,score\n-1,0,1\n"),
    "csv-empty": ("e.csv", b"target,row,score\n"),
    "parquet": ("a.parquet", b"PAR1 and nothing else"),
    "npz": ("a.npz", b"PK no archive"),
    "npy": ("a.npy", b"\x93NUMPY"),
    "json": ("a.json", b"[[1, 2], [3]]"),
    "json-text": ("b.json", b'[["a", "b"]]'),
    "json-cut": ("c.json", b"[[1, 2], [3"),
    "json-object": ("d.json", b'{"scores": [1]}'),
    "json-more": ("e.json", b"[[1, 2]] [[3, 4]]"),
    "json-nan": ("f.json", b"[[1, NaN]]"),
    "pt": ("a.pt", b"no tensor"),
    "pt-pickle": ("b.pt", None),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_damaged_or_of_another_form_is_refused(tmp_path: Path, kind: str) -> None:
    name, content = BROKEN[kind]
    if content is None:
        torch.save({"scores": Harmful()}, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TrakError) as error:
        Store(tmp_path / "store").imported(tmp_path / name, split="test")
    assert error.value.exit_code == InputError.exit_code
    assert not (tmp_path / "store" / "scores").exists()


@pytest.mark.parametrize(
    ("shape", "says"), [((13, 7), "transpose"), ((7, 12), "same training set"), ((6, 13), "of the 7 rows of test")]
)
def test_scores_of_other_samples_are_refused(store: Store, tmp_path: Path, shape: tuple[int, int], says: str) -> None:
    np.save(tmp_path / "other.npy", random_scores(*shape))
    with pytest.raises(InputError, match=says):
        store.imported(tmp_path / "other.npy", "other")


@pytest.mark.parametrize("suffix", [".npz", ".zarr", ".safetensors"])
@pytest.mark.parametrize("targets", [[0.0, 1.5, 2.0], [0, 1], [[0, 1, 2]]], ids=["fractions", "too few", "a matrix"])
def test_targets_that_are_not_one_row_number_for_each_are_refused(tmp_path: Path, suffix: str, targets: list[object]) -> None:
    arrays = {"scores": random_scores(3, 5), "targets": np.array(targets)}
    path = tmp_path / f"theirs{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == ".safetensors":
        save_file(arrays, path)
    else:
        group = zarr.create_group(store=str(path), zarr_format=3)
        for name, array in arrays.items():
            group.create_array(name, data=array)
    with pytest.raises(InputError, match="3 row numbers"):
        Store(tmp_path / "store").imported(path, split="test")


def test_a_single_number_with_targets_is_no_matrix_of_scores(tmp_path: Path) -> None:
    np.savez(tmp_path / "theirs.npz", scores=np.float32(1), targets=[0])
    with pytest.raises(InputError, match="two dimensions"):
        Store(tmp_path / "store").imported(tmp_path / "theirs.npz", split="test")


# Ground truths


def test_random_subsets_of_dattri_become_masks(store: Store, tmp_path: Path) -> None:
    values, subsets = torch.randn(5, 7), torch.stack([torch.randperm(13)[:6] for _ in range(5)])
    torch.save((values, subsets), tmp_path / "lds.pt")
    with np.load(store.imported(tmp_path / "lds.pt", "theirs", ground_truth=True).path) as truth:
        np.testing.assert_array_equal(truth["outputs"], values.numpy())
        assert [np.flatnonzero(mask).tolist() for mask in truth["masks"]] == subsets.sort().values.tolist()


def test_a_row_left_out_by_dattri_is_the_only_one_outside_its_mask(store: Store, tmp_path: Path) -> None:
    torch.save((torch.randn(3, 7), torch.tensor([4.0, 0.0, 12.0])), tmp_path / "loo.pt")
    with np.load(store.imported(tmp_path / "loo.pt", "theirs", ground_truth=True).path) as truth:
        assert [np.flatnonzero(~mask).tolist() for mask in truth["masks"]] == [[4], [0], [12]]


def test_masks_and_margins_of_the_examples_of_traker(store: Store, tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((4, 13)) < 0.5
    np.save(tmp_path / "mask.npy", masks)
    np.save(tmp_path / "val_margins.npy", np.ones((4, 7)))
    summary = store.imported(tmp_path, "theirs", ground_truth=True, negate=True)
    with np.load(summary.path) as truth:
        np.testing.assert_array_equal(truth["masks"], masks)
        assert (truth["outputs"] == -1).all()


@pytest.mark.parametrize(("command", "names"), [("export", WRITTEN), ("import", list(FORMATS))])
def test_the_help_names_every_format(command: str, names: list[str]) -> None:
    options = typer.main.get_command(app).commands[command].params
    (shown,) = [option.help for option in options if option.name == "format"]
    assert [name for name in names if name not in shown] == []


def test_the_documentation_has_the_orientation_and_sign_of_every_format() -> None:
    page = (ROOT / "docs" / "exchange.md").read_text()
    assert [name for name in FORMATS if f"| `{name}` |" not in page] == []
