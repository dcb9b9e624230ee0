"""Adapters of the package peft (LoRA and its relatives) on a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.user_errors import first_line

#: peft's names of the kinds of models; peft treats the head of a classifier as part of the adapter.
_TASKS = {
    "text_classification": "SEQ_CLS",
    "token_classification": "TOKEN_CLS",
    "causal_lm": "CAUSAL_LM",
    "seq2seq_lm": "SEQ_2_SEQ_LM",
}


def with_adapter(model: nn.Module, adapter: Mapping[str, Any] | str, kind: str) -> nn.Module:
    """The model with an untrained adapter; everything else in it is frozen.

    Args:
        adapter: arguments of a PEFT config, or a folder with an ``adapter_config.json`` (its weights are not read here:
            they are a checkpoint).

    Raises:
        ConfigError: arguments that peft refuses, or peft is not installed.
        InputError: no such folder.
    """
    peft = needed("peft", "text", "model.adapter")
    if isinstance(adapter, str):
        config = _read(peft, adapter)
    else:
        config = _made(peft, {**({"task_type": _TASKS[kind]} if kind in _TASKS else {}), **adapter})
    try:
        wrapped: nn.Module = peft.get_peft_model(model, config)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(_refused(error, "for example r: 8 and target_modules: [q_proj, v_proj]")) from error
    return wrapped


def _made(peft: Any, arguments: dict[str, Any]) -> Any:
    kind = str(arguments.pop("peft_type", "LORA")).upper()
    known = {str(getattr(one, "value", one)): config for one, config in peft.PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if kind not in known:
        raise ConfigError(Problem("model.adapter.peft_type", repr(kind), f"one of {', '.join(known)}", "choose one of them"))
    try:
        return known[kind](**arguments)
    except (ValueError, TypeError) as error:
        raise ConfigError(_refused(error, f"see the arguments of peft's {known[kind].__name__}")) from error


def _read(peft: Any, folder: str) -> Any:
    if not (Path(folder) / "adapter_config.json").is_file():
        remedy = "correct the path, or give the adapter's arguments instead"
        raise InputError(Problem("model.adapter", f"{folder}, without adapter_config.json", "a folder that peft wrote", remedy))
    config = peft.PeftConfig.from_pretrained(folder)
    config.inference_mode = False  # inference mode would freeze the adapter too
    return config


def _refused(error: Exception, remedy: str) -> Problem:
    return Problem("model.adapter", first_line(error), "arguments that peft takes for this model", remedy)
