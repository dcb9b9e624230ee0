"""Language models through the command line: training rows have the features of their terms, and the Gram is over those."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scores_oracle import scores
from small_project import Everything, assert_close, assert_identical, elsewhere, read_store
from tiny_project import Project
from words_project import DIM, ROWS, TARGETS

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.weights import Terms
from trak_cli.config.estimators import shipped_estimators
from trak_cli.gradients.transforms.token_signs import signs_of
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.store.container import read_image
from trak_cli.store.json_files import read_json
from trak_cli.store.layout import Layout
from trak_cli.store.virtual import read_scores
from trak_cli.types import Float64

MEMBERS = shipped_estimators()

OFF = "gradients.terms=false"


def oracle(spec: EstimatorSpec, found: Everything, with_terms: bool = True) -> Float64:
    """The formula on whole matrices."""
    checkpoints = sorted({checkpoint for checkpoint, _ in found})
    train = [found[checkpoint, "train"] for checkpoint in checkpoints]
    targets = [found[checkpoint, "test"].features for checkpoint in checkpoints]
    columns = [[getattr(one, name) for one in train] for name in ("features", "out_to_loss", "outputs")]
    terms = [Terms(one.term_features, one.terms) for one in train] if with_terms else None
    return scores(spec, columns[0], columns[1], targets, columns[2], terms)


def predicted(row: int) -> int:
    """How many tokens of a sample are: all but the first one and what its labels leave out."""
    return 3 + row % 6 - max(1, row % 3)


def test_training_rows_have_terms_and_targets_have_none(featurized_words: Project) -> None:
    for (_, split), found in read_store(featurized_words.store).items():
        if split == "test":
            assert (found.term_features, found.terms) == (None, None)
            continue
        assert found.term_features is not None
        assert found.terms is not None
        assert found.term_features.shape == (ROWS, DIM)
        assert found.terms.tolist() == [predicted(row) for row in range(ROWS)]
        single = found.terms == 1
        np.testing.assert_allclose(np.abs(found.term_features[single]), np.abs(found.features[single]), rtol=1e-4, atol=1e-7)
        assert not np.allclose(np.abs(found.term_features[~single]), np.abs(found.features[~single]), rtol=1e-2)


def test_features_are_gradients_of_signed_sums(words: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without projection the columns are gradients, and may be computed term by term."""
    words.done("featurize", "projection.kind=none")
    monkeypatch.syspath_prepend(words.folder)
    plugin: Any = import_module("words_plugin")
    path = words.folder / "checkpoints" / "a.safetensors"
    model, task = plugin.Net(), plugin.CausalLM()
    model.load_state_dict(load_file(path))
    seed = int.from_bytes(bytes.fromhex(sha256(path))[:8], "little", signed=True)
    parameters = dict(model.named_parameters())
    p = sum(one.numel() for one in parameters.values())
    found = next(one for key, one in read_store(words.store).items() if key[0].startswith("a-") and key[1] == "train")
    for row in (0, 17, ROWS - 1):
        odds, exist = task.log_odds(model, plugin.Collate()([plugin.Data(ROWS, 1)[row]]))
        expected = torch.zeros(p)
        for number, place in enumerate(exist[0].nonzero()[:, 0].tolist(), start=1):
            gradient = torch.autograd.grad(odds[0, place], list(parameters.values()), retain_graph=True)
            sign = int(signs_of(torch.tensor(row), torch.tensor(number), seed))
            expected += sign * torch.cat([one.reshape(-1) for one in gradient])
        assert found.term_features is not None
        np.testing.assert_allclose(found.term_features[row], (expected / p**0.5).numpy(), rtol=1e-3, atol=1e-5)


def test_workers_and_restarts_do_not_change_results(words: Project) -> None:
    """Sentences are computed in the order of their length within a shard, which is the same for all workers."""
    words.done("featurize", "worker.index=1", "worker.count=3")
    words.shard("train", 1).unlink(missing_ok=True)
    words.done("featurize")
    assert_identical(elsewhere(words), read_store(words.store))


@pytest.mark.parametrize("shard_rows", [1, 7, 1000])
def test_shards_change_results_by_rounding_only(featurized_words: Project, shard_rows: int) -> None:
    """Another shard gives a sentence other neighbours, so that it is padded further or less."""
    assert_close(elsewhere(featurized_words, f"features.shard_rows={shard_rows}"), read_store(featurized_words.store), 1e-5)


def test_a_sentence_without_predicted_tokens_is_refused_by_its_row(words: Project) -> None:
    """Whatever its place among sentences of its shard, which are not computed in the order of rows."""
    words.refused(4, "featurize", "+dataset.train.empty=41", says=("sample 41 of train", "no predicted token"))


