"""Which parameters are attributed: glob patterns over canonical parameter names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import Tensor, nn

from trak_cli.autograd_settings import differentiable
from trak_cli.errors import ConfigError, Problem


def select(model: nn.Module, include: Sequence[str], exclude: Sequence[str] = ()) -> dict[str, Tensor]:
    """The trainable parameters that match a pattern of ``include`` and none of ``exclude``.

    Patterns are shell globs (``*`` also matches dots), compared with case. A tied weight is listed once, under its
    canonical name (the first in ``model.named_parameters()``), and matches under any of its names. Frozen parameters
    (``requires_grad`` False) are never selected. A complex parameter counts as pairs of real ones.

    Returns:
        canonical name -> the parameter itself, in the order of ``model.named_parameters()``.

    Raises:
        ConfigError: a pattern that matches nothing, or nothing selected; all problems at once.
    """
    names = _names(model)
    problems = _idle("parameters.include", include, names) + _idle("parameters.exclude", exclude, names)
    chosen: dict[str, Tensor] = {}
    for canonical, parameter in model.named_parameters():
        aliases = names[canonical]
        if parameter.requires_grad and _any(include, aliases) and not _any(exclude, aliases):
            chosen[canonical] = parameter
    if not chosen and not problems:
        frozen = sum(not parameter.requires_grad for parameter in model.parameters())
        found = f"no parameter selected of {len(names)} ({frozen} frozen)"
        remedy = "widen include, or shorten exclude"
        problems.append(Problem("parameters.include", found, "at least one trainable parameter", remedy))
    ConfigError.raise_for(problems)
    return chosen


@contextmanager
def only(model: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, only ``parameters`` require gradients, so that autograd computes no others, and ``model`` is differentiable.

    Afterwards the flags are restored.
    """
    wanted = {id(parameter) for parameter in parameters.values()}
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
        with differentiable(model):
            yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


def _names(model: nn.Module) -> dict[str, list[str]]:
    """Canonical name -> all names of the same parameter, the canonical one first."""
    canonical: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(canonical.setdefault(id(parameter), name), []).append(name)
    return names


def _any(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _idle(key: str, patterns: Sequence[str], names: dict[str, list[str]]) -> list[Problem]:
    """A problem for each pattern that matches no parameter, with similar names."""
    every = [name for aliases in names.values() for name in aliases]
    problems = []
    for pattern in patterns:
        if not _any([pattern], every):
            close = get_close_matches(pattern.strip("*"), every, n=3, cutoff=0.4) or every[:3]
            expected = f"a pattern over parameter names such as {', '.join(close)}" if close else "a model with parameters"
            problems.append(Problem(key, f"{pattern!r}, which matches no parameter", expected, "correct the pattern"))
    return problems
