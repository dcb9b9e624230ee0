"""Single tokens as targets: which they are, and that outputs and gradients of a text are the sums of those of its tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trak_cli.batches import IGNORED
from trak_cli.errors import InputError
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.plugins.text import CausalTexts, MaskedTexts, Padding, SourceTarget, TokenTargets, text_model
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.tasks import CausalLM

pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[MASK]", "a", "cat", "dog", "sat", "on", "mat"]
ROWS = [
    {"text": "a cat sat on a mat", "prompt": "a cat", "completion": "sat on"},
    {"text": "a dog", "prompt": "a", "completion": "dog sat"},
]


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return str(tmp_path / "tokenizer.json")


def words_of(data: TokenTargets) -> list[str]:
    """The one word that each target predicts."""
    found = []
    for i in range(len(data)):
        labels = data[i]["labels"]
        (token,) = labels[labels != IGNORED].tolist()
        found.append(WORDS[token])
    return found


def test_every_predicted_token_is_a_target(tmp_path: Path, tokenizer: str) -> None:
    path = str(tmp_path / "rows.jsonl")
    whole = CausalTexts(path, tokenizer, text="text")
    answers = CausalTexts(path, tokenizer, prompt="prompt", completion="completion")
    translated = SourceTarget(path, tokenizer, source="prompt", target="completion")
    assert words_of(TokenTargets(whole)) == ["cat", "sat", "on", "a", "mat", "dog"]
    assert words_of(TokenTargets(answers)) == words_of(TokenTargets(translated)) == ["sat", "on", "dog", "sat"]
    assert words_of(TokenTargets(whole, rows=[1])) == ["dog"]


def test_a_target_says_which_token_it_is(tmp_path: Path, tokenizer: str) -> None:
    data = TokenTargets(CausalTexts(str(tmp_path / "rows.jsonl"), tokenizer, text="text"))
    described = data.describe(1)
    tokens = described.pop("tokens")
    assert described == {"token": "'sat'", "place": 2, "row": 0, "text": "a cat sat on a mat"}
    assert tokens == {"tokens": ["a", " cat", " sat", " on", " a", " mat"], "predicted": [2]}


def test_a_report_marks_what_a_text_predicts(tmp_path: Path, tokenizer: str) -> None:
    path = str(tmp_path / "rows.jsonl")
    answer = CausalTexts(path, tokenizer, prompt="prompt", completion="completion").describe(0)
    assert answer["tokens"] == {"tokens": ["a", " cat", " sat", " on"], "predicted": [2, 3]}
    masked = MaskedTexts(path, tokenizer, text="text", share=0.3)
    (marks, labels) = masked.describe(0)["tokens"], masked[0]["labels"]
    assert "".join(marks["tokens"]) == "a cat sat on a mat"
    assert marks["predicted"] == (labels != IGNORED).nonzero()[:, 0].tolist()
    assert "tokens" not in SourceTarget(path, tokenizer, source="prompt", target="completion").describe(0)


def test_a_description_spells_tokens_only_when_they_are_asked_for(tmp_path: Path, tokenizer: str) -> None:
    data = CausalTexts(str(tmp_path / "rows.jsonl"), tokenizer, text="text")
    data.tokenizer = None
    described = data.describe(0)
    assert described["text"] == "a cat sat on a mat"
    with pytest.raises(TypeError):
        described["tokens"]["tokens"]


def test_missing_rows_and_texts_without_tokens_are_refused(tmp_path: Path, tokenizer: str) -> None:
    texts = CausalTexts(str(tmp_path / "rows.jsonl"), tokenizer, text="text")
    with pytest.raises(InputError, match="2, -1"):
        TokenTargets(texts, rows=[0, 2, -1])
    with pytest.raises(InputError, match="no predicted token"):
        TokenTargets(texts, rows=[])


def test_outputs_and_gradients_of_a_text_are_the_sums_over_its_tokens(tmp_path: Path, tokenizer: str) -> None:
    torch.manual_seed(0)
    texts = CausalTexts(str(tmp_path / "rows.jsonl"), tokenizer, text="text")
    config = {"model_type": "gpt2", "vocab_size": len(WORDS), "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}
    model = text_model("causal_lm", config=config | {"bos_token_id": 0, "eos_token_id": 0})
    parameters = select(model, ["*"])
    engine = make_engine("loop", model, CausalLM(), parameters)
    sizes = {name: one.numel() for name, one in parameters.items()}
    projector = make_projector(ProjectionJob(ProjectionSpec("none", sum(sizes.values())), "5a" * 32, sizes))
    collate = Padding(tokenizer)
    whole = engine.per_sample(collate([texts[0]]))
    tokens = TokenTargets(texts, rows=[0])
    single = engine.per_sample(collate([tokens[i] for i in range(len(tokens))]))
    torch.testing.assert_close(single.outputs.sum(0), whole.outputs[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        projector.project(single.blocks).sum(0), projector.project(whole.blocks)[0], rtol=1e-4, atol=1e-5
    )


def test_masked_texts_have_their_masked_tokens(tmp_path: Path, tokenizer: str) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path / "bert"
    PreTrainedTokenizerFast(tokenizer_file=tokenizer, mask_token="[MASK]", pad_token="[PAD]").save_pretrained(folder)
    texts = MaskedTexts(str(tmp_path / "rows.jsonl"), str(folder), share=0.5)
    masked = [int((texts[row]["labels"] != IGNORED).sum()) for row in range(2)]
    assert len(TokenTargets(texts)) == sum(masked) == 4
