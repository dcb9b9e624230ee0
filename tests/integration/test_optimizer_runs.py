"""Models trained by Adam, through the command line: gradients in the units of its steps, the same for every worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_project import assert_close, assert_identical, elsewhere, read_store
from tiny_project import ROWS, Project, weights

from trak_cli.store.container import read_image
from trak_cli.store.json_files import read_json
from trak_cli.store.layout import Layout

ADAM = "gradients.optimizer=adam"
TRAINED_BY_ADAM = "trainer._target_=trak_cli.plugins.AdamWTrainer"


def scales(project: Project, letter: str) -> dict[str, np.ndarray[Any, Any]]:
    layout = Layout(project.store)
    name = next(name for name in layout.checkpoints() if name.startswith(letter))
    arrays = read_image(layout.scales(name)).arrays
    return {key.removeprefix("scale."): array for key, array in arrays.items() if key.startswith("scale.")}


def factors(project: Project) -> np.ndarray[Any, Any]:
    """Of every coordinate, in the order of the model, under the first checkpoint."""
    stored, found, row, column = scales(project, "a"), [], 0, 0
    for value in weights(0).values():
        m, n = value.shape[0], value[0].numel()
        found.append(np.outer(stored["rows"][row : row + m], stored["columns"][column : column + n]).ravel())
        row, column = row + m, column + n
    return np.concatenate(found)


def test_features_are_gradients_times_the_stored_scales(project: Project) -> None:
    """Without projection the columns are the coordinates themselves."""
    project.done("featurize", "projection.kind=none", ADAM)
    plain = elsewhere(project, "projection.kind=none")
    expected = factors(project)
    assert expected.std() > 0.1
    for key, found in read_store(project.store).items():
        if key[0].startswith("a"):
            np.testing.assert_allclose(found.features, plain[key].features * expected, rtol=1e-4, atol=1e-6)


def test_scales_are_by_the_second_moments_of_the_training_set(project: Project) -> None:
    """Of a bias, (its moment over the mean moment)^(-1/4), with one sample of the bias's own mean square more."""
    project.done("featurize", "projection.kind=none", ADAM)
    plain = elsewhere(project, "projection.kind=none")
    gradients = next(one.features for key, one in plain.items() if key[0].startswith("a") and key[1] == "train").astype(
        np.float64
    )
    squares = (gradients**2).mean(axis=0)
    bias = squares[-3:]
    expected = ((bias + bias.mean() / ROWS) / squares.mean()) ** -0.25
    np.testing.assert_allclose(factors(project)[-3:], expected, rtol=1e-4)


def test_workers_and_restarts_do_not_change_results(project: Project) -> None:
    project.done("featurize", ADAM, "worker.index=1", "worker.count=3")
    before = scales(project, "a")
    project.done("featurize", ADAM)
    assert all((scales(project, "a")[key] == array).all() for key, array in before.items())
    assert_identical(elsewhere(project, ADAM), read_store(project.store))


@pytest.mark.parametrize("engine", ["hooks", "vmap", "loop"])
def test_engines_differ_by_rounding_only(words: Project, engine: str) -> None:
    """Terms of sums included; and an embedding, of which hooks give single rows."""
    words.done("featurize", ADAM)
    found = elsewhere(words, ADAM, f"gradients.engine={engine}", "gradients.microbatch=5")
    assert_close(found, read_store(words.store), 1e-4)


def test_factored_features_are_scaled_too(words: Project) -> None:
    factored = ("projection.kind=factored", "projection.dim=64", "projection.factors=[4, 4]", ADAM)
    words.done("featurize", *factored)
    assert_close(elsewhere(words, *factored, "gradients.engine=loop"), read_store(words.store), 1e-4)


def test_the_trainer_decides_if_the_config_does_not(project: Project) -> None:
    """AdamW trained it: scaled; unless the config says otherwise."""
    project.done("featurize", TRAINED_BY_ADAM)
    assert_identical(elsewhere(project, ADAM), read_store(project.store))
    project.done("featurize", "store=runs/third", TRAINED_BY_ADAM, "gradients.optimizer=sgd")
    name = Layout(project.folder / "runs" / "third").checkpoints()[0]
    assert "optimizer" not in read_json(Layout(project.folder / "runs" / "third").fingerprint(name))
    assert not Layout(project.folder / "runs" / "third").scales(name).exists()


def test_a_store_of_plain_gradients_refuses_scaled_ones(project: Project) -> None:
    project.done("featurize")
    project.refused(3, "featurize", ADAM, says=("optimizer", "adam"))


def test_another_optimizer_is_refused(project: Project) -> None:
    project.refused(2, "featurize", "gradients.optimizer=lion", says=("gradients.optimizer", "'lion'", "sgd", "adam"))


def test_appended_samples_keep_the_scales(project: Project) -> None:
    project.done("featurize", ADAM)
    before = scales(project, "a")
    project.done("featurize", ADAM, f"dataset.train.rows={ROWS + 5}")
    assert all((scales(project, "a")[key] == array).all() for key, array in before.items())


def test_other_samples_are_refused(project: Project) -> None:
    project.done("featurize", ADAM)
    for shard in project.store.glob("features/*/*/*/*.h5"):
        shard.unlink()
    project.refused(4, "featurize", ADAM, "+dataset.train.edit=0", says=("sample 0 of train",))


def test_doctor_and_the_later_stages_accept_them(project: Project) -> None:
    assert project.done("doctor", ADAM).code == 0
    for stage in ("featurize", "finalize", "score"):
        project.done(stage, ADAM)


def test_representations_have_no_optimizer(project: Project) -> None:
    """A trainer that is Adam does not change what a module gives."""
    chosen = ("gradients.engine=representation", "gradients.module=first", "projection.kind=none")
    project.done("featurize", *chosen, TRAINED_BY_ADAM)
    assert_identical(elsewhere(project, *chosen), read_store(project.store))


def test_scales_of_a_damaged_file_are_refused(project: Project) -> None:
    project.done("featurize", ADAM)
    layout = Layout(project.store)
    path = layout.scales(layout.checkpoints()[0])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    for shard in project.store.glob("features/*/*/*/*.h5"):
        shard.unlink()
    project.refused(3, "featurize", ADAM, says=("scales.h5",))
