"""Configurations and weights of Hugging Face models: by hub id, from a local folder, or given in the config."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.user_errors import first_line

_EITHER = "either name (hub id or folder) or config (a mapping with model_type)"


def check_local(name: str, where: str) -> None:
    """Refuse a name in a local folder where there is no such entry, instead of asking the hub for it.

    Raises:
        InputError: lists what there is.
    """
    path = Path(name).expanduser()
    beside = path.parent
    if path.exists() or str(beside) == "." or not beside.is_dir():
        return
    there = sorted(entry.name for entry in beside.iterdir())
    meant = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    remedy = f"did you mean {beside / meant[0]}?" if meant else "correct the path"
    raise InputError(Problem(where, f"{name}: {beside} has no {path.name}", f"one of {', '.join(there[:8])}", remedy))


def model_config(name: str | None, config: Mapping[str, Any] | None, overrides: Mapping[str, Any]) -> Any:
    """The transformers configuration of a model, with some values replaced. No code from the hub is run.

    Raises:
        ConfigError: both or neither are given, or there is no such configuration.
    """
    transformers = needed("transformers", "vision", "model")
    if (name is None) == (config is None):
        found = f"both, name={name} (which the shipped config gives) and config" if name else "neither"
        remedy = "set model.name=null to build the model from config" if name else "give one of them"
        raise ConfigError(Problem("model", found, _EITHER, remedy))
    if config is None:
        check_local(str(name), "model.name")
        try:
            return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **overrides)
        except (OSError, ValueError) as error:
            found, expected = f"{name}: {first_line(error)}", "a hub id or a folder with config.json"
            raise ConfigError(Problem("model.name", found, expected, "correct it")) from error
    settings = {**config, **overrides}
    kind = settings.pop("model_type", None)
    try:
        return transformers.AutoConfig.for_model(kind, **settings)
    except ValueError as error:
        remedy = "correct model.config.model_type"
        raise ConfigError(Problem("model.config", f"model_type {kind!r}", "a type that transformers has", remedy)) from error


def pretrained_model(kind: Any, name: str | None, settings: Any) -> nn.Module:
    """The model of class ``kind`` with the weights of a hub id or a folder, in safetensors.

    Raises:
        ConfigError: no name.
        InputError: no such weights.
    """
    if name is None:
        found = "true, beside config"
        raise ConfigError(Problem("model.pretrained", found, "a name whose weights are read", "give model.name"))
    try:
        model: nn.Module = kind.from_pretrained(name, config=settings, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        expected = "a hub id or a folder with weights in safetensors"
        raise InputError(Problem("model.name", f"{name}: {first_line(error)}", expected, "correct it")) from error
    return model
