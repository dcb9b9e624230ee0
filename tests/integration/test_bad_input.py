"""Everything that users bring can be wrong. The program then says where, what it found, what it expected and what to do,
leaves with the documented exit code and without a traceback, and changes nothing that was written before."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_project import DIM, ROWS, SHARD_ROWS, TARGETS, Project, weights

from trak_cli.stages.featurizing import units
from trak_cli.store.container import Image, read_image
from trak_cli.store.failures import DamagedError, ForeignError

CONFIG, STORE, INPUT, MACHINE = 2, 3, 4, 5
READERS = ("finalize", "score")


# Damaged shards


@pytest.mark.parametrize("stage", READERS)
def test_truncated_shard_is_refused_by_name(finalized: Project, stage: str) -> None:
    shard = finalized.shard("train", 1)
    os.truncate(shard, shard.stat().st_size - 100)
    if stage == "finalize":
        shutil.rmtree(finalized.store / "finalized")
    finalized.refused(STORE, stage, says=(str(shard.relative_to(finalized.folder)), "cut short", "run the stage again"))


def test_a_damaged_shard_is_set_aside_and_computed_again(featurized: Project) -> None:
    shard = featurized.shard("train", 2)
    whole = read_image(shard)
    others = {path: data for path, data in featurized.files().items() if path != str(shard)}
    raw = bytearray(shard.read_bytes())
    raw[-40] ^= 0x10
    shard.write_bytes(raw)
    outcome = featurized.done("featurize")
    assert "damaged" in outcome.stderr
    assert shard.name in outcome.stderr
    assert shard.with_name(f"{shard.name}.damaged").read_bytes() == raw, "what was there is kept"
    again = read_image(shard)
    assert again.fingerprint == whole.fingerprint
    assert values(again) == values(whole)
    assert others.items() <= featurized.files().items(), "no other shard is touched"


@pytest.mark.parametrize("most", [{"INSPECTED": 2}, {"INSPECTED": 7, "INSPECTED_BYTES": 5}])
def test_of_very_many_stored_shards_only_some_are_read_before_featurize_and_all_of_them_by_finalize(
    featurized: Project, monkeypatch: pytest.MonkeyPatch, most: dict[str, int]
) -> None:
    for name, value in most.items():
        monkeypatch.setattr(units, name, value)  # the first and the last shard
    shards = [featurized.shard("train", index) for index in range(4)]
    spoilt = bytearray(shards[1].read_bytes())
    spoilt[-40] ^= 0x10
    shards[1].write_bytes(spoilt)
    shards[2].unlink()
    shards[3].write_bytes(shards[3].read_bytes()[:700])
    outcome = featurized.done("featurize")
    assert f"{shards[3].name} is damaged" in outcome.stderr, "too small"
    assert shards[1].read_bytes() == spoilt
    assert shards[2].exists()
    featurized.refused(STORE, "finalize", says=(str(shards[1].relative_to(featurized.folder)), "run the stage again"))


def test_a_flipped_byte_is_found_wherever_it_is(featurized: Project, tmp_path: Path) -> None:
    """500 positions over the whole file, both ends included: never other values without an error."""
    shard = featurized.shard()
    raw = shard.read_bytes()
    whole = read_image(shard)
    copy = tmp_path / "flipped.h5"
    found = sum(is_noticed(copy, raw, position, whole) for position in np.linspace(0, len(raw) - 1, 500).astype(int).tolist())
    assert found == 500, "the digest covers every byte"


def is_noticed(copy: Path, raw: bytes, position: int, whole: Image) -> bool:
    """Whether a flipped byte is an error; where it is none, the values must be the same."""
    flipped = bytearray(raw)
    flipped[position] ^= 0xFF
    copy.write_bytes(flipped)
    try:
        image = read_image(copy)
    except (DamagedError, ForeignError):
        return True
    assert image.fingerprint == whole.fingerprint
    assert values(image) == values(whole)
    return False


def values(image: Image) -> dict[str, bytes]:
    """The bytes of every dataset."""
    return {name: array.tobytes() for name, array in image.arrays.items()}


def test_missing_shards_are_named(featurized: Project) -> None:
    shard = featurized.shard("train", 1)
    shard.unlink()
    featurized.refused(
        STORE, "finalize", says=(str(shard.relative_to(featurized.folder)), "1 shard of features", "run trak featurize")
    )


# Shards of something else


@pytest.mark.parametrize("stage", ["featurize", *READERS])
def test_shard_of_another_checkpoint(finalized: Project, stage: str) -> None:
    ours, theirs = finalized.shard("train", 1), finalized.shard("train", 1, checkpoint="b")
    expected, found = (read_image(path).fingerprint["checkpoint"] for path in (ours, theirs))
    shutil.copy(theirs, ours)
    if stage == "finalize":
        shutil.rmtree(finalized.store / "finalized")
    finalized.refused(STORE, stage, says=(f"{ours.relative_to(finalized.folder)}: fingerprint checkpoint", found, expected))


@pytest.mark.parametrize("stage", ["featurize", *READERS])
def test_shard_of_another_projection(finalized: Project, stage: str) -> None:
    finalized.done("featurize", "store=runs/other", "projection.dim=16", "projection.seed=5")
    ours = finalized.shard("test", 0)
    theirs = finalized.folder / "runs/other" / ours.relative_to(finalized.store)
    shutil.copy(theirs, ours)
    ours_too = finalized.shard("train", 0)
    shutil.copy(finalized.folder / "runs/other" / ours_too.relative_to(finalized.store), ours_too)
    if stage == "finalize":
        shutil.rmtree(finalized.store / "finalized")
    message = finalized.refused(
        STORE, stage, says=(f"{ours_too.relative_to(finalized.folder)}: fingerprint projection.dim", "16", str(DIM))
    )
    assert "fingerprint projection.seed" in message, "every differing key is named"
    if stage != "finalize":
        assert str(ours.relative_to(finalized.folder)) in message, "every shard is named"


@pytest.mark.parametrize("stage", ["featurize", *READERS])
def test_shard_of_a_longer_dataset(finalized: Project, stage: str) -> None:
    """Our last shard holds rows 48 to 60; that of a longer dataset 48 to 64."""
    finalized.done("featurize", "store=runs/other", f"dataset.train.rows={ROWS + 20}")
    ours = finalized.shard("train", 3)
    shutil.copy(finalized.folder / "runs/other" / ours.relative_to(finalized.store), ours)
    if stage == "finalize":
        shutil.rmtree(finalized.store / "finalized")
    finalized.refused(STORE, stage, says=(f"{ours.relative_to(finalized.folder)}: rows", "[48, 64)", "[48, 60)"))


# A machine that cannot


def test_full_disk(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after some shards: they stay, the next is named, no half file is left, and it goes on later."""
    write, written = os.write, []

    def until_full(descriptor: int, data: bytes) -> int:
        written.append(len(data))
        if sum(written) > 30_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    with monkeypatch.context() as full:
        full.setattr(os, "write", until_full)
        project.refused(MACHINE, "featurize", says=("ENOSPC", ".h5", "bytes are free", "free some space"))
    kept = project.files()
    assert any(path.endswith("00000.h5") for path in kept)
    project.done("featurize")
    assert kept.items() <= project.files().items()