@pytest.mark.parametrize("engine", ["hooks", "vmap", "loop"])
def test_microbatches_and_engines_differ_by_rounding_only(featurized_words: Project, engine: str) -> None:
    """Also where another microbatch pads the same sentence further."""
    expected = read_store(featurized_words.store)
    assert_close(elsewhere(featurized_words, f"gradients.engine={engine}", "gradients.microbatch=5"), expected, 1e-4)


def test_factored_features_have_terms_too(words: Project) -> None:
    """By factors under hooks, by dense gradients under the loop."""
    factored = ("projection.kind=factored", "projection.dim=64", "projection.factors=[4, 4]")
    words.done("featurize", *factored)
    found = elsewhere(words, *factored, "gradients.engine=loop")
    assert_close(found, read_store(words.store), 1e-4)


def test_derived_members_have_signs_of_their_own(words: Project) -> None:
    found = elsewhere(words, "ensemble.members=1", "ensemble.kind=noise", "ensemble.scale=0.0001", "checkpoints=checkpoints/a*")
    first, second = (one for (_, split), one in found.items() if split == "train")
    assert first.term_features is not None
    assert second.term_features is not None
    np.testing.assert_array_equal(first.terms, second.terms)
    assert np.abs(np.corrcoef(np.abs(first.term_features).ravel(), np.abs(second.term_features).ravel())[0, 1]) < 0.9


