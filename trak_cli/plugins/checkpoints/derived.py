"""Checkpoints derived from a checkpoint: cheap members of an ensemble, computed in memory and never written.

An ensemble of independently trained checkpoints gives better scores than one checkpoint; members that share a training are much
cheaper and give part of the improvement (Deng et al. 2024, "Efficient Ensembles Improve Training Data Attribution", arXiv
2405.17293, who use dropout). There are four ways to derive one from trained weights, each with one number, ``scale``:

- ``noise``: every parameter tensor W becomes W + scale · rms(W) · N(0, 1).
- ``dropout``: units are dropped with probability ``scale``, the same ones for all samples: in every weight with two axes or
  more, their rows and the entries of the bias become zero, and the other rows are divided by 1 − scale. The last layer keeps
  all its units, which are the outputs.
- ``mask``: single weights are dropped likewise (Wan et al. 2013, DropConnect).
- ``fresh``: the weights are blended with those of models that the plugin initialises anew. With c = √(1 − scale), W becomes
  c W + a A + b B, where A and B are two initialisations, a + b = 1 − c and a² + b² = 1 − c². So a weight that is random at
  initialisation keeps the variance of one, of which ``scale`` is fresh, and a weight that always starts from the same value
  moves toward it, by 1 − c of the way.

Every random number is a function of the checkpoint's digest, the member and, except for ``fresh``, the parameter's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from trak_cli.plugins.checkpoints.member import Member
from trak_cli.random_states import random_states_kept, set_random_states
from trak_cli.types import Float64


def derive(model: nn.Module, member: Member, digest: str, build: Callable[[], nn.Module]) -> None:
    """Turn a model with the weights of a checkpoint into a member, in place.

    Buffers stay: batch_statistics.py computes those that the new weights need.

    Args:
        digest: the result of :meth:`Member.digest` for that checkpoint.
        build: returns a new model, initialised with the global random numbers; called for ``fresh`` only.
    """
    with torch.no_grad():
        if member.kind == "fresh":
            _blend(model, member.scale, digest, build)
            return
        if member.kind == "dropout":
            _drop_units(model, member.scale, digest)
            return
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point():
                continue
            generator = _generator(digest, name)
            if member.kind == "noise":
                size = parameter.double().square().mean().sqrt().item()
                parameter.add_(_as(parameter, member.scale * size * generator.standard_normal(tuple(parameter.shape))))
            elif parameter.dim() > 1:
                parameter.mul_(_as(parameter, _kept(generator, tuple(parameter.shape), member.scale)))


def _blend(model: nn.Module, scale: float, digest: str, build: Callable[[], nn.Module]) -> None:
    """Frozen parameters stay as they are."""
    kept = (1 - scale) ** 0.5
    spread = (2 * scale - (1 - kept) ** 2) ** 0.5
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad and weight.is_floating_point()}
    blended = {name: kept * weight.double() for name, weight in weights.items()}
    for number, share in enumerate(((1 - kept + spread) / 2, (1 - kept - spread) / 2)):
        initial = dict(initialised(build, int(_generator(digest, f"fresh {number}").integers(2**63))).named_parameters())
        for name, total in blended.items():
            total.add_(initial[name].double(), alpha=share)
    for name, weight in weights.items():
        weight.copy_(blended[name])


def initialised(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A new model with the random numbers of a seed; the states of PyTorch, NumPy and Python are restored."""
    with random_states_kept():
        set_random_states(seed)
        return build()


def _drop_units(model: nn.Module, scale: float, digest: str) -> None:
    layers = [(name, module) for name, module in model.named_modules() if _is_layer(module)]
    done: set[int] = set()
    for name, module in layers[:-1]:
        weight, bias = module.weight, getattr(module, "bias", None)
        if id(weight) in done:  # a tied weight is dropped once
            continue
        done.add(id(weight))
        kept = _kept(_generator(digest, name), (len(weight),), scale)
        weight.mul_(_as(weight, kept.reshape(-1, *[1] * (weight.dim() - 1))))
        if isinstance(bias, Tensor):
            bias.mul_(_as(bias, kept))


def _is_layer(module: nn.Module) -> bool:
    """A layer whose weight has one row per unit (unlike an embedding, which has one per word)."""
    if isinstance(module, nn.Embedding | nn.modules.conv._ConvTransposeNd):
        return False
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() > 1 and weight.is_floating_point()


def _kept(generator: np.random.Generator, shape: tuple[int, ...], scale: float) -> Float64:
    kept: Float64 = (generator.random(shape) >= scale) / (1.0 - scale)
    return kept


def _generator(digest: str, name: str) -> np.random.Generator:
    key = hashlib.sha256(f"{digest} {name}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def _as(like: Tensor, values: Float64) -> Tensor:
    return torch.from_numpy(np.asarray(values)).to(like.device, like.dtype)
