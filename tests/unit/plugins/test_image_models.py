"""Image models by name: engines agree, samples do not mix, and the message on a missing package names its extra."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from gradient_oracle import cosine, gradient_inside
from torch import nn

from trak_cli.errors import ConfigError
from trak_cli.gradients.checks.compare import difference, gradient_of
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.plugins import hf_image_classifier, timm_model, torchvision_model
from trak_cli.tasks import Classification

RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}


def batch(size: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, 32, 32, generator=generator), torch.arange(size) % 4


def built(config: dict[str, Any]) -> nn.Module:
    pytest.importorskip("transformers")
    torch.manual_seed(1)
    return hf_image_classifier(config=config, classes=4).eval()


@pytest.mark.parametrize("config", [RESNET, VIT], ids=lambda config: config["model_type"])
def test_engines_agree_on_hugging_face_models(config: dict[str, Any]) -> None:
    model, task = built(config), Classification()
    parameters = select(model, ["*"])
    for name in ("hooks", "vmap"):
        strategies = find_strategies(model, task, parameters, batch()) if name == "hooks" else None
        engine, loop = make_engine(name, model, task, parameters, strategies), make_engine("loop", model, task, parameters)
        for position in range(3):
            found = gradient_of(parameters, engine.per_sample(batch()).blocks, position)
            assert difference(found, gradient_of(parameters, loop.per_sample(batch()).blocks, position)) < 1e-5


@pytest.mark.parametrize("config", [RESNET, VIT], ids=lambda config: config["model_type"])
def test_a_sample_alone_and_in_a_batch(config: dict[str, Any]) -> None:
    model, task = built(config), Classification()
    parameters = select(model, ["*"])
    images, labels = batch()
    for position in range(3):
        alone = gradient_inside(model, task, parameters, (images[position, None], labels[position, None]), 0)
        assert cosine(alone, gradient_inside(model, task, parameters, (images, labels), position)) > 0.99999


def test_the_number_of_classes_is_the_configs_or_the_arguments() -> None:
    pytest.importorskip("transformers")
    assert hf_image_classifier(config={**VIT, "num_labels": 7})(batch()[0]).logits.shape == (3, 7)
    assert hf_image_classifier(config={**VIT, "num_labels": 7}, classes=5)(batch()[0]).logits.shape == (3, 5)


def test_a_local_folder_provides_the_configuration_and_on_request_the_weights(tmp_path: Path) -> None:
    model = built(VIT)
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    torch.manual_seed(2)
    fresh, trained = hf_image_classifier(str(tmp_path)), hf_image_classifier(str(tmp_path), pretrained=True)
    expected = model.state_dict()
    assert fresh.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in trained.state_dict().items())
    assert not all(torch.equal(value, expected[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({}, "model"),
        ({"name": "a", "config": VIT}, "model"),
        ({"config": {"model_type": "no such type"}}, "model.config"),
        ({"config": {}}, "model.config"),
        ({"config": {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1}}, "model config"),
        ({"config": VIT, "pretrained": True}, "model.pretrained"),
    ],
)
def test_a_model_that_is_not_an_image_classifier_is_refused(arguments: dict[str, Any], where: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError) as caught:
        hf_image_classifier(**arguments)
    assert [problem.where for problem in caught.value.problems] == [where]


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match=r"folder with config\.json"):
        hf_image_classifier(str(tmp_path))


@pytest.mark.parametrize("missing", ["torchvision", "timm", "transformers"])
def test_a_missing_package_names_the_extra_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "torchvision.models", raising=False)
    build = {"torchvision": torchvision_model, "timm": timm_model, "transformers": hf_image_classifier}[missing]
    with pytest.raises(ConfigError, match=rf"{missing}.*trak-cli\[vision\]"):
        build("some-model")


def test_a_package_built_for_another_pytorch_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be imported \(operator torchvision::nms"):
        timm_model("resnet18")


def test_torchvision_and_timm_get_the_right_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins with the two functions that are called; the libraries themselves are tested below, where they import."""
    asked: list[Any] = []
    for name, module in (("torchvision", ModuleType("torchvision")), ("timm", ModuleType("timm"))):
        monkeypatch.setitem(sys.modules, name, module)
    models = ModuleType("torchvision.models")
    models.list_models = lambda: ["resnet18"]  # type: ignore[attr-defined]
    models.get_model = lambda name, **more: asked.append((name, more)) or nn.Identity()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    timm: Any = sys.modules["timm"]
    timm.is_model = lambda name: name == "vit"
    timm.create_model = lambda name, **more: asked.append((name, more)) or nn.Identity()
    torchvision_model("resnet18", classes=10)
    timm_model("vit", classes=10, options={"img_size": 32})
    assert asked == [
        ("resnet18", {"weights": None, "num_classes": 10}),
        ("vit", {"pretrained": False, "num_classes": 10, "img_size": 32}),
    ]
    for build in (torchvision_model, timm_model):
        with pytest.raises(ConfigError, match="no-such-model"):
            build("no-such-model")


def test_torchvision_where_it_is_installed() -> None:
    pytest.importorskip("torchvision", exc_type=ImportError)
    assert torchvision_model("resnet18", classes=4).eval()(batch()[0]).shape == (3, 4)


def test_timm_where_it_is_installed() -> None:
    pytest.importorskip("timm", exc_type=ImportError)
    assert timm_model("resnet18", classes=4).eval()(batch()[0]).shape == (3, 4)