def test_read_only_folder(featurized: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the system's answer is put in its mouth."""

    def refuse(path: Path, flags: int, *rest: int, real: object = os.open, **named: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest, **named)  # type: ignore[operator]

    monkeypatch.setattr(os, "open", refuse)
    featurized.refused(MACHINE, "finalize", says=("runs/tiny/finalized", "EROFS", "make the folder writable"))


def test_no_such_device(project: Project) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    project.refused(MACHINE, "featurize", "device=cuda:1", says=("device", "0 CUDA devices", "device=cpu"))


# Samples


def test_gradient_that_is_nan(project: Project) -> None:
    project.refused(INPUT, "featurize", "+dataset.train.nan=37", says=("sample 37 of train", "NaN", "finite"))


@pytest.mark.parametrize("stage", ["featurize", "train", "retrain"])
@pytest.mark.parametrize("row", [0, 21])
def test_label_out_of_range(project: Project, stage: str, row: int) -> None:
    """Also in the first rows, which featurize reads before all others."""
    project.refused(INPUT, stage, f"+dataset.train.label={row}", says=(f"sample {row} of train", "label 7", "[0, 3)"))


def test_empty_dataset(project: Project) -> None:
    project.refused(
        INPUT,
        "featurize",
        "dataset.train.rows=0",
        "dataset.targets.test.rows=0",
        says=("dataset.train", "dataset.targets.test", "no sample", "at least one"),
    )


def test_dataset_that_is_random(project: Project) -> None:
    project.refused(
        INPUT, "featurize", "+dataset.train.random=true", says=("sample 0", "different values when it was read again", "random")
    )


def test_model_that_looks_at_the_batch(project: Project) -> None:
    project.refused(INPUT, "featurize", "+model.batch_statistics=true", says=("model", "of train alone", "batch of 7"))


# Datasets that change under a store


def test_dataset_changed_under_the_store(featurized: Project) -> None:
    featurized.refused(
        INPUT,
        "featurize",
        f"+dataset.train.edit={SHARD_ROWS}",
        says=(f"sample {SHARD_ROWS} of train", "different content", "store"),
    )


def test_dataset_shrunk(featurized: Project) -> None:
    featurized.refused(
        STORE, "featurize", "dataset.train.rows=50", says=("split train", "50 rows", f"at least the {ROWS}", "another store")
    )


def test_dataset_grown_keeps_its_shards(featurized: Project) -> None:
    full = featurized.shard("train", 2).read_bytes()
    featurized.done("featurize", "dataset.train.rows=70")
    assert featurized.shard("train", 2).read_bytes() == full
    assert read_image(featurized.shard("train", 3)).arrays["rows"].tolist() == [48, 64]
    assert read_image(featurized.shard("train", 4)).arrays["rows"].tolist() == [64, 70]


def test_other_settings_under_the_same_store(featurized: Project) -> None:
    featurized.refused(
        STORE,
        "featurize",
        "projection.seed=9",
        "features.shard_rows=16",
        says=("fingerprint projection.seed", "9", "store folder"),
    )
    featurized.refused(
        STORE, "featurize", "features.shard_rows=32", says=("features.shard_rows", "32 in the config", "features.shard_rows=16")
    )


# Checkpoints


def test_checkpoint_that_does_not_fit_names_every_key(project: Project) -> None:
    wrong = weights(0)
    del wrong["second.bias"]
    wrong["third.weight"] = torch.zeros(2, 2)
    wrong["first.weight"] = torch.zeros(6, 9)
    save_file(wrong, project.folder / "checkpoints" / "a.safetensors")
    project.refused(
        INPUT,
        "featurize",
        says=(
            "a.safetensors",
            "no second.bias",
            "third.weight (2, 2)",
            "first.weight (6, 9)",
            "first.weight (6, 8)",
            "3 problems",
        ),
    )


def test_checkpoint_with_weights_that_are_not_finite(project: Project) -> None:
    """The file is to blame, not the first sample that it is tried on."""
    broken = weights(1)
    broken["first.bias"][2] = float("nan")
    torch.save(broken, project.folder / "checkpoints" / "b.pt")
    project.refused(INPUT, "featurize", says=("b.pt", "first.bias, of which 1 of 6 numbers are NaN", "finite weights"))


def test_ground_truth_in_a_format_that_is_none(scored: Project) -> None:
    (scored.folder / "truth.csv").write_text("1,2\n")
    scored.refused(INPUT, "eval-lds", "lds.ground_truth=truth.csv", says=("truth.csv", "a file .csv", ".npz", "numpy.savez"))


def test_of_many_problems_the_first_are_listed_and_all_are_counted(project: Project) -> None:
    for number in range(40):
        torch.save(weights(1) | {f"extra.{number:02}": torch.zeros(1)}, project.folder / "checkpoints" / f"b{number:02}.pt")
    told = project.refused(INPUT, "featurize", says=("40 problems", "extra.00", "and 16 more"))
    assert told.count("found:") == 24


def test_second_checkpoint_that_does_not_fit(project: Project) -> None:
    """It is found before the first shard of the first checkpoint is computed."""
    wrong = weights(1)
    del wrong["second.bias"]
    torch.save(wrong, project.folder / "checkpoints" / "b.pt")
    project.refused(INPUT, "featurize", says=("b.pt", "no second.bias"))
    assert not list(project.store.rglob("*.h5"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickle_that_would_run_code_runs_none(project: Project) -> None:
    marker = project.folder / "marker"
    (project.folder / "checkpoints" / "a.safetensors").unlink()
    torch.save({"state_dict": weights(1), "extra": Bomb(marker)}, project.folder / "checkpoints" / "b.pt")
    project.refused(INPUT, "featurize", says=("b.pt", "could run code", "state_dict"))
    (project.folder / "checkpoints" / "b.pt").write_bytes(pickle.dumps(Bomb(marker)))
    project.refused(INPUT, "featurize", says=("b.pt", "state_dict"))
    assert not marker.exists()


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_a_checkpoint_that_was_renamed_does_not_count_twice(finalized: Project) -> None:
    (finalized.folder / "checkpoints" / "b.pt").rename(finalized.folder / "checkpoints" / "renamed.pt")
    finalized.done("featurize")
    for stage in READERS:
        finalized.refused(STORE, stage, says=("features of renamed-", "the weights of b-", "estimator.average_over"))
    (old,) = finalized.store.glob("features/b-*")
    shutil.rmtree(old)
    finalized.done("finalize")
    finalized.done("score")


def test_no_checkpoint_matches(project: Project) -> None:
    project.refused(CONFIG, "featurize", "checkpoints=nowhere/*.pt", says=("checkpoints", "nowhere/*.pt", "matches no file"))


# Configuration


def test_unknown_override_proposes_the_right_key(project: Project) -> None:
    message = project.refused(
        CONFIG, "featurize", "projection.dims=16", "features.dtype=float8", says=("projection.dims", "projection.dim", "float8")
    )
    assert "2 problems" in message
    assert not project.store.exists()


# Gram matrices and scores


@pytest.mark.parametrize("stage", ["finalize", "score"])
def test_singular_gram_without_ridge_proposes_one(project: Project, stage: str) -> None:
    """20 rows cannot span 32 dimensions."""
    few = ("dataset.train.rows=20", "estimator.ridge=0")
    project.done("featurize", few[0], "gradients.classes=false")
    if stage == "score":
        project.done("finalize", few[0])
    message = project.refused(CONFIG, stage, *few, says=("estimator.ridge", "0", "ridge="))
    assert "singular" in message or "rank" in message


@pytest.mark.parametrize("stage", READERS)
def test_gram_of_another_checkpoint(finalized: Project, stage: str) -> None:
    ours, theirs = sorted(finalized.store.glob("finalized/*/*.h5"))
    expected, found = (read_image(path).fingerprint["features"]["checkpoint"] for path in (ours, theirs))
    shutil.copy(theirs, ours)
    where = f"{ours.relative_to(finalized.folder)}: fingerprint features.checkpoint"
    finalized.refused(STORE, stage, says=(where, found, expected))


@pytest.mark.parametrize("stage", READERS)
def test_truncated_gram(finalized: Project, stage: str) -> None:
    gram = next(finalized.store.glob("finalized/*/*.h5"))
    os.truncate(gram, gram.stat().st_size // 2)
    finalized.refused(STORE, stage, says=(str(gram.relative_to(finalized.folder)), "cut short"))


def test_score_without_gram(featurized: Project) -> None:
    featurized.refused(STORE, "score", says=("runs/tiny/finalized", "no Gram matrix", "run trak finalize"))


def test_scores_of_another_ridge_are_kept_unless_overwritten(scored: Project) -> None:
    name = read_name(scored)
    whole = scored.store / "scores" / name / "test.h5"
    scored.refused(
        STORE, "score", "estimator.ridge=3", says=(f"{name}/test.h5", "estimator.ridge", "3", "score.overwrite=true")
    )
    before = whole.read_bytes()
    scored.done("score", "estimator.ridge=3", "score.overwrite=true")
    assert whole.read_bytes() != before
    scored.done("score", "estimator.ridge=3")
    scored.refused(STORE, "score", says=("estimator.ridge", "score.overwrite=true"))


@pytest.mark.parametrize("kept", ["dense", "top_k"])
def test_damaged_scores_are_refused(finalized: Project, kept: str) -> None:
    options = ("score.top_k=3",) if kept == "top_k" else ()
    finalized.done("score", *options)
    scores = finalized.store / "scores" / read_name(finalized)
    block = next((scores / "test").rglob("00001.h5")) if kept == "dense" else next(scores.glob("*.h5"))
    raw = bytearray(block.read_bytes())
    raw[-1] ^= 1
    block.write_bytes(raw)
    finalized.refused(STORE, "score", *options, says=(str(block.relative_to(finalized.folder)), "digest"))


def read_name(project: Project) -> str:
    """The default estimator's name."""
    (folder,) = (project.store / "scores").iterdir()
    return folder.name


# Ground truth


@pytest.mark.parametrize(
    ("masks", "outputs", "says"),
    [
        ((5, ROWS - 1), (5, TARGETS), (f"shape (5, {ROWS - 1})", f"shape (subsets, {ROWS})", "masks")),
        ((5, ROWS), (TARGETS, 5), (f"shape ({TARGETS}, 5)", f"shape (subsets, {TARGETS})", "transpose")),
        ((5, ROWS), (4, TARGETS), ("outputs", "4 rows, while masks has 5", "one row for each subset")),
    ],
)
def test_ground_truth_of_the_wrong_shape(
    scored: Project, masks: tuple[int, int], outputs: tuple[int, int], says: tuple[str, ...]
) -> None:
    generator = np.random.default_rng(0)
    np.savez(scored.folder / "truth.npz", masks=generator.random(masks) < 0.5, outputs=generator.normal(size=outputs))
    scored.refused(INPUT, "eval-lds", "lds.ground_truth=truth.npz", says=("truth.npz", *says))


def test_ground_truth_of_no_shape_at_all(scored: Project) -> None:
    np.savez(scored.folder / "truth.npz", masks=np.array(True), outputs=np.zeros((5, 2, TARGETS)))
    scored.refused(INPUT, "eval-lds", "lds.ground_truth=truth.npz", says=("truth.npz", "masks", "shape ()"))


def test_ground_truth_of_the_right_shape(scored: Project) -> None:
    """The counterpart: what the message asks for is taken."""
    generator = np.random.default_rng(0)
    np.savez(scored.folder / "truth.npz", masks=generator.random((5, ROWS)) < 0.5, outputs=generator.normal(size=(5, TARGETS)))
    scored.done("eval-lds", "lds.ground_truth=truth.npz")


def test_ground_truth_of_several_models_for_each_subset_tells_the_noise_ceiling(scored: Project) -> None:
    generator = np.random.default_rng(0)
    masks, one = generator.random((40, ROWS)) < 0.5, generator.normal(size=(40, 1, TARGETS))
    np.savez(scored.folder / "truth.npz", masks=masks, outputs=one + 0.1 * generator.normal(size=(40, 3, TARGETS)))
    found = json.loads(scored.done("eval-lds", "--json", "lds.ground_truth=truth.npz", "lds.bootstrap=0").stdout)
    assert (found["models"], found["subsets"]) == (3, 40)
    assert 0.95 < found["ceiling"] <= 1
    assert "perfect predictor" in scored.done("eval-lds", "lds.ground_truth=truth.npz", "lds.bootstrap=0").stdout


def test_scores_of_another_tool_of_the_wrong_shape(scored: Project) -> None:
    generator = np.random.default_rng(0)
    np.savez(scored.folder / "truth.npz", masks=generator.random((5, ROWS)) < 0.5, outputs=generator.normal(size=(5, TARGETS)))
    np.save(scored.folder / "theirs.npy", generator.normal(size=(ROWS, TARGETS)))
    options = ("lds.ground_truth=truth.npz", "lds.scores={theirs: theirs.npy}")
    scored.refused(INPUT, "eval-lds", *options, says=("lds.scores.theirs", f"({ROWS}, {TARGETS})", "transpose"))


def test_no_resamples_give_no_intervals(scored: Project) -> None:
    generator = np.random.default_rng(0)
    np.savez(scored.folder / "truth.npz", masks=generator.random((5, ROWS)) < 0.5, outputs=generator.normal(size=(5, TARGETS)))
    scored.done("eval-lds", "lds.ground_truth=truth.npz", "lds.bootstrap=0")
    [one] = json.loads((scored.store / "lds" / "test.json").read_text())["scores"]
    assert (one["lds"]["low"], one["lds"]["high"]) == (None, None)
    assert -1 <= one["lds"]["estimate"] <= 1


# The small documents of a store


def test_changed_run_plan_is_found(featurized: Project) -> None:
    plan = featurized.store / "plan.json"
    plan.write_text(plan.read_text().replace(f'"shard_rows": {SHARD_ROWS}', '"shard_rows": 32'))
    for stage in ("featurize", "finalize"):
        featurized.refused(STORE, stage, says=("runs/tiny/plan.json", "digest"))


@pytest.mark.parametrize("stage", ["featurize", "doctor"])
def test_images_of_another_size_than_in_the_training_are_refused_with_the_key(project: Project, stage: str) -> None:
    image = pytest.importorskip("PIL.Image")
    for split, name in ((split, name) for split in ("train", "test") for name in "ab"):
        (project.folder / split / name).mkdir(parents=True)
        image.new("RGB", (8, 8)).save(project.folder / split / name / "one.png")
    text = (project.folder / "tiny.yaml").read_text()
    text = re.sub(
        r"_target_: tiny_plugin.Data, rows: \d+, seed: 1", "_target_: trak_cli.plugins.ImageFolder, path: train", text
    )
    text = re.sub(r"_target_: tiny_plugin.Data, rows: \d+, seed: 2", "_target_: trak_cli.plugins.ImageFolder, path: test", text)
    (project.folder / "tiny.yaml").write_text(text)
    model = "model={_target_: trak_cli.plugins.MLP, inputs: 192, outputs: 3, hidden: [6]}"
    (project.folder / "checkpoints" / "b.pt").unlink()
    torch.save({"layers.0.weight": torch.zeros(6, 192), "layers.0.bias": torch.zeros(6), "layers.1.weight": torch.zeros(3, 6),
                "layers.1.bias": torch.zeros(3)}, project.folder / "checkpoints" / "a.pt")  # fmt: skip
    (project.folder / "checkpoints" / "a.safetensors").unlink()
    outcome = project.trak(stage, model)
    assert outcome.code == INPUT, outcome.stderr
    shown = " ".join((outcome.stdout + outcome.stderr).split())
    assert "(1, 3, 224, 224)" in shown
    assert "give dataset.train.size=N" in shown
