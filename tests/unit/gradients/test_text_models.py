"""Language models of transformers: all engines give a text the same gradient, alone or in a batch with longer texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from gathering import engine_of, gathered, trial
from torch import Tensor, nn

from trak_cli.errors import InputError
from trak_cli.gradients.checks.independence import check_independence
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.token_signs import SignedTokenSum
from trak_cli.plugins.checkpoints.state import dump
from trak_cli.plugins.text import text_model
from trak_cli.tasks import CausalLM, LanguageModel, MaskedLM, Seq2SeqLM, TextClassification

pytest.importorskip("transformers")
pytest.importorskip("peft")

WORDS, LENGTHS = 40, (11, 3, 7, 5)

BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "bos_token_id": 1, "eos_token_id": 1}
LLAMA = {**BERT, "num_attention_heads": 4, "num_key_value_heads": 2}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Case:
    """A tiny model: what is shared by name covers tied weights, both kinds of norms, both kinds of positions."""

    kind: str
    model_type: str
    config: dict[str, Any]
    task: TextClassification | LanguageModel
    adapter: dict[str, Any] | None = None


CASES = {
    "BERT, classes": Case("text_classification", "bert", {**BERT, "num_labels": 3}, TextClassification()),
    "RoBERTa, classes": Case("text_classification", "roberta", {**BERT, "num_labels": 3}, TextClassification()),
    "BERT, masked, tied": Case("masked_lm", "bert", BERT, MaskedLM()),
    "GPT-2, tied": Case("causal_lm", "gpt2", GPT2, CausalLM()),
    "Llama, RMSNorm, rotary": Case("causal_lm", "llama", LLAMA, CausalLM()),
    "T5, tied, relative bias": Case("seq2seq_lm", "t5", T5, Seq2SeqLM()),
    "mT5, gated, untied": Case("seq2seq_lm", "mt5", T5, Seq2SeqLM()),
    "GPT-2 with LoRA": Case(
        "causal_lm", "gpt2", GPT2, CausalLM(), {"r": 2, "target_modules": ["c_attn"], "fan_in_fan_out": True}
    ),
    "BERT with LoRA": Case("text_classification", "bert", BERT, TextClassification(), {"r": 2, "target_modules": ["query"]}),
}
cases = pytest.mark.parametrize("name", CASES)


def made(name: str, folder: Path, attention: str = "sdpa") -> nn.Module:
    """The model with weights far from their initial values, in which biases and adapters are zero and norms one."""
    torch.manual_seed(0)
    case = CASES[name]
    config = {"model_type": case.model_type, "vocab_size": WORDS, **case.config}
    weights = None
    if case.adapter is not None:
        weights = folder / "base.safetensors"
        weights.write_bytes(dump(text_model(case.kind, config=config)))
    model = text_model(case.kind, config=config, weights=weights and str(weights), adapter=case.adapter, attention=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def texts(name: str, lengths: tuple[int, ...]) -> dict[str, Tensor]:
    """Text i has ``LENGTHS[i]`` tokens; filled up to the longest of ``lengths``."""
    case, width = CASES[name], max(lengths)
    rows: dict[str, list[Tensor]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for length in lengths:
        generator = torch.Generator().manual_seed(length)
        ids = torch.randint(4, WORDS, (length,), generator=generator)
        rows["input_ids"].append(filled(ids, width, 1))
        rows["attention_mask"].append(filled(torch.ones_like(ids), width, 0))
        if case.kind == "text_classification":
            rows["labels"].append(ids[0] % 2)
        elif case.kind == "seq2seq_lm":
            rows["labels"].append(filled(ids[: length // 2 + 1], width // 2 + 1, -100))
        else:
            labels = ids.clone()
            labels[length // 2 + 1 :: 2] = -100
            rows["labels"].append(filled(labels, width, -100))
    return {key: torch.stack(values) for key, values in rows.items()}


def filled(values: Tensor, width: int, value: int) -> Tensor:
    return nn.functional.pad(values, (0, width - len(values)), value=value)


def whole(engine: Any, model: nn.Module, batch: Any) -> Tensor:
    """(B, p), float64."""
    return torch.cat(list(gathered(engine.per_sample(batch), model).values()), dim=1).double()


@cases
def test_every_engine_gives_a_text_the_same_gradient_alone_and_beside_longer_ones(name: str, tmp_path: Path) -> None:
    model, task = made(name, tmp_path), CASES[name].task
    together = texts(name, LENGTHS)
    expected = torch.cat([whole(engine_of("loop", model, task, together), model, texts(name, (one,))) for one in LENGTHS])
    assert (expected.norm(dim=1) > 0).all()
    for engine in ENGINES:
        made_engine = engine_of(engine, model, task, together)
        found = whole(made_engine, model, together)
        assert (nn.functional.cosine_similarity(found, expected) > 0.99999).all(), engine
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
        alone = torch.cat([whole(made_engine, model, texts(name, (one,))) for one in LENGTHS[:2]])
        assert (nn.functional.cosine_similarity(alone, expected[:2]) > 0.99999).all(), engine


@pytest.mark.parametrize("name", ["Llama, RMSNorm, rotary", "mT5, gated, untied"])
def test_norms_without_a_mean_have_their_formula(name: str, tmp_path: Path) -> None:
    model = made(name, tmp_path)
    parameters = select(model, ["*"])
    norms = [one for one in parameters if "norm" in one]
    assert len(norms) > 4
    assert not set(norms) & set(find_strategies(model, CASES[name].task, parameters, texts(name, LENGTHS)))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case.task, LanguageModel)])
def test_signed_sums_of_tokens_have_the_same_gradients_with_the_strategies_of_plain_sums(name: str, tmp_path: Path) -> None:
    model, task = made(name, tmp_path), CASES[name].task
    assert isinstance(task, LanguageModel)
    together, rows, signed = texts(name, LENGTHS), torch.arange(len(LENGTHS)), SignedTokenSum(task, "5c" * 32)
    parameters = select(model, ["*"])
    strategies = find_strategies(model, task, parameters, together)
    singles = [(texts(name, (one,)), rows[i : i + 1]) for i, one in enumerate(LENGTHS)]
    loop = make_engine("loop", model, signed, parameters)
    expected = torch.cat([whole(loop, model, single) for single in singles])
    for engine in ENGINES:
        found = whole(make_engine(engine, model, signed, parameters, strategies), model, (together, rows))
        assert (nn.functional.cosine_similarity(found, expected) > 0.99999).all(), engine
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


@cases
def test_outputs_and_weights_do_not_depend_on_the_padding_either(name: str, tmp_path: Path) -> None:
    model, task = made(name, tmp_path), CASES[name].task
    together, singles = texts(name, LENGTHS), [texts(name, (one,)) for one in LENGTHS]
    check_independence(model, task, trial(together, singles))
    result = engine_of("vmap", model, task, together).per_sample(together)
    for position, single in enumerate(singles):
        alone = engine_of("loop", model, task, single).per_sample(single)
        torch.testing.assert_close(result.outputs[position], alone.outputs[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(result.out_to_loss[position], alone.out_to_loss[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["BERT, classes", "Llama, RMSNorm, rotary"])
def test_the_written_out_mask_computes_what_eager_attention_does(name: str, tmp_path: Path) -> None:
    batch, task = texts(name, LENGTHS), CASES[name].task
    sdpa, eager = (
        whole(engine_of("loop", model, task, batch), model, batch)
        for model in (made(name, tmp_path, way) for way in ("sdpa", "eager"))
    )
    torch.testing.assert_close(sdpa, eager, rtol=1e-3, atol=1e-5 * float(eager.abs().max()))


def test_a_model_that_branches_on_its_mask_uses_hooks_and_is_refused_by_vmap() -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("bert", vocab_size=WORDS, num_labels=3, **BERT)
    model = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa").eval()
    batch, task = texts("BERT, classes", LENGTHS), TextClassification()
    with pytest.raises(InputError, match="vmap refuses"):
        engine_of("vmap", model, task, batch).per_sample(batch)
    hooks, loop = (whole(engine_of(name, model, task, batch), model, batch) for name in ("hooks", "loop"))
    assert (nn.functional.cosine_similarity(hooks, loop) > 0.99999).all()
