"""The contrastive task on a tiny CLIPModel: the formula against softmax probabilities, engines against the loop, padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gradient_oracle import cosine, gradient_inside
from torch import Tensor, nn

from trak_cli.errors import ConfigError, InputError
from trak_cli.gradients.checks.compare import difference, gradient_of
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.plugins import hf_clip
from trak_cli.tasks import Contrastive, OpenCLIP

BOS, EOS, LENGTH = 48, 49, 12

CONFIG = {
    "projection_dim": 8,
    "text_config": {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": 0,
    },
    "vision_config": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    },
}


def pairs(lengths: tuple[int, ...] = (5, 12, 7, 3), seed: int = 0, filling: int = 0, length: int = LENGTH) -> dict[str, Tensor]:
    """Random images with captions of different lengths, filled up to one."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(len(lengths), 3, 8, 8, generator=generator)
    ids = torch.randint(1, 40, (len(lengths), LENGTH), generator=generator)[:, :length].clone()
    mask = torch.ones_like(ids)
    for row, count in enumerate(lengths):
        ids[row, 0], ids[row, count - 1] = BOS, EOS
        ids[row, count:], mask[row, count:] = filling, 0
    return {"pixel_values": images, "input_ids": ids, "attention_mask": mask, "key": torch.arange(len(lengths)) + 10 * seed}


@pytest.fixture
def model() -> nn.Module:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    return hf_clip(config=CONFIG).eval()


def bound(model: nn.Module, **arguments: Any) -> Contrastive:
    """A task that knows four other pairs."""
    task = Contrastive(**arguments)
    with torch.no_grad():
        task.bind(task.context(model, [pairs(seed=1)]))
    return task


