"""Contrastive models of image–text pairs (CLIP): f is the log-odds of the pair among other pairs, in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.tasks.margin import widened
from trak_cli.tasks.quality import Quality
from trak_cli.tasks.task import Task, field, weighted_mean

_Context = tuple[Tensor, Tensor, Tensor]


class Contrastive(Task):
    """One image and its caption against the embeddings of other pairs, a simulated batch (TRAK, section 5.1).

    With unit embeddings φ of images and ψ of captions, the inverse temperature τ = exp(logit_scale) of the model,
    and a set S of other pairs, fixed for each checkpoint:

        f₁ = τ φ(x)·ψ(y) − log Σ_{(x', y') ∈ S} exp(τ φ(x)·ψ(y'))     (image -> caption)
        f₂ = τ φ(x)·ψ(y) − log Σ_{(x', y') ∈ S} exp(τ φ(x')·ψ(y))     (caption -> image)
        f  = f₁ + f₂,    q = 1 − (p₁ + p₂) / 2,    p = sigmoid(f₁), sigmoid(f₂)

    S is a uniform sample of the training set, drawn by ``seed``; its embeddings are constants. A pair that is in S is left
    out of its own sums; pairs are identified by their keys.

    The model is a CLIPModel of Hugging Face transformers, or anything with its ``get_image_features``,
    ``get_text_features`` and ``logit_scale``. For another, override :meth:`images` and :meth:`captions`.

    Args:
        others: size of S (at most the size of the training set).
        seed: draws S.
        pixels, tokens: parts of the batch: pixel values (B, C, H, W), token ids (B, L).
        mask: the part with the attention mask (B, L); null: the text model is causal and needs no mask.
        key: the identity of a pair, (B,) int64, the same for equal pairs in every split.

    Raises:
        ConfigError: fewer than two others.
    """

    def __init__(
        self,
        others: int = 300,
        seed: int = 0,
        pixels: int | str = "pixel_values",
        tokens: int | str = "input_ids",
        mask: int | str | None = "attention_mask",
        key: int | str = "key",
    ) -> None:
        if others < 2:
            raise ConfigError(Problem("task.others", str(others), "2 or more", "give task.others=300"))
        self.others, self.seed = others, seed
        self.pixels, self.tokens, self.mask, self.key = pixels, tokens, mask, key
        self._context: _Context | None = None

    def images(self, model: nn.Module, batch: Any) -> Tensor:
        """Embeddings of the images, (B, d), not normalised."""
        model_: Any = model
        return _embedding(model_.get_image_features(pixel_values=field(batch, self.pixels)))

    def captions(self, model: nn.Module, batch: Any) -> Tensor:
        """Embeddings of the captions, (B, d), not normalised."""
        model_: Any = model
        mask = {} if self.mask is None else {"attention_mask": field(batch, self.mask)}
        return _embedding(model_.get_text_features(input_ids=field(batch, self.tokens), **mask))

    def margins(self, model: nn.Module, batch: Any) -> Tensor:
        """f₁ and f₂ of every pair, (B, 2)."""
        if self._context is None:
            raise RuntimeError("Contrastive.bind must come before outputs")
        images, captions, keys = self._context
        x, y = self._unit(model, batch)
        scale = _scale(model)
        own = scale * (x * y).sum(dim=-1)
        same = field(batch, self.key).unsqueeze(-1) == keys
        sums = [
            torch.logsumexp((scale * one @ others.T).masked_fill(same, -torch.inf), dim=-1)
            for one, others in ((x, captions), (y, images))
        ]
        return own.unsqueeze(-1) - torch.stack(sums, dim=-1)

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """f₁ + f₂, (B,)."""
        return self.margins(model, batch).sum(dim=-1)

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """1 − (p₁ + p₂) / 2, (B,). p₁ and p₂ do not follow from f, so this takes a second forward pass."""
        del output
        return 1 - torch.sigmoid(self.margins(model, batch)).mean(dim=-1)

    def predictions(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """f₁ and f₂, the log-odds in both directions."""
        margins = self.margins(model, batch)
        return margins, torch.ones_like(margins, dtype=torch.bool)

    def quality(self, model: nn.Module, batches: Iterable[Any]) -> Quality:
        """The share of f₁ > 0 and f₂ > 0: the other half of the pair is likelier than all others together."""
        margins = torch.cat([self.margins(model, batch).detach() for batch in batches])
        return Quality("share of f > 0", float((margins > 0).double().mean()), 1.0)

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        """CLIP's loss within the batch, (B,): of each pair, the mean cross entropy of both directions."""
        return _pair_losses(self._logits(model, batch))

    def weighted_loss(self, model: nn.Module, batch: Any, weights: Tensor) -> Tensor:
        """Σ_i w_i ℓ_i / B, where each pair also counts with its weight among the other pairs that ℓ_i compares pair i with.

        A pair of weight 0 is in no sum, as if it were not in the batch.
        """
        logits = self._logits(model, batch)
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        present = weights.to(logits.dtype).expand_as(logits).masked_fill(own, 1.0)
        return weighted_mean(_pair_losses(logits, present.log()), weights)

    def _logits(self, model: nn.Module, batch: Any) -> Tensor:
        """τ φ(x)·ψ(y) of every image with every caption of the batch, (B, B)."""
        x, y = self._unit(model, batch)
        return _scale(model) * x @ y.T

    def context_rows(self, rows: int) -> Sequence[int]:
        """The pairs of S: a uniform sample without replacement, ascending; the same on every machine."""
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(self.seed))
        return sorted(order[: self.others].tolist())

    def context(self, model: nn.Module, batches: Iterable[Any]) -> Mapping[str, Tensor]:
        """Unit embeddings of S, "images" and "captions" (N, d) float32, and "keys" (N,) int64."""
        parts = [(*self._unit(model, batch), field(batch, self.key)) for batch in batches]
        images, captions, keys = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return {"images": images, "captions": captions, "keys": keys}

    def bind(self, context: Mapping[str, Tensor]) -> None:
        """Use these embeddings in all later outputs."""
        self._context = (context["images"], context["captions"], context["keys"])

    def validate(self, model: nn.Module, batch: Any) -> None:
        """Keys must be integers, (B,).

        Raises:
            InputError: other keys.
        """
        del model
        keys = field(batch, self.key)
        if not isinstance(keys, Tensor) or keys.dim() != 1 or keys.is_floating_point():
            found = f"{keys.dtype} {tuple(keys.shape)}" if isinstance(keys, Tensor) else type(keys).__name__
            remedy = "return one int per sample from the dataset"
            raise InputError(Problem(f"batch part {self.key!r}", found, "int64 keys, (B,)", remedy))

    def _unit(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        x, y = (widened(one) for one in (self.images(model, batch), self.captions(model, batch)))
        return x / x.norm(dim=-1, keepdim=True), y / y.norm(dim=-1, keepdim=True)


class OpenCLIP(Contrastive):
    """Like :class:`Contrastive`, for models of open_clip, with ``encode_image``, ``encode_text`` and ``logit_scale``.

    Args: as of :class:`Contrastive`; the text models are causal and take no mask.
    """

    def images(self, model: nn.Module, batch: Any) -> Tensor:
        """Embeddings of the images, (B, d)."""
        model_: Any = model
        return _embedding(model_.encode_image(field(batch, self.pixels)))

    def captions(self, model: nn.Module, batch: Any) -> Tensor:
        """Embeddings of the captions, (B, d)."""
        model_: Any = model
        return _embedding(model_.encode_text(field(batch, self.tokens)))


def _pair_losses(logits: Tensor, log_weights: Tensor | None = None) -> Tensor:
    """The mean cross entropy of both directions of each pair, (B,), for logits (B, B); exp(log_weights) weights the others."""
    right = torch.arange(len(logits), device=logits.device)
    directions = [logits, logits.T] if log_weights is None else [logits + log_weights, logits.T + log_weights]
    first, second = (nn.functional.cross_entropy(one, right, reduction="none") for one in directions)
    return (first + second) / 2


def _scale(model: nn.Module) -> Tensor:
    """τ of the model. It is a parameter, so f is differentiated through it too."""
    scale = getattr(model, "logit_scale", None)
    if not isinstance(scale, Tensor):
        found = f"{type(model).__name__} without logit_scale"
        raise InputError(Problem("model", found, "a contrastive model", "use another task or model"))
    return widened(scale).exp()


def _embedding(found: Any) -> Tensor:
    """The model's return value, or its attribute ``pooler_output``, after checking that it is (B, d)."""
    value = getattr(found, "pooler_output", found)
    if not isinstance(value, Tensor) or value.dim() != 2:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(Problem("embeddings", str(shape), "a tensor (B, d)", "override the task's images and captions"))
    return value
