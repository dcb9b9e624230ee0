"""Language models of Hugging Face's transformers: from the hub, from a folder, or built from a config."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trak_cli.errors import ConfigError, InputError, Problem, TrakError
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.plugins.hub import check_local
from trak_cli.plugins.optional import needed
from trak_cli.plugins.text.adapter import with_adapter
from trak_cli.user_errors import first_line

#: kind -> transformers' class for it.
KINDS = {
    "text_classification": "AutoModelForSequenceClassification",
    "causal_lm": "AutoModelForCausalLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "masked_lm": "AutoModelForMaskedLM",
    "token_classification": "AutoModelForTokenClassification",
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
_ATTENTION = ("sdpa", "eager")

#: The name of the attention with an explicit mask in transformers.
_FULL_MASK = "sdpa_full_mask"

#: Keys that some configs read without declaring them.
_UNDECLARED = ("decoder_start_token_id",)


def text_model(
    kind: str,
    pretrained: str | None = None,
    config: Mapping[str, Any] | None = None,
    weights: str | None = None,
    adapter: Mapping[str, Any] | str | None = None,
    attention: str = "sdpa",
    dtype: str = "float32",
    revision: str | None = None,
) -> nn.Module:
    """A model of one of the four kinds, in evaluation mode. Its weights come from the checkpoints of the run.

    Args:
        kind: text_classification, causal_lm, seq2seq_lm or masked_lm.
        pretrained: a hub id, or a folder written by ``save_pretrained``. No code from there is run.
        config: values of the model's config. Without ``pretrained`` they are the complete config, including ``model_type``
            (bert, gpt2, llama, mt5, ...), and the weights are random; with it they replace values, such as ``num_labels: 3``.
        weights: a file with the weights to start from; for an adapter on a model that is given by ``config``.
        adapter: arguments of a PEFT config (``peft_type: LORA`` unless it says another), or a folder with an
            ``adapter_config.json``. The checkpoints then hold the adapter alone, and gradients are those of the adapter.
        attention: sdpa (with an explicit mask, which all gradient engines support) or eager.
        dtype: of the parameters: float32, float64, bfloat16 or float16.
        revision: of the hub's repository.

    Raises:
        ConfigError: names all arguments that do not fit; or a package is not installed.
        InputError: the model cannot be loaded: no such repository or folder, or values that its class refuses.
    """
    choices = {"kind": (kind, KINDS), "attention": (attention, _ATTENTION), "dtype": (dtype, _DTYPES)}
    problems = [
        Problem(f"model.{key}", repr(value), f"one of {', '.join(allowed)}", "choose one of them")
        for key, (value, allowed) in choices.items()
        if value not in allowed
    ]
    ConfigError.raise_for([*problems, *_source_problems(pretrained, dict(config or {}), weights, adapter)])
    transformers = needed("transformers", "text", "model")
    transformers.utils.logging.disable_progress_bar()  # a model is loaded for every checkpoint
    if pretrained is not None:
        check_local(pretrained, "model.pretrained")
    chosen = _config(transformers, pretrained, dict(config or {}), revision)
    options = {"attn_implementation": _full_mask_attention() if attention == "sdpa" else attention, "dtype": _DTYPES[dtype]}
    auto = getattr(transformers, KINDS[kind])
    try:
        if pretrained is None:
            model = auto.from_config(chosen, **options)
        else:
            model = auto.from_pretrained(pretrained, config=chosen, revision=revision, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise InputError(_not_made(pretrained, error)) from error
    made: nn.Module = model
    if weights is not None:
        apply(made, load(Path(weights)), Path(weights))
    if adapter is not None:
        made = with_adapter(made, adapter, kind)
    return made.eval()


def _full_mask_attention() -> str:
    """Register scaled dot-product attention with an explicit mask with transformers; returns its name.

    Transformers drops a mask whose values hide nothing. vmap cannot inspect values, and a sample would be computed by other
    code next to a longer sample than alone.
    """
    modeling = needed("transformers.modeling_utils", "text", "model")
    masking = needed("transformers.masking_utils", "text", "model")
    if _FULL_MASK not in modeling.ALL_ATTENTION_FUNCTIONS:
        modeling.ALL_ATTENTION_FUNCTIONS.register(_FULL_MASK, modeling.ALL_ATTENTION_FUNCTIONS["sdpa"])

        def full_mask(*args: Any, **kwargs: Any) -> Any:
            shortcuts = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
            return masking.sdpa_mask(*args, **{**kwargs, **shortcuts})

        masking.ALL_MASK_ATTENTION_FUNCTIONS.register(_FULL_MASK, full_mask)
    return _FULL_MASK


def _source_problems(pretrained: str | None, config: Mapping[str, Any], weights: str | None, adapter: object) -> list[Problem]:
    """What is wrong with where the weights come from."""
    problems = []
    if pretrained is None and "model_type" not in config:
        remedy = "give model.pretrained=HUB_ID_OR_FOLDER, or config: {model_type: bert, ...}"
        problems.append(Problem("model", "neither pretrained nor config.model_type", "one of them", remedy))
    if pretrained is not None and "model_type" in config:
        remedy = "set model.pretrained=null to build the model from config alone, or leave model_type out to change some values"
        problems.append(Problem("model", f"pretrained={pretrained} and config.model_type", "one of them", remedy))
    if adapter is not None and pretrained is None and weights is None:
        remedy = "give model.pretrained, or model.weights=FILE with the weights that the adapter was trained on"
        problems.append(Problem("model.adapter", "an adapter on random weights", "the weights beneath the adapter", remedy))
    return problems


def _config(transformers: Any, pretrained: str | None, values: dict[str, Any], revision: str | None) -> Any:
    """The model's config, after checking that this kind of model has every given key."""
    model_type = values.pop("model_type", None)
    if pretrained is None and model_type not in transformers.CONFIG_MAPPING:
        close = difflib.get_close_matches(str(model_type), list(transformers.CONFIG_MAPPING), n=3)
        expected = f"a type of model that transformers has, such as {', '.join(close or ['bert', 'gpt2', 'mt5'])}"
        raise ConfigError(Problem("model.config.model_type", repr(model_type), expected, "correct model.config.model_type"))
    try:
        if pretrained is None:
            _check_keys(transformers.AutoConfig.for_model(model_type), values)
            chosen = transformers.AutoConfig.for_model(model_type, **values)
        else:
            chosen = transformers.AutoConfig.from_pretrained(pretrained, revision=revision, trust_remote_code=False)
            _check_keys(chosen, values)
            for key, value in values.items():
                setattr(chosen, key, value)
    except TrakError:
        raise
    except Exception as error:  # configs raise errors of their own classes
        raise InputError(_not_made(pretrained, error)) from error
    if hasattr(chosen, "use_cache"):
        chosen.use_cache = False  # nothing is generated, so a cache is useless
    return chosen


def _check_keys(known: Any, values: Mapping[str, Any]) -> None:
    """Refuse unknown keys; transformers would ignore a misspelt one."""
    problems = []
    for key in values:
        if not hasattr(known, key) and key not in _UNDECLARED:
            close = difflib.get_close_matches(key, list(known.to_dict()), n=1)
            remedy = f"did you mean {close[0]}?" if close else "remove it"
            problems.append(Problem(f"model.config.{key}", "an unknown key", f"a key of {type(known).__name__}", remedy))
    ConfigError.raise_for(problems)


def _not_made(pretrained: str | None, error: Exception) -> Problem:
    found = f"{type(error).__name__}: {first_line(error, 'without a message')}"
    if pretrained is None:
        expected = "values from which transformers makes the model"
        return Problem("model.config", found, expected, "correct model.config, or choose the kind that fits the model")
    expected = "a hub id that can be reached, or a folder that save_pretrained wrote"
    return Problem(f"model.pretrained={pretrained}", found, expected, "correct the id or path, download it first, or log in")