def embeddings(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Unit embeddings as the model itself computes them."""
    found = model(**{name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask")})
    return found.image_embeds, found.text_embeds


def test_margins_are_log_odds_of_the_pair_in_the_simulated_batch(model: nn.Module) -> None:
    """The oracle forms both softmax probabilities over the pair and the others, one pair at a time."""
    task, batch = bound(model), pairs()
    (images, captions), (other_images, other_captions) = embeddings(model, batch), embeddings(model, pairs(seed=1))
    scale = model.logit_scale.exp()
    outputs, ratios = task.output(model, batch).detach(), task.out_to_loss_grad(model, batch, torch.zeros(4)).detach()
    for i in range(4):
        columns = torch.cat([captions[i, None], other_captions])
        rows = torch.cat([images[i, None], other_images])
        p = torch.stack([(scale * images[i] @ columns.T).softmax(0)[0], (scale * captions[i] @ rows.T).softmax(0)[0]]).detach()
        assert float(outputs[i]) == pytest.approx(float(torch.log(p / (1 - p)).sum()), rel=1e-4)
        assert float(ratios[i]) == pytest.approx(float(1 - p.mean()), rel=1e-4)


def test_a_pair_is_not_its_own_competitor(model: nn.Module) -> None:
    """A pair that is among the others has the output that it has without its own entry there."""
    task, batch = Contrastive(), pairs()
    with torch.no_grad():
        context = task.context(model, [pairs(), pairs(seed=1)])
        task.bind(context)
        found = task.output(model, batch)
        for i in range(4):
            rest = [j for j in range(8) if j != i]
            task.bind({name: value[rest] for name, value in context.items()})
            assert float(task.output(model, batch)[i]) == pytest.approx(float(found[i]), rel=1e-5)


def test_the_context_does_not_depend_on_how_it_is_batched(model: nn.Module) -> None:
    task, batch = Contrastive(), pairs()
    with torch.no_grad():
        whole = task.context(model, [batch])
        parts = task.context(model, [{name: value[i : i + 1] for name, value in batch.items()} for i in range(4)])
    for name in ("images", "captions", "keys"):
        assert torch.allclose(whole[name], parts[name], atol=1e-6), name
    assert torch.allclose(whole["images"].norm(dim=1), torch.ones(4))


def test_the_others_are_a_uniform_sample_by_seed() -> None:
    task = Contrastive(others=5)
    rows = task.context_rows(100)
    assert rows == sorted(set(rows))
    assert len(rows) == 5
    assert rows == Contrastive(others=5).context_rows(100)
    assert rows != Contrastive(others=5, seed=1).context_rows(100)
    assert list(Contrastive(others=5).context_rows(3)) == [0, 1, 2]
    counts = torch.zeros(20)
    for seed in range(400):
        counts[list(Contrastive(others=5, seed=seed).context_rows(20))] += 1
    assert (counts - 100).abs().max() < 6 * 100**0.5 * 0.75**0.5  # each row: binomial, 400 draws of probability 1/4


@pytest.mark.parametrize("name", ["hooks", "vmap"])
def test_engines_agree_with_the_loop(model: nn.Module, name: str) -> None:
    task, batch = bound(model), pairs()
    parameters = select(model, ["*"])
    strategies = find_strategies(model, task, parameters, batch) if name == "hooks" else None
    engine, loop = make_engine(name, model, task, parameters, strategies), make_engine("loop", model, task, parameters)
    assert torch.allclose(engine.per_sample(batch).out_to_loss, loop.per_sample(batch).out_to_loss, atol=1e-5)
    for position in (0, 3):
        expected = gradient_of(parameters, loop.per_sample(batch).blocks, position)
        assert difference(gradient_of(parameters, engine.per_sample(batch).blocks, position), expected) < 1e-5


def test_every_parameter_counts_the_temperature_too(model: nn.Module) -> None:
    parameters = select(model, ["*"])
    gradient = gradient_inside(model, bound(model), parameters, pairs(), 0)
    assert all(float(gradient[name].abs().sum()) > 0 for name in ("logit_scale", "visual_projection.weight"))


@pytest.mark.parametrize("change", ["alone", "shorter filling", "other filling", "no mask"])
def test_neighbours_and_padding_do_not_matter(model: nn.Module, change: str) -> None:
    task, lengths = bound(model), (5, 8, 7, 3)
    parameters = select(model, ["*"])
    batch = pairs(lengths)
    for position in range(4):
        expected = gradient_inside(model, task, parameters, batch, position)
        if change == "alone":
            one = {name: value[position : position + 1] for name, value in batch.items()}
            found = gradient_inside(model, task, parameters, one, 0)
        else:
            variant = {"shorter filling": {"length": 8}, "other filling": {"filling": 7}, "no mask": {}}[change]
            if change == "no mask":
                task.mask = None
            found = gradient_inside(model, task, parameters, pairs(lengths, **variant), position)
        assert cosine(found, expected) > 0.99999


def test_the_loss_is_the_models_own(model: nn.Module) -> None:
    batch = pairs()
    inputs = {name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask")}
    expected = float(model(**inputs, return_loss=True).loss.detach())
    assert float(Contrastive().loss(model, batch).detach()) == pytest.approx(expected, rel=1e-5)


class DualEncoder(nn.Module):
    """A model with open_clip's two methods."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(192, 4), nn.Embedding(50, 4)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def encode_image(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.image(pixels.flatten(1))
        return found

    def encode_text(self, ids: Tensor) -> Tensor:
        found: Tensor = self.text(ids).mean(dim=1)
        return found


def test_models_of_open_clip() -> None:
    torch.manual_seed(0)
    model, task = DualEncoder().eval(), OpenCLIP()
    with torch.no_grad():
        task.bind(task.context(model, [pairs(seed=1)]))
    x, y = model.encode_image(pairs()["pixel_values"]), model.encode_text(pairs()["input_ids"])
    others = nn.functional.normalize(model.encode_text(pairs(seed=1)["input_ids"]), dim=1)
    scale, x = model.logit_scale.exp(), nn.functional.normalize(x, dim=1)
    own, rest = scale * nn.functional.cosine_similarity(x, y), scale * x @ others.T
    assert torch.allclose(task.margins(model, pairs())[:, 0], own - rest.logsumexp(dim=1), atol=1e-5)
    engine = make_engine("vmap", model, task, select(model, ["*"]))
    assert torch.allclose(engine.per_sample(pairs()).outputs, task.output(model, pairs()), atol=1e-5)


def test_a_model_that_is_not_contrastive_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.others"):
        Contrastive(others=1)
    model = DualEncoder()
    del model.logit_scale
    with pytest.raises(InputError, match="without logit_scale"):
        OpenCLIP().loss(model, pairs())
    with pytest.raises(InputError, match="int64 keys"):
        Contrastive().validate(model, {**pairs(), "key": torch.ones(4)})
    with pytest.raises(RuntimeError, match="bind"):
        OpenCLIP().output(DualEncoder(), pairs())
