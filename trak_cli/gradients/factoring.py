"""Which gradients of weights the hooks engine gives as sums of outer products."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from trak_cli.gradients.rules.pieces import MOST_BYTES
from trak_cli.gradients.rules.registry import GradientRule


@dataclass(frozen=True)
class Factoring:
    """The gradients that are given as factors (:class:`~trak_cli.types.FactorBlock`), by layers that support it.

    Attributes:
        always: names of parameters.
        terms: the gradient of any other weight is given as factors if it is a sum of at most this many outer products per
            sample, and all inputs of these fit into one piece. A projection that reads factors then never writes the gradient.
    """

    always: Collection[str] = ()
    terms: int = 0

    def applies(self, rule: GradientRule, g: Tensor, name: str, weight: Tensor) -> bool:
        """Whether the gradient of a weight comes as factors, for g (B, c, …) at the outputs of its layer."""
        if rule.factors is None or name in self.always:
            return rule.factors is not None
        terms = g[0].numel() // max(g.shape[2 if rule.batch_first else -1], 1)
        inputs = len(g) * terms * (weight.numel() // max(len(weight), 1))
        return terms <= self.terms and inputs * g.element_size() <= MOST_BYTES[g.device.type]


#: No gradient is given as factors.
NONE = Factoring()
