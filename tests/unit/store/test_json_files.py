"""Fingerprints, small JSON documents, names and paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_cli.errors import ConfigError, MachineError
from trak_cli.store.failures import DamagedError, ForeignError, MissingError
from trak_cli.store.fingerprint import differences, digest, require_same
from trak_cli.store.json_files import read_json, replace_json, write_json_once
from trak_cli.store.layout import Layout, check_name

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.text().filter(lambda key: key != "sha256"), _JSON, max_size=4)


@settings(deadline=None, max_examples=50)
@given(_OBJECTS, _OBJECTS)
def test_digests_are_equal_exactly_when_nothing_differs(a: dict, b: dict) -> None:
    assert (digest(a) == digest(b)) == (differences(a, b) == [])
    assert differences(a, json.loads(json.dumps(a))) == []
    assert sorted(key for key, _, _ in differences(a, b)) == sorted(key for key, _, _ in differences(b, a))


def test_differences_are_named_with_both_values() -> None:
    found = {"projection": {"seed": 0, "dim": 16, "old": 1}, "same": [1, {"a": 2}], "version": 1}
    expected = {"projection": {"seed": 1, "dim": 16}, "same": [1, {"a": 2}], "version": 1.0, "task": {"name": "x"}}
    assert differences(found, expected) == [
        ("projection.old", 1, "(absent)"),
        ("projection.seed", 0, 1),
        ("task", "(absent)", {"name": "x"}),
        ("version", 1, 1.0),
    ]


def test_true_is_not_the_number_one() -> None:
    assert differences({"a": True}, {"a": 1}) == [("a", True, 1)]


def test_require_same_reports_every_key() -> None:
    require_same(Path("x.h5"), {"a": [1, 2]}, {"a": (1, 2)})
    with pytest.raises(ForeignError) as caught:
        require_same(Path("x.h5"), {"a": 1, "b": "old", "c": 0}, {"a": 2, "b": "new", "c": 0})
    assert [(problem.where, problem.found, problem.expected) for problem in caught.value.problems] == [
        ("x.h5: fingerprint a", "1", "2"),
        ("x.h5: fingerprint b", '"old"', '"new"'),
    ]


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(ForeignError) as caught:
        require_same(Path("x.h5"), {"a": "x" * 10_000}, {"a": "y"})
    assert len(str(caught.value)) < 500


def test_a_document_reads_back_and_the_first_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "plan.json"
    assert write_json_once(path, {"engine": "vmap", "microbatch": 32, "é": [None, 1.5]})
    assert not write_json_once(path, {"engine": "loop"})
    assert read_json(path) == {"engine": "vmap", "microbatch": 32, "é": [None, 1.5]}
    replace_json(path, {"engine": "loop"})
    assert read_json(path) == {"engine": "loop"}
    assert [entry.name for entry in path.parent.iterdir()] == ["plan.json"]


def test_any_flipped_byte_of_a_document_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    document = {"engine": "vmap", "rows": [0, 10], "on": True, "ratio": 0.5}
    write_json_once(path, document)
    whole = path.read_bytes()
    found = 0
    for position in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
            try:
                assert digest(read_json(path)) == digest(document)
            except DamagedError:
                found += 1
    assert found > 7 * len(whole)


@pytest.mark.parametrize("raw", [b"", b"[1]", b'{"a": 1}', b"\xff", b'{"a": NaN, "sha256": ""}', b'{"a":' * 30_000])
def test_a_file_that_is_not_a_document_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.json").write_bytes(raw)
    with pytest.raises(DamagedError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_documents_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        read_json(tmp_path / "x.json")
    with pytest.raises(MachineError, match="EISDIR"):
        read_json(tmp_path)
    with pytest.raises(ValueError, match="sha256"):
        write_json_once(tmp_path / "x.json", {"sha256": ""})
    (tmp_path / "file").touch()
    with pytest.raises(MachineError):
        write_json_once(tmp_path / "file" / "x.json", {})


def test_every_path_of_a_store() -> None:
    layout = Layout(Path("runs/digits"))
    paths = {
        layout.config: "config.yaml",
        layout.plan: "plan.json",
        layout.trained: "checkpoints",
        layout.split("test"): "splits/test.json",
        layout.fingerprint("m0"): "features/m0/fingerprint.json",
        layout.features("m0", "train", 3): "features/m0/train/000/00003.h5",
        layout.features("m0", "train", 999): "features/m0/train/000/00999.h5",
        layout.features("m0", "train", 1000): "features/m0/train/001/01000.h5",
        layout.features("m0", "train", 123456): "features/m0/train/123/123456.h5",
        layout.finalized("gram", "m0"): "finalized/gram/m0.h5",
        layout.scores_shard("trak", "test", 1, 2): "scores/trak/test/0001/000/00002.h5",
        layout.scores("trak", "test.v2"): "scores/trak/test.v2.h5",
        layout.scores_top("trak", "test.v2"): "scores/trak/test.v2.topk.h5",
        layout.retrained(7): "lds/retrained/00007.h5",
        layout.lds_report("test"): "lds/test.json",
        layout.lds_plot("test"): "lds/test.png",
    }
    assert {str(path.relative_to("runs/digits")): expected for path, expected in paths.items()} == {
        expected: expected for expected in paths.values()
    }


def test_the_contents_of_a_store_are_listed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert (layout.checkpoints(), layout.estimators(), layout.grams(), layout.retrained_subsets()) == ([], [], [], [])
    files = [
        *(layout.features(name, split, shard) for name in "ba" for split in ("train", "test") for shard in (10, 2)),
        layout.features("a", "train", 999),
        layout.features("a", "train", 123456),
        layout.finalized("gram", "a"),
        layout.scores_shard("trak", "test", 1, 0),
        layout.scores_shard("trak", "test", 0, 1),
        layout.scores("trak", "test"),
        layout.scores_top("trak", "test"),
        layout.scores_top("trak", "one.png-like"),
        layout.retrained(3),
        layout.split("test"),
        layout.fingerprint("a"),
        tmp_path / "features" / ".DS_Store",
        *(
            layout.features("a", "train", 0).with_name(name)
            for name in ("00003.h5.damaged", ".00000.h5.host.1.0123456789abcdef.tmp", "notes.txt", "copy of 1.h5", "01000.h5")
        ),
        layout.features_folder("a", "train") / "00004.h5",
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    layout.scores_shard("trak", "test", 0, 1).write_bytes(b"12345")
    assert layout.checkpoints() == ["a", "b"]
    assert layout.splits("a") == ["test", "train"]
    assert layout.shards("a", "train") == [2, 10, 999, 123456]
    assert layout.feature_sizes("a", "train") == dict.fromkeys([2, 10, 999, 123456], 0)
    assert layout.shards("c", "train") == []
    assert (layout.grams(), layout.finalized_checkpoints("gram")) == (["gram"], ["a"])
    assert (layout.estimators(), layout.scored_splits("trak")) == (["trak"], ["one.png-like", "test"])
    assert (layout.score_blocks("trak", "test"), layout.score_shards("trak", "test", 0)) == ([0, 1], [1])
    assert layout.score_sizes("trak", "test", 0) == {1: 5}
    assert (layout.retrained_subsets(), layout.described_splits()) == ([3], ["test"])


@pytest.mark.parametrize("name", ["train", "epoch=10,acc=97.5%", "модель 1", "a..b", "x" * 120])
def test_names_that_a_file_can_have(name: str) -> None:
    assert check_name(name, "split") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "/etc", "a\\b", "a\0b", "a\nb", " a", "a.h5", "a.topk", "x" * 121]
)
def test_names_that_would_leave_the_folder_or_clash(name: str) -> None:
    with pytest.raises(ConfigError, match="checkpoint name"):
        check_name(name, "checkpoint")
    with pytest.raises(ConfigError):
        Layout(Path("x")).features(name, "train", 0)
    with pytest.raises(ConfigError):
        Layout(Path("x")).scores("trak", name)
