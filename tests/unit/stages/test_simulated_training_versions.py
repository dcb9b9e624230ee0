"""A store that an earlier version finalised and scored: its simulated training was another."""

from pathlib import Path

import pytest
from synthetic_store import make_store

from trak_cli.config.estimators import shipped_estimators
from trak_cli.stages.index import fingerprints as identity
from trak_cli.stages.index.fingerprints import scores_fingerprint
from trak_cli.stages.index.inventory import Inventory, take_inventory
from trak_cli.stages.scoring.gram_store import find_gram, write_gram
from trak_cli.stages.scoring.gram_sums import sum_gram
from trak_cli.store.layout import Layout


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return take_inventory(Layout(make_store(tmp_path / "store").root), ["*"])


@pytest.mark.parametrize(("name", "follows"), [("early_training", True), ("trak", False)])
def test_gram_matrices_of_another_simulated_training_are_made_anew_and_scores_are_told_apart(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch, name: str, follows: bool
) -> None:
    spec = shipped_estimators()[name]
    scores = [list(inventory.features.values()), inventory.rows, "test", 1, None]
    with monkeypatch.context() as earlier:
        earlier.setattr(identity, "FLOW_VERSION", 1)
        write_gram(inventory, spec, "c0", sum_gram(inventory, spec, "c0", lambda _: None))
        assert find_gram(inventory, spec, "c0") is not None
        before = scores_fingerprint(spec, *scores)
    assert (find_gram(inventory, spec, "c0") is None) == follows
    assert (scores_fingerprint(spec, *scores) != before) == follows
    write_gram(inventory, spec, "c0", sum_gram(inventory, spec, "c0", lambda _: None))
    assert find_gram(inventory, spec, "c0") is not None
