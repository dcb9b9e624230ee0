"""Sums of terms with random signs, whose gradients stand for those of the single terms.

Where f = Σ_t f_t (sums over tokens), the Gram matrix of the single terms, Σ_i Σ_t g_it g_itᵀ, is a better curvature than that
of the whole sums. It needs no gradient of a single term: with independent random signs σ_it, z_i = ∇ Σ_t σ_it f_t has

    E[z_i z_iᵀ] = Σ_t g_it g_itᵀ,

for the products of different terms cancel. One more backward pass for each sample is all that it costs.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem

#: Of the definition of the signs; part of what determines the values in a store.
SIGNS_VERSION = 1

#: The constants of SplitMix64, as int64.
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


class Terms(Protocol):
    """The part of a task that is needed here."""

    def terms(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The terms whose sum is f, (B, T), and which of them exist, (B, T) bool."""


class Signed:
    """The output function Σ_t σ_t f_t; its batches are pairs: a batch of the task, and the rows of its samples (B,) int64.

    In place of q it tells how many terms each sample has. A term is numbered among those of its sample that exist, so that no
    padding, on either side, changes its sign.
    """

    def __init__(self, task: Terms, sha256: str) -> None:
        """``sha256``: of the checkpoint, in hexadecimal: another one has other signs."""
        self._task = task
        self._seed = int.from_bytes(bytes.fromhex(sha256)[:8], "little", signed=True)
        self._last: tuple[Any, Tensor] | None = None  # of the last call of output: batch, number of terms

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """The signed sum, (B,), differentiable in the parameters."""
        inner, rows = batch
        terms, exist = checked_terms(self._task.terms(model, inner))
        signs = signs_of(rows.unsqueeze(1), exist.long().cumsum(1), self._seed).to(terms.dtype)
        self._last = (batch, exist.sum(1))
        return (terms * signs).where(exist, 0.0).sum(1)

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """How many terms each sample has, (B,) float32, whatever dtype the terms have."""
        del output
        last, self._last = self._last, None
        if last is not None and last[0] is batch:
            return last[1].float()
        _, exist = checked_terms(self._task.terms(model, batch[0]))
        return exist.sum(1).float()


def signs_of(rows: Tensor, numbers: Tensor, seed: int) -> Tensor:
    """1 or −1, int64, for each pair of a row and the number of a term (int64, broadcast), under a seed of 64 bits.

    A pure function of the three, by SplitMix64 twice over, in operations that vmap and every device take alike.
    """
    bits = _mixed(_mixed(rows * _STEP + seed) + numbers * _STEP)
    return 1 - 2 * (bits & 1)


def checked_terms(found: Any) -> tuple[Tensor, Tensor]:
    """What a task's ``terms`` gave.

    Raises:
        InputError: no floating (B, T) with bool (B, T).
    """
    if isinstance(found, tuple) and len(found) == 2 and all(isinstance(one, Tensor) for one in found):
        terms, exist = found
        if terms.dim() == 2 and terms.is_floating_point() and exist.shape == terms.shape and exist.dtype == torch.bool:
            return terms, exist
        told = " and ".join(f"{one.dtype} {tuple(one.shape)}" for one in found)
    else:
        told = type(found).__name__
    expected = "two tensors (B, T): the terms, floating, and which of them exist, bool"
    raise InputError(Problem("task.terms", told, expected, "mend the task, or set gradients.terms=false"))


def _mixed(x: Tensor) -> Tensor:
    """The output function of SplitMix64: all bits of every number depend on all."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """The bits of int64 moved to the right, with zeros coming in."""
    return (x >> by) & ((1 << (64 - by)) - 1)
