"""CLIP models: Hugging Face's CLIPModel and those of open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.hub import model_config, pretrained_model
from trak_cli.plugins.optional import needed


def hf_clip(
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    pretrained: bool = False,
    attention: str = "eager",
) -> nn.Module:
    """A CLIPModel of Hugging Face transformers; its weights come from the checkpoints of the run.

    Args:
        name: hub id or local folder: the configuration is read from there.
        config: instead of a name, the configuration itself: {text_config: {…}, vision_config: {…}, projection_dim: 512}.
        pretrained: start from the weights of ``name`` (safetensors only), for `trak train`.
        attention: eager, which every gradient engine supports, or sdpa, which vmap does not support with a mask.

    Raises:
        ConfigError: no transformers, both name and config or neither, no such configuration, or one of another model.
    """
    transformers = needed("transformers", "clip", "model")
    if attention not in ("eager", "sdpa"):
        raise ConfigError(Problem("model.attention", repr(attention), "eager or sdpa", "choose one"))
    settings = model_config(name, {"model_type": "clip", **config} if config is not None else None, {})
    if settings.model_type != "clip":
        raise ConfigError(Problem("model", f"model_type {settings.model_type!r}", "clip", "name a CLIP model"))
    kind = transformers.CLIPModel
    model: Any = pretrained_model(kind, name, settings) if pretrained else kind(settings)
    model.set_attn_implementation(attention)
    built: nn.Module = model
    return built


def open_clip_model(name: str, pretrained: str | None = None) -> nn.Module:
    """A model of open_clip by name, for example "ViT-B-32"; for the task :class:`~trak_cli.tasks.OpenCLIP`.

    Args:
        name: as for ``open_clip.create_model``.
        pretrained: tag of the initial weights, for `trak train`; null: random weights.

    Raises:
        ConfigError: no open_clip, or it has no model of this name.
    """
    library = needed("open_clip", "clip", "model")
    if name not in library.list_models():
        raise ConfigError(Problem("model.name", repr(name), "a model that open_clip has", "correct the name"))
    model: nn.Module = library.create_model(name, pretrained=pretrained)
    return model
