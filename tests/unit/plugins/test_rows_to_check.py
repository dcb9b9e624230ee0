"""Data sets suggest the rows that are the most likely to be refused, without reading samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trak_cli.plugins import ImageFile, SampleFile, Table
from trak_cli.plugins.text import CausalTexts, ClassifiedTexts, TokenTargets


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    made.save(str(path))
    return str(path)


def table(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_longest_texts_are_suggested_wherever_they_are(tmp_path: Path, tokenizer: str) -> None:
    rows = [{"text": "a " * (50 if row in (117, 2345) else 5)} for row in range(3000)]
    texts = CausalTexts(table(tmp_path, rows), tokenizer, text="text")
    assert sorted(texts.rows_to_check(2)) == [117, 2345]


def test_rows_without_text_come_first(tmp_path: Path, tokenizer: str) -> None:
    rows: list[dict[str, Any]] = [{"text": "a a a"} for _ in range(500)]
    rows[123] = {"text": None}
    rows[321] = {"text": ""}
    assert sorted(CausalTexts(table(tmp_path, rows), tokenizer, text="text").rows_to_check(2)) == [123, 321]


def test_a_label_that_is_refused_comes_first(tmp_path: Path, tokenizer: str) -> None:
    rows: list[dict[str, Any]] = [{"text": "a a a", "label": row % 2} for row in range(500)]
    rows[77]["label"] = "neutral"
    assert ClassifiedTexts(table(tmp_path, rows), tokenizer).rows_to_check(1) == [77]


def test_targets_of_single_tokens_suggest_those_of_the_longest_texts(tmp_path: Path, tokenizer: str) -> None:
    texts = CausalTexts(table(tmp_path, [{"text": "a " * n} for n in (3, 9, 4)]), tokenizer, text="text")
    targets = TokenTargets(texts)
    (row,) = targets.rows_to_check(1)
    assert len(targets[row]["input_ids"]) == 9


def test_tables_and_files_of_arrays_suggest_the_extreme_labels(tmp_path: Path) -> None:
    labels = np.array([3, 1, 0, 2, 9, 4])
    (tmp_path / "rows.csv").write_text("x,y\n" + "".join(f"0.5,{label}\n" for label in labels))
    np.savez(tmp_path / "rows.npz", x=np.zeros((6, 4, 4), np.uint8), y=labels)
    datasets = [
        Table(str(tmp_path / "rows.csv"), ["x"], "y"),
        SampleFile(str(tmp_path / "rows.npz")),
        ImageFile(str(tmp_path / "rows.npz"), mean=[0.5], std=[0.5]),
    ]
    assert [sorted(data.rows_to_check(8)) for data in datasets] == [[2, 4]] * 3
