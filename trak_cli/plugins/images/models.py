"""Image classifiers of three libraries, by name. Their weights come from the checkpoints of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.hub import model_config, pretrained_model
from trak_cli.plugins.optional import needed

_EXTRA = "vision"


def torchvision_model(name: str, classes: int = 1000) -> nn.Module:
    """A torchvision classifier, for example "resnet18": images (B, 3, H, W) to logits (B, classes).

    Raises:
        ConfigError: no torchvision, or it has no model of this name.
    """
    models = needed("torchvision.models", _EXTRA, "model")
    if name not in models.list_models():
        raise _unknown("torchvision", name)
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    return model


def timm_model(name: str, classes: int = 1000, pretrained: bool = False, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A timm classifier, for example "vit_base_patch16_224": images (B, C, H, W) to logits (B, classes).

    Args:
        name: as for ``timm.create_model``.
        classes: the size of the last layer.
        pretrained: start from timm's weights, for `trak train`; other stages load the weights of a checkpoint.
        options: further arguments of ``timm.create_model``, such as img_size or in_chans.

    Raises:
        ConfigError: no timm, or it has no model of this name.
    """
    timm = needed("timm", _EXTRA, "model")
    if not timm.is_model(name):
        raise _unknown("timm", name)
    model: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=classes, **dict(options or {}))
    return model


def hf_image_classifier(
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    classes: int | None = None,
    pretrained: bool = False,
) -> nn.Module:
    """An image classifier of Hugging Face transformers: pixel values (B, C, H, W) to an output with logits (B, classes).

    Args:
        name: hub id or local folder of a model: its configuration is read from there.
        config: instead of a name, the configuration itself: {model_type: vit, hidden_size: 64, …}. Needs no hub.
        classes: number of classes; null: as the configuration says (``num_labels``).
        pretrained: start from the weights of ``name`` (safetensors only), for `trak train`; other stages load the
            weights of a checkpoint.

    Raises:
        ConfigError: no transformers, both name and config or neither, or no such configuration.
    """
    transformers = needed("transformers", _EXTRA, "model")
    settings = model_config(name, config, {} if classes is None else {"num_labels": classes})
    kind = transformers.AutoModelForImageClassification
    if pretrained:
        return pretrained_model(kind, name, settings)
    try:
        model: nn.Module = kind.from_config(settings)
    except ValueError as error:
        found = f"the model type {settings.model_type!r}, which has no image classifier"
        raise ConfigError(Problem("model config", found, "a type such as resnet, vit or swin", "correct it")) from error
    return model


def _unknown(library: str, name: str) -> ConfigError:
    return ConfigError(Problem("model.name", repr(name), f"a model that {library} has", "correct the name"))
