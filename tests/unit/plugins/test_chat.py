"""Conversations: what the assistant says is predicted, whatever the template and the tokenizer; and texts that start twice."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from trak_cli.batches import IGNORED
from trak_cli.errors import ConfigError, InputError
from trak_cli.plugins.text import CausalTexts, load_tokenizer
from trak_cli.plugins.text.start_token import doubled_start

pytest.importorskip("transformers")

SPECIAL = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
MESSAGES = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "how are you"},
    {"role": "assistant", "content": "fine thanks"},
    {"role": "user", "content": "are you sure"},
    {"role": "assistant", "content": "very sure"},
]
#: Templates in the manner of several models, and one that marks the assistant's text.
TEMPLATES = {
    "plain": "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "lines": "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "spaces": "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|> {{ m.content }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "marked": "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|end|>{% endgeneration %}{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}",
}


@pytest.fixture(scope="module", params=["words", "bytes"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer that starts every text with <s>: of whole words, or of bytes, in which a space belongs to the next word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [message["content"] for message in MESSAGES]
    if request.param == "words":
        made = Tokenizer(models.WordLevel(unk_token="<pad>"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        made.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=SPECIAL))
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet))
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    path = tmp_path_factory.mktemp(request.param)
    PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATES["plain"], **names).save_pretrained(path)
    return str(path)


def rows(path: Path, *values: dict[str, Any]) -> str:
    file = path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, values)))
    return str(file)


def predicted(data: CausalTexts, sample: dict[str, torch.Tensor]) -> str:
    """The predicted tokens as text without spaces."""
    kept = sample["labels"][sample["labels"] != IGNORED].tolist()
    return "".join(data.tokenizer.decode(kept).split())


@pytest.mark.parametrize("name", TEMPLATES)
def test_only_what_the_assistant_says_is_predicted(tmp_path: Path, folder: str, name: str) -> None:
    data = CausalTexts(rows(tmp_path, {"messages": MESSAGES}), folder, messages="messages", template=TEMPLATES[name])
    sample = data[0]
    assert predicted(data, sample) == "finethanks<|end|>verysure<|end|>"
    known = sample["labels"] != IGNORED
    assert torch.equal(sample["labels"][known], sample["input_ids"][known])
    assert not known[0]


def test_the_text_is_that_of_the_template_and_starts_once(tmp_path: Path, folder: str) -> None:
    data = CausalTexts(rows(tmp_path, {"chat": MESSAGES}), folder, messages="chat")
    expected = load_tokenizer(folder).apply_chat_template(MESSAGES, return_dict=True)["input_ids"]
    assert data[0]["input_ids"].tolist() == expected
    assert doubled_start(data, nn.Identity(), data[0], "sample 0") is None


def test_a_report_shows_who_says_what(tmp_path: Path, folder: str) -> None:
    path = rows(tmp_path, {"chat": MESSAGES[1:3], "prompt": "how", "completion": "so"})
    chat = CausalTexts(path, folder, messages="chat").describe(0)
    assert chat["chat"] == "user: how are you · assistant: fine thanks"
    spoken = "".join(chat["tokens"]["tokens"][place] for place in chat["tokens"]["predicted"])
    assert "".join(spoken.split()) == "finethanks<|end|>"
    answer = CausalTexts(path, folder, prompt="prompt", completion="completion").describe(0)
    assert (answer["prompt"], answer["completion"]) == ("how", "so")


@pytest.mark.parametrize("name", ["lines", "marked"])
def test_a_prompt_and_a_completion_of_messages_predict_the_completion(tmp_path: Path, folder: str, name: str) -> None:
    path = rows(tmp_path, {"prompt": MESSAGES[:4], "completion": MESSAGES[4:]})
    data = CausalTexts(path, folder, prompt="prompt", completion="completion", template=TEMPLATES[name])
    sample = data[0]
    assert predicted(data, sample) == "verysure<|end|>"
    whole = CausalTexts(rows(tmp_path, {"m": MESSAGES}), folder, messages="m", template=TEMPLATES[name])
    assert torch.equal(sample["input_ids"], whole[0]["input_ids"])


def test_a_template_may_be_a_file_and_a_long_conversation_is_cut(tmp_path: Path, folder: str) -> None:
    (tmp_path / "chat.jinja").write_text(TEMPLATES["lines"])
    path = rows(tmp_path, {"messages": MESSAGES})
    data = CausalTexts(path, folder, messages="messages", template=str(tmp_path / "chat.jinja"))
    cut = CausalTexts(path, folder, messages="messages", template=TEMPLATES["lines"], max_length=9)
    for key, value in cut[0].items():
        assert torch.equal(value, data[0][key][:9])


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ("a text", "'a text'"),
        ([], r"\[\]"),
        ([{"from": "human", "value": "hi"}], "message 0 with the keys from, value"),
        ([MESSAGES[1], "hello"], "message 1 with 'hello'"),
        (MESSAGES[:2], "no message of the assistant"),
    ],
)
def test_other_rows_are_refused_by_number(tmp_path: Path, folder: str, messages: Any, found: str) -> None:
    data = CausalTexts(rows(tmp_path, {"messages": MESSAGES}, {"messages": messages}), folder, messages="messages")
    assert len(data[0]) == 3
    with pytest.raises(InputError, match=found) as refused:
        data[1]
    assert refused.value.problems[0].where.startswith("row 1 of")


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages|length }}{% for m in messages %}{{ m.content }}{% endfor %}", "changes the start"),
        ("{% for m in messages[-1:] %}{{ m.content }}{% endfor %}", "changes the start"),
    ],
)
def test_templates_that_cannot_tell_the_assistants_text_are_refused(
    tmp_path: Path, folder: str, template: str, found: str
) -> None:
    data = CausalTexts(rows(tmp_path, {"messages": MESSAGES}), folder, messages="messages", template=template)
    with pytest.raises(InputError, match=found):
        data[0]


def test_a_tokenizer_without_a_template_asks_for_one(tmp_path: Path, folder: str) -> None:
    path = rows(tmp_path, {"messages": MESSAGES})
    with pytest.raises(ConfigError, match=r"template: FILE\.jinja"):
        CausalTexts(path, f"{folder}/tokenizer.json", messages="messages")
    with pytest.raises(InputError, match=r"no file nothing\.jinja"):
        CausalTexts(path, folder, messages="messages", template="nothing.jinja")


@pytest.mark.parametrize(
    "columns",
    [{"text": "a", "messages": "b"}, {"prompt": "a"}, {}, {"messages": "a", "prompt": "b", "completion": "c"}],
)
def test_one_kind_of_columns_is_given(tmp_path: Path, folder: str, columns: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="give either text, or prompt and completion, or messages"):
        CausalTexts(rows(tmp_path, {"a": "x", "b": "y", "c": "z"}), folder, **columns)


def test_a_text_that_a_template_rendered_starts_twice_unless_the_tokenizer_adds_nothing(tmp_path: Path, folder: str) -> None:
    text = load_tokenizer(folder).apply_chat_template(MESSAGES, tokenize=False)
    path = rows(tmp_path, {"text": text})
    twice = CausalTexts(path, folder, text="text")
    problem = doubled_start(twice, nn.Identity(), twice[0], "sample 0 of train")
    assert problem is not None
    assert problem.where == "sample 0 of train"
    assert "special_tokens: false" in problem.remedy
    once = CausalTexts(path, folder, text="text", special_tokens=False)
    assert doubled_start(once, nn.Identity(), once[0], "sample 0 of train") is None
    assert torch.equal(once[0]["input_ids"], twice[0]["input_ids"][1:])


@pytest.mark.parametrize(
    ("sample", "doubled"),
    [
        ({"input_ids": torch.tensor([7, 7, 3])}, True),
        ({"input_ids": [0, 0, 7, 7, 3], "attention_mask": [0, 0, 1, 1, 1]}, True),
        ({"input_ids": torch.tensor([7, 3, 7])}, False),
        ({"input_ids": torch.tensor([3, 3, 7])}, False),
        ({"input_ids": torch.tensor([7])}, False),
        ({"input_ids": torch.tensor([[7, 7]])}, False),
        ({"pixels": torch.tensor([7, 7])}, False),
        ((torch.tensor([7, 7]), 0), False),
    ],
)
def test_the_start_token_of_the_model_is_known_without_a_tokenizer(sample: Any, doubled: bool) -> None:
    model = nn.Identity()
    model.config = SimpleNamespace(bos_token_id=7)
    assert (doubled_start([sample], model, sample, "sample 0") is not None) == doubled
    assert doubled_start([sample], nn.Identity(), sample, "sample 0") is None
