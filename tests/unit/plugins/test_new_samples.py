"""New samples: each data set makes from the values of one of its rows the sample that it has there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from trak_cli.errors import InputError
from trak_cli.plugins import Digits, ImageFile, ImageFolder, ImageTextPairs, SampleFile, Table
from trak_cli.plugins.new_samples import sample_like
from trak_cli.plugins.samples import sample_id
from trak_cli.plugins.text import CausalTexts, ClassifiedTexts, MaskedTexts, SourceTarget
from trak_cli.results.new_samples import make_samples, read_records
from trak_cli.results.samples import Samples

WORDS = ["[PAD]", "[UNK]", "[MASK]", "a", "cat", "dog", "sat", "on", "the", "mat", "user", "says"]
ROWS = [
    {"review": "a cat sat", "more": "on", "kind": "good", "from": "the dog", "to": "sat on"},
    {"review": "the dog sat on the mat", "more": "mat", "kind": "bad", "from": "a cat", "to": "the mat"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of texts with a tokenizer, images in folders, a table of numbers and a file of arrays."""
    folder = tmp_path_factory.mktemp("new")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (folder / "numbers.csv").write_text("width,height,kind\n1,2.5,oak\n3,-4,elm\n")
    generator = np.random.default_rng(0)
    np.savez(folder / "arrays.npz", x=generator.normal(size=(3, 4)).astype(np.float32), y=np.array([2, 0, 1]))
    pixels = generator.integers(0, 256, (2, 3, 5, 7), dtype=np.uint8)
    np.savez(folder / "images.npz", x=pixels, y=np.array([3, 1]))
    image = pytest.importorskip("PIL.Image")
    for number, name in enumerate(("cat/a.png", "dog/b.png")):
        (folder / "pictures" / name).parent.mkdir(parents=True)
        image.fromarray(generator.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(folder / "pictures" / name)
        image.fromarray(pixels[number].transpose(1, 2, 0)).save(folder / f"{number}.png")
    (folder / "captions.csv").write_text("file,words\ncat/a.png,a cat\ndog/b.png,the dog\n")
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["[MASK]"])
    made.save(str(folder / "tokenizer.json"))
    return folder


DATASETS: dict[str, tuple[Callable[[Path], Any], Callable[[Path, int], Any]]] = {
    "classified": (
        lambda at: ClassifiedTexts(*files(at), text="review", pair="more", label="kind", classes=["bad", "good"]),
        lambda _, row: {"text": ROWS[row]["review"], "pair": ROWS[row]["more"], "label": ROWS[row]["kind"]},
    ),
    "classified by columns": (
        lambda at: ClassifiedTexts(*files(at), text="review", label="kind", classes=["bad", "good"]),
        lambda _, row: {"review": ROWS[row]["review"], "kind": ROWS[row]["kind"]},
    ),
    "causal": (lambda at: CausalTexts(*files(at), text="review"), lambda _, row: {"text": ROWS[row]["review"]}),
    "completion": (
        lambda at: CausalTexts(*files(at), prompt="from", completion="to"),
        lambda _, row: {"prompt": ROWS[row]["from"], "completion": ROWS[row]["to"]},
    ),
    "seq2seq": (
        lambda at: SourceTarget(*files(at), source="from", target="to"),
        lambda _, row: {"source": ROWS[row]["from"], "to": ROWS[row]["to"]},
    ),
    "table": (
        lambda at: Table(str(at / "numbers.csv"), ["height", "width"], "kind", classes=["elm", "oak"]),
        lambda _, row: ({"row": [2.5, 1], "label": "oak"}, {"width": "3", "height": -4, "kind": "elm"})[row],
    ),
    "arrays": (
        lambda at: SampleFile(str(at / "arrays.npz")),
        lambda at, row: {name: values[row].tolist() for name, values in np.load(at / "arrays.npz").items()},
    ),
    "image folder": (
        lambda at: ImageFolder(str(at / "pictures"), size=8),
        lambda at, row: {"image": str(at / "pictures" / ("cat/a.png", "dog/b.png")[row]), "label": ("cat", 1)[row]},
    ),
    "image file": (
        lambda at: ImageFile(str(at / "images.npz")),
        lambda at, row: {"image": str(at / f"{row}.png"), "label": ("3", 1)[row]},
    ),
    "pairs": (
        lambda at: ImageTextPairs(
            str(at / "pictures"), str(at / "captions.csv"), files(at)[1], "file", "words", length=5, size=8
        ),
        lambda at, row: (
            {"image": str(at / "pictures/cat/a.png"), "caption": "a cat"},
            {"file": str(at / "pictures/dog/b.png"), "words": "the dog"},
        )[row],
    ),
}


def files(folder: Path) -> tuple[str, str]:
    return str(folder / "rows.jsonl"), str(folder / "tokenizer.json")


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("name", DATASETS)
def test_the_values_of_a_row_make_its_sample(name: str, row: int, folder: Path) -> None:
    build, values = DATASETS[name]
    dataset = build(folder)
    assert sample_id(dataset.sample_from(values(folder, row))) == sample_id(dataset[row])


@pytest.mark.parametrize("name", DATASETS)
def test_missing_and_unknown_values_are_named(name: str, folder: Path) -> None:
    build, values = DATASETS[name]
    dataset, record = build(folder), values(folder, 0)
    with pytest.raises(InputError, match="colour"):
        dataset.sample_from({**record, "colour": "red"})
    if len(record) > 1:
        removed = list(record)[-1]
        with pytest.raises(InputError):
            dataset.sample_from({key: value for key, value in record.items() if key != removed})