def test_gram_matrix_and_scores_are_the_formula(featurized_words: Project) -> None:
    told = featurized_words.done("finalize").stdout
    terms = sum(predicted(row) for row in range(ROWS))
    assert f"over {terms:,} single terms (tokens)" in told
    summary = json.loads(featurized_words.done("finalize", "--json").stdout)
    assert {(gram["rows"], gram["terms"], gram["reused"]) for gram in summary["grams"]} == {(ROWS, terms, True)}
    featurized_words.done("score")
    found, spec = read_store(featurized_words.store), MEMBERS["early_training"]
    given, expected = read_scores(Layout(featurized_words.store).scores("early_training", "test")), oracle(spec, found)
    assert given.shape == (TARGETS, ROWS)
    np.testing.assert_allclose(given, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert not np.allclose(given, oracle(spec, found, with_terms=False), rtol=1e-2)
    (image, _) = [
        read_image(path)
        for path in sorted(
            (featurized_words.store / "finalized" / "early_training-gram_exponent-1-clip_norm-1.5-per_token").glob("*.h5")
        )
    ]
    assert image.arrays["rows"] == ROWS
    assert image.arrays["terms"] == terms


@pytest.mark.parametrize(
    ("estimator", "folder"),
    [
        ("trak", "unweighted"),
        ("balanced", "gram_exponent-1"),
        ("early_training estimator.unit_norm=true estimator.clip_norm=0", "early_training-gram_exponent-1-unit_norm"),
    ],
)
def test_other_estimators_keep_the_gram_matrix_of_whole_samples(featurized_words: Project, estimator: str, folder: str) -> None:
    name, *more = estimator.split()
    for stage in ("finalize", "score"):
        told = featurized_words.done(stage, f"estimator={name}", *more).stdout
        assert "single terms" not in told
    assert (featurized_words.store / "finalized" / folder).is_dir()
    spec = (
        EstimatorSpec("t", gram_exponent=1.0, weights="early_training", unit_norm=True, normalize_targets=True, shrinkage=0.1)
        if more
        else MEMBERS[name]
    )
    expected = oracle(spec, read_store(featurized_words.store))
    given = read_scores(Layout(featurized_words.store).scores(name, "test"))
    np.testing.assert_allclose(given, expected, rtol=0, atol=5e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(expected, oracle(spec, read_store(featurized_words.store), with_terms=False))


def test_without_terms_results_are_those_of_an_ordinary_task(featurized_words: Project) -> None:
    with_terms = read_store(featurized_words.store)
    featurized_words.done("featurize", OFF, "store=runs/off")
    layout = Layout(featurized_words.folder / "runs" / "off")
    without = read_store(layout.root)
    for key, one in without.items():
        assert (one.term_features, one.terms) == (None, None)
        for column in ("features", "out_to_loss", "outputs", "sample_ids"):
            assert getattr(one, column).tobytes() == getattr(with_terms[key], column).tobytes()
    for path in layout.root.glob("features/*/fingerprint.json"):
        stored = read_json(featurized_words.store / path.relative_to(layout.root))
        assert stored.pop("terms") == {"signs": 1}
        assert stored == read_json(path)
    for stage in ("finalize", "score"):
        assert "single terms" not in featurized_words.done(stage, "store=runs/off").stdout
    expected = oracle(MEMBERS["early_training"], without, with_terms=False)
    found = read_scores(layout.scores("early_training", "test"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert (layout.root / "finalized" / "early_training-gram_exponent-1-clip_norm-1.5").is_dir()


def test_a_store_with_terms_and_a_call_without_do_not_fit(featurized_words: Project) -> None:
    featurized_words.refused(3, "featurize", OFF, says=("fingerprint terms", "(absent)"))
    featurized_words.done("featurize", OFF, "store=runs/off")
    featurized_words.refused(3, "featurize", "store=runs/off", says=("fingerprint terms", "signs"))


def test_checkpoints_with_terms_and_without_do_not_belong_together(words: Project) -> None:
    words.done("featurize", OFF, "checkpoints=checkpoints/a*")
    words.done("featurize", "checkpoints=checkpoints/b*")
    words.refused(3, "finalize", says=("features of b-", "terms"))


def test_tune_searches_the_same_gram_matrices(featurized_words: Project) -> None:
    rng = np.random.default_rng(0)
    masks = np.stack([rng.permutation(ROWS) < ROWS // 2 for _ in range(24)])
    outputs = masks.astype(np.float64) @ oracle(MEMBERS["early_training"], read_store(featurized_words.store)).T
    np.savez(featurized_words.folder / "truth.npz", masks=masks, outputs=outputs)
    space = [
        "tune.grid.ridge=[2, null]",
        "tune.grid.gram_exponent=[0, 1]",
        "tune.grid.soft_threshold=[0]",
        "tune.grid.averaging=[kernels]",
    ]
    summary = json.loads(featurized_words.done("tune", "lds.ground_truth=truth.npz", *space, "--json").stdout)
    assert summary["best"][0]["estimator"]["weights"] == "early_training"
    assert summary["best"][0]["searched"] == pytest.approx(1, abs=1e-6)


def test_narrow_features_and_narrow_arithmetic(featurized_words: Project) -> None:
    exact = read_store(featurized_words.store)
    found = elsewhere(featurized_words, "features.dtype=bfloat16", "gradients.autocast=bfloat16")
    for key, one in exact.items():
        if key[1] == "train":
            assert one.term_features is not None
            near = found[key].term_features
            assert near is not None
            assert 1e-4 < np.abs(near - one.term_features).max() / np.abs(one.term_features).max() < 0.05
            np.testing.assert_array_equal(found[key].terms, one.terms)
    path = next((featurized_words.folder / "runs/other/features").glob("*/train/000/00000.h5"))
    assert read_image(path).dtypes["features"] == "bfloat16"


def test_doctor_looks_at_the_terms_and_counts_their_cost(words: Project) -> None:
    whole, off = (json.loads(words.done("doctor", "--json", *more).stdout) for more in ([], [OFF]))
    assert whole["ok"]
    assert "terms" in [check["name"] for check in whole["checks"]]
    assert "terms" not in [check["name"] for check in off["checks"]]
    assert whole["costs"]["features"] - off["costs"]["features"] == 2 * ROWS * (4 * DIM + 4)
    without_filling_up = 2 * (ROWS + TARGETS) / off["costs"]["samples_per_second"]
    assert off["costs"]["seconds"] == pytest.approx(without_filling_up, rel=1e-6)


def test_terms_that_do_not_add_up_are_refused(words: Project) -> None:
    halves = "task={_target_: words_plugin.Halves}"
    words.refused(4, "featurize", halves, says=("task.terms", "gradients.terms=false"))
    outcome = words.trak("doctor", halves, "--json")
    assert [check["name"] for check in json.loads(outcome.stdout)["checks"] if not check["held"]] == ["terms"]
    words.done("featurize", halves, OFF)


def test_missing_terms_are_refused(project: Project) -> None:
    project.refused(2, "featurize", "gradients.terms=true", says=("gradients.terms", "Classification", "define terms"))
    project.refused(2, "featurize", "gradients.terms=maybe", says=("gradients.terms",))
    representation = ("gradients.engine=representation", "gradients.module=first")
    project.refused(2, "featurize", "gradients.terms=true", *representation, says=("gradients.terms", "no gradients"))


def test_a_task_with_terms_has_no_other_classes(words: Project) -> None:
    words.refused(2, "featurize", "gradients.classes=true", says=("gradients.classes", "three classes"))
