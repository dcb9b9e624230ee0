"""Models of transformers and adapters of peft as plugins: weights come from checkpoints, and misuse is reported at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from trak_cli.errors import ConfigError, InputError
from trak_cli.gradients.parameters import select
from trak_cli.plugins.checkpoints.state import apply, dump, load
from trak_cli.plugins.text import text_model
from trak_cli.plugins.text.tokenizer import load_tokenizer

pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

GPT2 = {"model_type": "gpt2", "vocab_size": 30, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1}
BERT = {"model_type": "bert", "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT |= {"intermediate_size": 8, "num_labels": 3}
LORA = {"r": 2, "target_modules": ["query"]}


def answer(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.arange(6)[None]).logits
    return logits


def disturbed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model


@pytest.fixture
def base(tmp_path: Path) -> str:
    """Weights of a BERT."""
    path = tmp_path / "base.safetensors"
    path.write_bytes(dump(text_model("text_classification", config=BERT)))
    return str(path)


def test_a_save_pretrained_folder_is_a_checkpoint_and_a_model(tmp_path: Path) -> None:
    trained = disturbed(text_model("causal_lm", config=GPT2))
    trained.save_pretrained(tmp_path / "trained")  # type: ignore[operator]
    file = tmp_path / "trained" / "model.safetensors"
    assert "lm_head.weight" not in load_file(file)  # tied
    model = text_model("causal_lm", config=GPT2)
    apply(model, load(file), file)
    torch.testing.assert_close(answer(model), answer(trained))
    assert not model.training
    again = text_model("causal_lm", pretrained=str(tmp_path / "trained"), config={"attn_pdrop": 0.3})
    torch.testing.assert_close(answer(again), answer(trained))
    assert again.config.attn_pdrop == 0.3  # type: ignore[union-attr]


def test_a_new_head_on_a_trained_body(tmp_path: Path) -> None:
    text_model("masked_lm", config={k: v for k, v in BERT.items() if k != "num_labels"}).save_pretrained(tmp_path / "b")  # type: ignore[operator]
    assert answer(text_model("text_classification", pretrained=str(tmp_path / "b"), config={"num_labels": 5})).shape == (1, 5)


def test_the_checkpoint_of_an_adapter_is_what_peft_writes(tmp_path: Path, base: str) -> None:
    trained = disturbed(text_model("text_classification", config=BERT, weights=base, adapter=LORA))
    trained.save_pretrained(tmp_path / "adapter")  # type: ignore[operator]
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    for adapter in (LORA, str(tmp_path / "adapter")):
        model = text_model("text_classification", config=BERT, weights=base, adapter=adapter)
        apply(model, load(file), file)
        torch.testing.assert_close(answer(model), answer(trained))
        assert all("lora_" in name or "classifier.modules_to_save" in name for name in select(model, ["*"]))
        assert len(select(model, ["*"])) == 4
    ours = tmp_path / "ours.safetensors"
    ours.write_bytes(dump(trained))
    assert {name: value.tolist() for name, value in load(ours).items()} == {
        name: value.tolist() for name, value in load_file(file).items()
    }


@pytest.mark.parametrize("kind", ["masked_lm", "causal_lm"])
def test_a_published_file_may_hold_the_pooling_layer_that_a_language_model_lacks(tmp_path: Path, kind: str) -> None:
    model, whole = text_model(kind, config=BERT), text_model("text_classification", config=BERT)
    pooled = {name: value for name, value in whole.state_dict().items() if "pooler" in name}
    assert sorted(pooled) == ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]
    path = tmp_path / "published.bin"
    torch.save(model.state_dict() | pooled, path)
    loaded = text_model(kind, config=BERT)
    apply(loaded, load(path), path)
    assert torch.equal(answer(loaded), answer(model))
    torch.save(model.state_dict() | {"bert.pooling.weight": torch.ones(2)}, path)
    with pytest.raises(InputError, match=r"bert\.pooling"):
        apply(loaded, load(path), path)


def test_an_adapter_of_another_model_is_refused_name_by_name(tmp_path: Path, base: str) -> None:
    model = text_model("text_classification", config=BERT, weights=base, adapter=LORA)
    state = load_file_of(dump(model), tmp_path)
    first, *rest = state
    save_file({name: state[name] for name in rest} | {"other.lora_A.weight": torch.ones(2)}, tmp_path / "bad.safetensors")
    with pytest.raises(InputError) as refused:
        apply(model, load(tmp_path / "bad.safetensors"), tmp_path / "bad.safetensors")
    assert {problem.found for problem in refused.value.problems} == {f"no {first}", "other.lora_A.weight (2,)"}


def test_a_folder_that_is_not_there_is_refused_with_those_beside_it(tmp_path: Path) -> None:
    for step in (100, 200):
        (tmp_path / "out" / f"checkpoint-{step}").mkdir(parents=True)
    for missing, remedy in (("checkpoint-201", "out/checkpoint-200"), ("final", "correct the path")):
        for use in (lambda name: text_model("causal_lm", pretrained=name), load_tokenizer):
            with pytest.raises(InputError) as refused:
                use(str(tmp_path / "out" / missing))
            (problem,) = refused.value.problems
            assert (problem.expected, remedy in problem.remedy) == ("one of checkpoint-100, checkpoint-200", True)


def load_file_of(data: bytes, folder: Path) -> dict[str, torch.Tensor]:
    (folder / "some.safetensors").write_bytes(data)
    return load(folder / "some.safetensors")


def test_an_adapter_needs_the_weights_beneath_it() -> None:
    with pytest.raises(ConfigError, match="weights beneath the adapter"):
        text_model("text_classification", config=BERT, adapter=LORA)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (
            {"kind": "poem", "config": GPT2, "dtype": "int8", "attention": "flash"},
            ConfigError,
            "model.kind.*\n.*attention.*\n.*dtype",
        ),
        ({"kind": "causal_lm"}, ConfigError, "neither pretrained nor"),
        ({"kind": "causal_lm", "config": {**GPT2, "n_emb": 8}}, ConfigError, r"model\.config\.n_emb: .*did you mean n_embd"),
        ({"kind": "causal_lm", "config": {"model_type": "gtp2"}}, ConfigError, "such as gpt2"),
        ({"kind": "causal_lm", "config": {**GPT2, "n_head": 3}}, InputError, "model.config: "),
        ({"kind": "seq2seq_lm", "config": GPT2}, InputError, "kind that fits"),
        ({"kind": "causal_lm", "pretrained": "/no/such/folder"}, InputError, "/no/such/folder"),
    ],
)
def test_misuse_is_reported_with_the_key(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        text_model(**arguments)


@pytest.mark.parametrize("adapter", [{"r": 2, "target_modules": ["nowhere"]}, {"rank": 2}, {"peft_type": "LORAX"}])
def test_adapter_arguments_that_peft_refuses(adapter: dict[str, Any], base: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.adapter"):
        text_model("text_classification", config=BERT, weights=base, adapter=adapter)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"trak-cli\[text\]"):
        text_model("causal_lm", config=GPT2)