def test_a_data_set_of_texts_also_takes_a_prompt_and_a_completion(folder: Path) -> None:
    record = {"prompt": ROWS[1]["from"], "completion": ROWS[1]["to"]}
    expected = CausalTexts(*files(folder), prompt="from", completion="to")[1]
    assert sample_id(CausalTexts(*files(folder), text="review").sample_from(record)) == sample_id(expected)


def test_in_a_data_set_of_conversations_a_prompt_and_a_completion_are_said_by_two_people(tmp_path: Path, folder: Path) -> None:
    messages = [{"role": "user", "content": "a cat"}, {"role": "assistant", "content": "sat on"}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"talk": messages}))
    template = "{% for m in messages %}{{ m.role }} says {{ m.content }} {% endfor %}"
    template += "{% if add_generation_prompt %}assistant says {% endif %}"
    data = CausalTexts(str(tmp_path / "chat.jsonl"), files(folder)[1], messages="talk", template=template)
    expected = sample_id(data[0])
    assert sample_id(data.sample_from({"prompt": "a cat", "completion": "sat on"})) == expected
    assert sample_id(data.sample_from({"messages": messages})) == expected


def test_a_masked_text_is_masked_like_a_row(folder: Path) -> None:
    tokenizer = pytest.importorskip("transformers").PreTrainedTokenizerFast(
        tokenizer_file=files(folder)[1], mask_token="[MASK]", pad_token="[PAD]"
    )
    tokenizer.save_pretrained(folder / "masked")
    data = MaskedTexts(files(folder)[0], str(folder / "masked"), text="review")
    assert sample_id(data.sample_from({"text": ROWS[1]["review"]})) == sample_id(data[1])


def test_an_image_of_another_size_is_resized_to_that_of_the_digits(folder: Path) -> None:
    pytest.importorskip("sklearn")
    image, label = Digits("test").sample_from({"image": str(folder / "0.png"), "label": "7"})
    assert image.shape == (1, 8, 8)
    assert image.dtype == torch.float32
    assert label == 7


FORMS: dict[str, tuple[Any, Any, Any]] = {
    "pair by names": ((torch.zeros(3), 1), {"row": [1, 2, 3], "label": "2"}, (torch.tensor([1.0, 2, 3]), 2)),
    "pair in order": (
        (torch.zeros(1, 2, 2), torch.tensor(0)),
        [[1, 2, 3, 4], 5],
        (torch.arange(1.0, 5).reshape(1, 2, 2), torch.tensor(5)),
    ),
    "mapping": (
        {"input_ids": torch.zeros(4, dtype=torch.int64), "labels": 0},
        {"input_ids": [5, 6], "label": 1},
        {"input_ids": torch.tensor([5, 6]), "labels": 1},
    ),
    "arrays": ((np.zeros(2, np.float64), "a", True), [[3, 4], "b", "false"], (np.array([3.0, 4.0]), "b", False)),
    "a tensor alone": (torch.zeros(2), {"row": [1, 2]}, torch.tensor([1.0, 2.0])),
}


@pytest.mark.parametrize("name", FORMS)
def test_without_sample_from_a_sample_takes_the_form_of_the_first_one(name: str) -> None:
    first, record, expected = FORMS[name]
    assert sample_id(sample_like([first], record)) == sample_id(expected)


@pytest.mark.parametrize(
    "record",
    [
        {"row": [1, 2, 3]},
        {"row": [[1, 2], [3, 4]], "label": 1},
        {"row": [1, 2, 3], "label": "blue"},
        {"row": "abc", "label": 1},
        [1],
        5,
    ],
)
def test_values_that_do_not_fit_the_form_are_refused_with_what_to_write(record: Any) -> None:
    with pytest.raises(InputError, match="sample_from"):
        sample_like([(torch.zeros(3), 1)], record)


class Folder:
    """A data set like those of torchvision: a transform of an image, and names of classes."""

    classes = ("cat", "dog")

    def __len__(self) -> int:
        return 1

    def transform(self, image: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image).copy()).float().mean(dim=(0, 1))

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(3), row


def test_a_data_set_with_a_transform_takes_an_image_file_and_the_name_of_a_class(folder: Path) -> None:
    new = make_samples(Samples("test", Subset(Folder(), [0])), [{"image": str(folder / "1.png"), "label": "dog"}])
    pixels = np.load(folder / "images.npz")["x"][1].astype(np.float32)
    torch.testing.assert_close(new[0][0], torch.from_numpy(pixels.mean(axis=(1, 2))))
    assert new[0][1] == 1
    assert new.describe(0)["label"] == "dog"


def test_every_record_that_is_refused_is_named(folder: Path) -> None:
    data = Samples("test", Table(str(folder / "numbers.csv"), ["width"], "height"))
    with pytest.raises(InputError) as caught:
        make_samples(data, [{"width": "x", "height": 1}, {"width": 1, "height": 2}, {"row": [1, 2], "label": 3}])
    assert [problem.where.split(":")[0] for problem in caught.value.problems] == ["new target 0", "new target 2"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv"])
def test_records_are_read_from_each_kind_of_file(suffix: str, tmp_path: Path) -> None:
    rows = [{"text": "a, b", "label": "1"}, {"text": "c", "label": "0"}]
    separator = "\t" if suffix == ".tsv" else ","
    lines = [separator.join(["text", "label"]), *(separator.join([f'"{row["text"]}"', row["label"]]) for row in rows)]
    content = {".json": json.dumps(rows), ".jsonl": "\n".join(map(json.dumps, rows))}.get(suffix, "\n".join(lines))
    path = tmp_path / f"new{suffix}"
    path.write_text(content)
    assert read_records(str(path)) == rows
    path.write_text("{" if suffix.startswith(".json") else 'a,b\n"')
    with pytest.raises(InputError, match=path.name):
        read_records(str(path))
