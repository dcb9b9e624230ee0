"""Sums of per-token terms with random signs, whose gradients estimate the Gram matrix of the terms' gradients.

If f = Σ_t f_t (a sum over tokens), the Gram matrix of the per-token gradients, Σ_i Σ_t g_it g_itᵀ, is a better curvature than
that of the gradients of the sums. It can be estimated without the gradient of any single term: with independent random signs
σ_it and z_i = ∇ Σ_t σ_it f_t,

    E[z_i z_iᵀ] = Σ_t g_it g_itᵀ,

because the products of different terms cancel in expectation. The cost is one more backward pass per sample.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem

#: Version of the definition of the signs; part of the fingerprint of a store.
SIGNS_VERSION = 1

#: The constants of SplitMix64, as int64.
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


class TokenTerms(Protocol):
    """The part of a task that signed sums need."""

    def terms(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The per-token terms whose sum is f, (B, T), and which of them exist, (B, T) bool."""


class SignedTokenSum:
    """The output function Σ_t σ_t f_t. A batch is a pair: a batch of the task, and the row numbers of its samples, (B,) int64.

    ``out_to_loss_grad`` returns the number of terms of each sample instead of q. Only terms that exist are numbered, so
    padding on either side does not change their signs.
    """

    def __init__(self, task: TokenTerms, sha256: str) -> None:
        """``sha256``: of the checkpoint, in hexadecimal; each checkpoint has its own signs."""
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
        """The number of terms of each sample, (B,) float32, whatever the dtype of the terms."""
        del output
        last, self._last = self._last, None
        if last is not None and last[0] is batch:
            return last[1].float()
        _, exist = checked_terms(self._task.terms(model, batch[0]))
        return exist.sum(1).float()


def signs_of(rows: Tensor, numbers: Tensor, seed: int) -> Tensor:
    """1 or −1, int64, for each pair of a row and the number of a term (int64, broadcast), under a 64-bit seed.

    A pure function of the three.
    """
    return 1 - 2 * (random_bits(rows, numbers, seed) & 1)


def random_bits(rows: Tensor, numbers: Tensor, seed: int) -> Tensor:
    """Random int64 for each pair of a row and a number (int64, broadcast), under a 64-bit seed.

    A pure function of the three: SplitMix64 applied twice, in operations that vmap and every device support.
    """
    return _mixed(_mixed(rows * _STEP + seed) + numbers * _STEP)


def checked_terms(result: Any) -> tuple[Tensor, Tensor]:
    """The result of a task's ``terms``, if it has the right form.

    Raises:
        InputError: it is not a floating (B, T) and a bool (B, T).
    """
    if isinstance(result, tuple) and len(result) == 2 and all(isinstance(item, Tensor) for item in result):
        terms, exist = result
        if terms.dim() == 2 and terms.is_floating_point() and exist.shape == terms.shape and exist.dtype == torch.bool:
            return terms, exist
        found = " and ".join(f"{item.dtype} {tuple(item.shape)}" for item in result)
    else:
        found = type(result).__name__
    expected = "two tensors (B, T): the terms, floating, and which of them exist, bool"
    raise InputError(Problem("task.terms", found, expected, "fix the task, or set gradients.terms=false"))


def _mixed(x: Tensor) -> Tensor:
    """The output function of SplitMix64, which makes every bit depend on all bits."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """A logical right shift of int64."""
    return (x >> by) & ((1 << (64 - by)) - 1)
