"""Errors of commands name arguments of Python."""

from __future__ import annotations

import pytest

from trak_cli.api.wording import as_arguments
from trak_cli.errors import ConfigError, Problem, StoreError


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("give --split test", "give split='test'"),
        ("give -k 3, or keep more", "give k=3, or keep more"),
        ("for example --checkpoint full_0-3f2a9c1e", "for example checkpoint='full_0-3f2a9c1e'"),
        ("leave out --target", "leave out target"),
        ("set score.overwrite=true, or give projection.dim=64", "set score__overwrite=True, or give projection__dim=64"),
        ("give 'dataset.replace=[a, b]' or estimator.name=NAME", "give dataset__replace=['a', 'b'] or estimator__name=NAME"),
        ("did you mean projection.dim?", "did you mean projection__dim?"),
        ("run trak score with this split first", "call trak.attribute, or trak.score, with this split first"),
        ("did you mean task=classification?", "did you mean task='classification'?"),
        ("--leave-one-out FILE, --removal or --flips FILE", "leave_one_out=FILE, removal=True or flips=FILE"),
        ("name the parts: task.inputs=image task.label=label", "name the parts: task__inputs='image', task__label='label'"),
        ("'task.inputs={a: a, b: c}' task.label=y", "task__inputs={'a': 'a', 'b': 'c'}, task__label='y'"),
        ("predict numbers; give task=regression", "predict numbers; give task='regression'"),
        ("give another, or --overwrite", "give another, or overwrite=True"),
        ("give dataset.collate a function that pads", "give collate=FUNCTION that pads"),
        ("choose --split from test", "choose split from test"),
        ("-k with --features", "k with features=True"),
        ("run trak import --file a.npz --name mine", "run trak import --file a.npz --name mine"),
        ("give lds.rows=[1, 2], made by: python -c 'print(-1)'", "give lds__rows=[1, 2], made by: python -c 'print(-1)'"),
        ("see /a.b/c.d=e.pt -- or not, e-mail, 1 -2", "see /a.b/c.d=e.pt -- or not, e-mail, 1 -2"),
    ],
)
def test_options_become_arguments(written: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused, as_arguments():
        raise ConfigError(Problem("--split", "nothing", "a split", written))
    (problem,) = refused.value.problems
    assert (problem.where, problem.remedy) == ("split", expected)


@pytest.mark.parametrize(
    ("place", "expected"),
    [("projection.dims", "projection__dims"), ("a.b/c.pt", "a.b/c.pt"), ("dataset.train", "dataset.train")],
)
def test_the_place_of_a_key_is_an_argument(place: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused, as_arguments():
        raise ConfigError(Problem(place, "nothing", "a value", "correct it"))
    assert refused.value.problems[0].where == expected


def test_the_kind_of_error_stays() -> None:
    with pytest.raises(StoreError), as_arguments():
        raise StoreError(Problem("runs/a", "nothing", "scores", "run trak score"))


def test_an_object_that_differs_from_that_of_the_store_has_no_key_to_give() -> None:
    with pytest.raises(StoreError, match="give the model that the store was made with"), as_arguments():
        raise StoreError(Problem("a.json: fingerprint model.structure", "1", "2", "give model.structure=1"))
