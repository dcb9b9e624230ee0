"""Runs on text through the command line: from a JSONL file and a tokenizer.json to scores, with the shipped configs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_project import read_store, type_command
from tiny_project import call

from trak_cli.plugins.checkpoints.state import load
from trak_cli.store.virtual import read_scores

pytest.importorskip("transformers")
pytest.importorskip("peft")

SENTENCES = [
    f"{name} {verb} {thing}" for name in ["ann", "bob", "cid"] for verb, thing in [("eats", "figs"), ("sells", "hay")]
] * 4
WORDS = ["<pad>", "</s>", *sorted({word for sentence in SENTENCES for word in sentence.split()})]

COMMON = """
defaults:
  - trak
  - _self_
  - override model: {kind}
  - override task: {kind}
  - override dataset: {kind}
  - override trainer: adamw
name: words
device: cpu
threads: 1
checkpoints: runs/words/checkpoints/*.safetensors
trainer: {{epochs: 6, batch_size: 8, lr: 0.01}}
train: {{count: 2}}
projection: {{dim: 64}}
dataset: {{train: {{path: rows.jsonl}}, targets: {{test: {{path: rows.jsonl}}}}}}
model:
  pretrained: null
  config: {{vocab_size: 20, {config}}}
"""
MODELS = {
    "causal_lm": "model_type: gpt2, n_embd: 16, n_layer: 1, n_head: 2, n_positions: 8, bos_token_id: 1, eos_token_id: 1",
    "seq2seq_lm": "model_type: mt5, d_model: 16, d_kv: 8, d_ff: 16, num_layers: 1, num_heads: 2, decoder_start_token_id: 0",
    "text_classification": "model_type: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_labels: 2",
}


def write_words(folder: Path, kind: str) -> None:
    """A project of a few short sentences: data, tokenizer and config."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = []
    for sentence in SENTENCES:
        prompt, completion = sentence.rsplit(" ", 1)
        row = {"text": sentence, "prompt": prompt, "completion": completion, "source": prompt, "target": completion}
        rows.append(json.dumps({**row, "label": int(completion == "hay")}))
    (folder / "rows.jsonl").write_text("\n".join(rows))
    (folder / "words.yaml").write_text(COMMON.format(kind=kind, config=MODELS[kind]))


@pytest.mark.parametrize("kind", MODELS)
def test_a_sentence_is_attributed_to_its_paraphrases(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_words(tmp_path, kind)
    for stage in ("train", "featurize", "finalize", "score"):
        type_command(tmp_path, monkeypatch, f"trak {stage} -d . -n words")
    for found in read_store(tmp_path / "runs" / "words").values():
        assert np.isfinite(found.features).all()
        assert ((found.out_to_loss > 0) & (found.out_to_loss < 1)).all()
    scores = read_scores(tmp_path / "runs" / "words" / "scores" / "early_training" / "test.h5")
    endings = np.array([sentence.split()[2] for sentence in SENTENCES])
    same = endings[:, None] == endings
    assert scores[same].mean() > scores[~same].mean()
    answer = json.loads(type_command(tmp_path, monkeypatch, "trak top -d . -n words --target 0 -k 2 --json"))
    assert "ann eats" in json.dumps(answer)


def test_a_run_on_a_lora_adapter_reads_what_peft_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_words(tmp_path, "causal_lm")
    type_command(tmp_path, monkeypatch, "trak train -d . -n words train.folder=base train.count=1")
    adapter = "model.weights=base/full_0.safetensors model.adapter='{r: 2, target_modules: [c_attn], fan_in_fan_out: true}'"
    type_command(tmp_path, monkeypatch, f"trak train -d . -n words {adapter}")
    files = sorted((tmp_path / "runs" / "words" / "checkpoints").glob("*"))
    assert len(files) == 2
    assert all("lora_" in name for file in files for name in load(file))
    for stage in ("featurize", "finalize", "score"):
        type_command(tmp_path, monkeypatch, f"trak {stage} -d . -n words {adapter}")
    assert (read_scores(tmp_path / "runs" / "words" / "scores" / "early_training" / "test.h5") != 0).any()


def test_a_row_that_predicts_nothing_is_refused_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_words(tmp_path, "causal_lm")
    rows = (tmp_path / "rows.jsonl").read_text().splitlines()
    rows[5] = json.dumps({**json.loads(rows[5]), "text": "ann"})
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    outcome = call(tmp_path, monkeypatch, "train", "-n", "words")
    assert outcome.code == 4
    assert "sample 5 of train" in outcome.stderr
    assert "no predicted token" in outcome.stderr
    assert "Traceback" not in outcome.stderr
