"""The registry of gradient rules: which layer classes have per-sample parameter gradients in closed form, and these forms.

Notation of all rules: B is the number of samples, x the input of a layer and g = ∂(Σ_b f_b)/∂y the gradient at its output y.
Both have shape (B, c, …): samples come first, then the c neighbouring entries that each sample has along that axis (c = 1
unless the layer sees a flattened axis, such as (B · T, features), or is called several times). Because f_b depends on sample b
alone, g[b] is the gradient of f_b, and the gradient of a parameter for sample b is a sum over everything but b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.gradients.rules.recurrent import covers
from trak_cli.types import AnyBlock, Block, FactorBlock, RowBlock

#: Name of a parameter in the layer -> its canonical name in the model. It holds only the parameters that are wanted.
Names = Mapping[str, str]

Blocks = Iterator[Block | RowBlock]

#: (layer, x, g, names) -> the gradients of the parameters in ``names``; blocks with the same coordinates are added up.
Compute = Callable[[nn.Module, Tensor, Tensor, Names], Blocks]

#: (layer, x, g, canonical name of the weight) -> factors of the weight's gradient; blocks are added up.
Factors = Callable[[nn.Module, Tensor, Tensor, str], Iterator[FactorBlock]]

Function = TypeVar("Function", bound=Compute)


@dataclass(frozen=True)
class GradientRule:
    """One registered rule; see :func:`register_gradient_rule` for the fields."""

    layer: type[nn.Module] | str
    compute: Compute
    parameters: tuple[str, ...]
    where: Callable[[nn.Module], bool] | None
    factors: Factors | None
    forms: Mapping[str, Compute]
    batch_first: bool

    def applies_to(self, module: nn.Module) -> bool:
        """Whether this is a rule for ``module``."""
        kind = type(module)
        if isinstance(self.layer, str):
            matches = f"{kind.__module__}.{kind.__name__}" == self.layer
        else:
            matches = self.layer is nn.Module or (isinstance(module, self.layer) and kind.forward is self.layer.forward)
        return matches and (self.where is None or self.where(module))

    def form(self, name: str | None) -> Compute:
        """The form of this name, or the rule itself for None.

        Raises:
            InputError: there is no form of this name.
        """
        if name is not None and name not in self.forms:
            where = f"gradient rule {getattr(self.compute, '__qualname__', self.compute)}"
            known = f"one of {', '.join(self.forms)}" if self.forms else "a rule with forms"
            remedy = "use the trak and the extensions that made this store, or another store"
            raise InputError(Problem(where, f"no form {name!r}, which the run plan names", known, remedy))
        return self.compute if name is None else self.forms[name]


@dataclass(frozen=True)
class RuleCall:
    """The arguments of a rule for one call of a layer."""

    layer: nn.Module
    rule: GradientRule
    x: Tensor
    g: Tensor
    names: Names


#: In the order of registration; the last one that applies is used.
_RULES: list[GradientRule] = []


def register_gradient_rule(
    *layers: type[nn.Module] | str,
    parameters: tuple[str, ...] = ("weight", "bias"),
    where: Callable[[nn.Module], bool] | None = None,
    factors: Factors | None = None,
    forms: Mapping[str, Compute] | None = None,
    batch_first: bool = False,
) -> Callable[[Function], Function]:
    """Register the decorated function as the gradient rule of some layer classes.

    The function takes (layer, x, g, names), described at the top of this module, and yields per-sample gradients as
    :class:`~trak_cli.types.Block` or :class:`~trak_cli.types.RowBlock`, for every parameter in ``names``. The hooks engine
    compares the result with plain autograd on the first samples of a run, and uses another strategy for the layer if it
    differs. If several rules apply to a layer, the one registered last is used.

    Args:
        layers: classes, or full names of classes (``"package.module.Class"``, to avoid the import). A rule also applies to a
            subclass that inherits ``forward`` unchanged; a full name means that class alone. ``nn.Module`` stands for every
            module that ``where`` accepts.
        parameters: the parameters that the rule can compute, by their names in the layer.
        where: restricts the rule to layers for which this function returns True.
        factors: the weight's gradient as a sum of outer products, for ``projection=factored``, and for ``projection=sjlt`` if
            they are few. Outputs of the layer are the last axis of g, with ``batch_first`` the third.
        forms: other functions for the same gradients, by name. ``trak featurize`` times all of them for each layer, and the run
            plan names the one to use if it is faster than the decorated function.
        batch_first: the rule needs samples along the first axis of the layer's own input. By default another batch axis is
            moved to the front before the rule sees it.

    Raises:
        ValueError: no layer, or ``nn.Module`` without ``where``.
    """
    if not layers or (nn.Module in layers and where is None):
        raise ValueError("a gradient rule needs layer classes; nn.Module needs a condition, where=")

    def register(compute: Function) -> Function:
        _RULES.extend(GradientRule(layer, compute, parameters, where, factors, forms or {}, batch_first) for layer in layers)
        return compute

    return register


def rule_of(module: nn.Module) -> GradientRule | None:
    """The rule for a module, or None."""
    if hasattr(module, "parametrizations"):  # its weight is computed from other parameters
        return None
    return next((rule for rule in reversed(_RULES) if rule.applies_to(module)), None)


def has_rule(module: nn.Module, parameter: str) -> bool:
    """Whether a gradient rule, or the code for recurrent layers, computes this parameter of a module.

    The output layer of ``nn.MultiheadAttention`` has none: attention reads its weights and never calls it.
    """
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear) or _is_complex(module):
        return False
    rule = rule_of(module)
    return parameter in rule.parameters if rule is not None else covers(module, parameter)


def factors_of(module: nn.Module) -> Factors | None:
    """The function that factors the gradient of a module's weight, or None."""
    rule = rule_of(module)
    return rule.factors if rule is not None and not _is_complex(module) else None


def _is_complex(module: nn.Module) -> bool:
    return any(parameter.is_complex() for parameter in module.parameters(recurse=False))


def check_block(block: AnyBlock, rule: GradientRule, sizes: Mapping[str, int]) -> None:
    """Refuse a block of another parameter, or of coordinates that its parameter does not have.

    Args:
        sizes: canonical name -> coordinates of each parameter that the rule was asked for.

    Raises:
        InputError: the block does not fit.
    """
    size = sizes.get(block.name, 0)
    if isinstance(block, Block):
        fits = block.gradient.dim() == 2 and 0 <= block.offset <= block.offset + block.gradient.shape[1] <= size
    else:
        fits = (
            isinstance(block, RowBlock) and block.values.dim() == 2 and size > 0 and size % max(block.values.shape[1], 1) == 0
        )
    if not fits:
        known = ", ".join(f"{name} ({size:,} coordinates)" for name, size in sizes.items())
        found = f"a block for {block.name!r} that does not fit"
        where = f"gradient rule {getattr(rule.compute, '__qualname__', rule.compute)}"
        raise InputError(Problem(where, found, f"blocks (B, d) for {known}", "fix the rule, or use gradients=loop"))
