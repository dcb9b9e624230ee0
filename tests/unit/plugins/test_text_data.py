"""Datasets of text: what a sample is, for each kind of file and each kind of model, and which rows are refused by number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trak_cli.errors import ConfigError, InputError
from trak_cli.plugins.samples import sample_id
from trak_cli.plugins.text import CausalTexts, ClassifiedTexts, MaskedTexts, Padding, SourceTarget
from trak_cli.plugins.text.tokenizer import load_tokenizer

pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "sat", "ran", "on", "the", "mat"]
ROWS = [
    {"text": "a cat sat", "label": 1, "prompt": "a cat", "completion": "sat on"},
    {"text": "the dog ran on the mat", "label": 0, "prompt": "the dog ran", "completion": "the mat"},
    {"text": "dog", "label": 2, "prompt": "dog", "completion": "sat"},
]


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer.json that knows a few words and puts nothing around a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    made.save(str(path))
    return str(path)


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that save_pretrained wrote: [CLS] text [SEP] pair [SEP], and token types."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "mask_token": "[MASK]", "sep_token": "[SEP]", "cls_token": "[CLS]"}
    folder = tmp_path_factory.mktemp("bert")
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=8, model_input_names=inputs, **names).save_pretrained(
        folder
    )
    return str(folder)


def written(folder: Path, suffix: str) -> str:
    """The rows as a file (or data set folder) of each kind."""
    path = folder / f"rows{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    elif suffix in (".csv", ".tsv"):
        import csv

        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(ROWS[0]), delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    elif suffix == ".parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(ROWS), path)
    else:
        pytest.importorskip("datasets").Dataset.from_list(ROWS).save_to_disk(str(path))
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet", ""])
def test_every_kind_of_file_gives_the_same_samples(suffix: str, tmp_path: Path, tokenizer: str) -> None:
    data = ClassifiedTexts(written(tmp_path, suffix), tokenizer)
    assert len(data) == 3
    assert [data[i]["input_ids"].tolist() for i in range(3)] == [ids(row["text"]) for row in ROWS]
    assert [int(data[i]["labels"]) for i in range(3)] == [1, 0, 2]
    assert data.describe(0) == {"text": "a cat sat", "label": ROWS[0]["label"] if suffix not in (".csv", ".tsv") else "1"}
    with pytest.raises(IndexError):
        data[3]


def test_a_split_of_a_data_set_is_chosen_by_name(tmp_path: Path, tokenizer: str) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": whole, "test": whole.select([2])}).save_to_disk(str(tmp_path / "both"))
    assert len(ClassifiedTexts(str(tmp_path / "both"), tokenizer, split="test")) == 1
    with pytest.raises(ConfigError, match="one of train, test"):
        ClassifiedTexts(str(tmp_path / "both"), tokenizer)


def test_pairs_special_tokens_and_token_types_are_those_of_the_tokenizer(tmp_path: Path, bert_folder: str) -> None:
    data = ClassifiedTexts(written(tmp_path, ".jsonl"), bert_folder, text="prompt", pair="completion")
    assert data[0]["input_ids"].tolist() == ids("[CLS] a cat [SEP] sat on [SEP]")
    assert data[0]["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert len(data[1]["input_ids"]) == 8  # of 9: the tokenizer's own limit
    assert ClassifiedTexts(written(tmp_path, ".jsonl"), bert_folder, max_length=4)[1]["input_ids"].tolist() == ids(
        "[CLS] the dog [SEP]"
    )


def test_classes_may_have_names(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "named.jsonl"
    path.write_text('{"text": "a", "label": "good"}\n{"text": "a", "label": "bad"}\n{"text": "a", "label": "odd"}\n')
    data = ClassifiedTexts(str(path), tokenizer, classes=["bad", "good"])
    assert [int(data[i]["labels"]) for i in range(2)] == [1, 0]
    with pytest.raises(InputError, match=r"row 2 of .*'odd'.*one of bad, good"):
        data[2]
    with pytest.raises(InputError, match=r"row 0 of .*a whole number.*classes"):
        ClassifiedTexts(str(path), tokenizer)[0]


def test_only_the_completion_is_predicted(tmp_path: Path, tokenizer: str) -> None:
    path = written(tmp_path, ".jsonl")
    sample = CausalTexts(path, tokenizer, prompt="prompt", completion="completion")[1]
    assert sample["input_ids"].tolist() == ids("the dog ran the mat")
    assert sample["labels"].tolist() == [-100] * 3 + ids("the mat")
    whole = CausalTexts(path, tokenizer, text="text", end=True, max_length=5)[0]
    assert whole["input_ids"].tolist() == whole["labels"].tolist() == ids("a cat sat [SEP]")
    cut = CausalTexts(path, tokenizer, prompt="prompt", completion="completion", max_length=3)[1]
    assert cut["labels"].tolist() == [-100] * 3  # the task refuses it


def test_the_end_of_a_prompt_is_not_the_end_of_the_text(tmp_path: Path, bert_folder: str) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "with_end"
    made = AutoTokenizer.from_pretrained(bert_folder)
    made.add_special_tokens({"eos_token": "[SEP]"})
    made.save_pretrained(folder)
    sample = CausalTexts(written(tmp_path, ".jsonl"), str(folder), prompt="prompt", completion="completion", end=True)[0]
    assert sample["input_ids"].tolist() == ids("[CLS] a cat sat on [SEP]")
    assert sample["labels"].tolist() == [-100] * 3 + ids("sat on [SEP]")


def test_source_and_target(tmp_path: Path, tokenizer: str) -> None:
    data = SourceTarget(written(tmp_path, ".jsonl"), tokenizer, source="prompt", target="completion", max_target_length=2)
    assert {key: value.tolist() for key, value in data[1].items()} == {
        "input_ids": ids("the dog ran"),
        "attention_mask": [1, 1, 1],
        "labels": ids("the mat"),
    }


def test_masks_depend_on_the_sample_and_the_seed_only(tmp_path: Path, bert_folder: str) -> None:
    path = written(tmp_path, ".jsonl")
    data = MaskedTexts(path, bert_folder, share=0.3)
    for i in range(3):
        sample, full = data[i], data.tokenizer(ROWS[i]["text"], truncation=True, max_length=8)["input_ids"]
        masked = sample["labels"] != -100
        assert int(masked.sum()) == max(1, round(0.3 * (len(full) - 2)))
        assert sample["input_ids"].where(~masked, sample["labels"]).tolist() == full
        assert set(sample["input_ids"][masked].tolist()) == {WORDS.index("[MASK]")}
        assert not masked[0]
        assert not masked[-1]
        assert sample_id(sample) == sample_id(MaskedTexts(path, bert_folder, share=0.3)[i])
    others = {sample_id(MaskedTexts(path, bert_folder, share=0.3, seed=seed)[1]) for seed in range(5)}
    assert len(others) > 1


def test_batches_are_as_long_as_their_longest_sample(tmp_path: Path, bert_folder: str) -> None:
    data = CausalTexts(written(tmp_path, ".jsonl"), bert_folder, text="text")
    batch = Padding(bert_folder)([data[2], data[0]])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert batch["input_ids"].tolist() == [[*ids("[CLS] dog [SEP]"), 0, 0], ids("[CLS] a cat sat [SEP]")]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch["labels"].tolist() == [[*ids("[CLS] dog [SEP]"), -100, -100], ids("[CLS] a cat sat [SEP]")]
    classes = ClassifiedTexts(written(tmp_path, ".jsonl"), bert_folder)
    assert Padding(bert_folder)([classes[0], classes[1]])["labels"].tolist() == [1, 0]
    with pytest.raises(InputError, match=r"dataset\.collate"):
        Padding(bert_folder)([data[0], classes[0]])


BAD_FILES: dict[str, tuple[str, str, str]] = {
    "a similar column": (
        "x.jsonl",
        '{"txt": "a", "label": 1}',
        r"line 1: found the columns txt, label; .*a column text.*mean txt",
    ),
    "no such column": ("x.jsonl", '{"words": "a", "label": 1}', r"found the columns words, label; .*a column text.*text=NAME"),
    "no JSON": ("x.jsonl", '{"text": "a", "label": 1}\n{"text": ', r"line 2: .*one JSON object"),
    "no object": ("x.jsonl", "[1]", r"line 1: found list"),
    "too many values": ("x.csv", "text,label\na,1,2", r"line 2: found more values"),
    "too few values": ("x.csv", "text,label\na", r"line 2: found fewer values"),
    "an open quote": ("x.csv", 'text,label\n"a,1', r"line 1: found unexpected end of data"),
    "no Parquet": ("x.parquet", "text", r"a Parquet file"),
}


@pytest.mark.parametrize(("name", "content", "said"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_with_its_line(name: str, content: str, said: str, tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        ClassifiedTexts(str(tmp_path / name), tokenizer)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "x.csv").write_bytes("text,label\ncafé,1\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        ClassifiedTexts(str(tmp_path / "x.csv"), tokenizer)


@pytest.mark.parametrize("text", [None, 3, ""])
def test_a_row_without_text_is_refused_by_its_number(text: Any, tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps({**ROWS[0], "text": text}))
    data = CausalTexts(str(path), tokenizer, text="text")
    assert isinstance(data[0]["labels"], torch.Tensor)
    with pytest.raises(InputError, match="row 1 of"):
        data[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": "text", "prompt": "prompt", "completion": "completion"}, "either text, or prompt and completion"),
        ({"prompt": "prompt"}, "either text, or prompt and completion"),
        ({"text": "text", "max_length": 1}, "max_length"),
        ({"text": "text", "split": "train"}, "a file has none"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: Any, said: str, tmp_path: Path, tokenizer: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CausalTexts(written(tmp_path, ".jsonl"), tokenizer, **arguments)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path / "tokenizer.json"), str(tmp_path)):
        with pytest.raises(InputError, match="tokenizer"):
            CausalTexts(written(tmp_path, ".jsonl"), name, text="text")


def test_a_relative_tokenizer_is_that_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer, models

    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        Tokenizer(models.WordLevel({"word": 5 + number}, unk_token="word")).save(str(tmp_path / name / "tokenizer.json"))
        monkeypatch.chdir(tmp_path / name)
        for given in (None, "tokenizer.json"):
            assert load_tokenizer(given)("word")["input_ids"] == [5 + number]
