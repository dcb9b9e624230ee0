"""Complex parameters count as pairs of real ones: the gradients, and so the features, are those of a model with such pairs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.unit.gradients.gathering import Sum, engine_of
from trak_cli.gradients.checks.agreement import check_agreement
from trak_cli.gradients.checks.compare import gradient_of
from trak_cli.gradients.contract import coordinates
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.adam import SecondMoments
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec


class Spectral(nn.Module):
    """Multiplies the Fourier transform of its input by complex weights, between real layers."""

    def __init__(self, pairs: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        self.weight = parameter(torch.randn(5, dtype=torch.complex64), pairs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(torch.fft.irfft(torch.fft.rfft(torch.tanh(self.first(x))) * as_complex(self.weight), n=8))
        return found


class Phase(nn.Module):
    """A complex matrix and a complex scalar, whose squared magnitude is the output."""

    def __init__(self, pairs: bool) -> None:
        super().__init__()
        self.weight = parameter(torch.randn(3, 6, dtype=torch.complex64), pairs)
        self.shift = parameter(torch.randn((), dtype=torch.complex64), pairs)

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.complex64) @ as_complex(self.weight).T + as_complex(self.shift)).abs().square()


class Layer(nn.Module):
    """PyTorch's linear layer in complex numbers, used twice, with a conjugate; its pairs are multiplied by hand."""

    def __init__(self, pairs: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6, dtype=torch.complex64)
        if pairs:
            self.linear.weight, self.linear.bias = (parameter(one.detach(), True) for one in self.linear.parameters())

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = as_complex(self.linear.weight), as_complex(self.linear.bias)
        z = x.to(torch.complex64)
        if self.linear.weight.is_complex():
            return self.linear(self.linear(z).conj()).real
        return ((z @ weight.T + bias).conj() @ weight.T + bias).real


def parameter(value: Tensor, pairs: bool) -> nn.Parameter:
    return nn.Parameter(torch.view_as_real(value).clone() if pairs else value)


def as_complex(weight: Tensor) -> Tensor:
    return weight if weight.is_complex() else torch.view_as_complex(weight)


def both(kind: Callable[[bool], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """The model with complex parameters, and with pairs of the same values."""
    models = []
    for pairs in (False, True):
        torch.manual_seed(5)
        models.append(kind(pairs).eval())
    return models[0], models[1]


KINDS = [Spectral, Phase, Layer]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_pairs_of_real_parameters(kind: Callable[[bool], nn.Module], engine: str) -> None:
    (model, pairs), x = both(kind), torch.randn(4, 6)
    for position in range(4):
        expected = gradient_of(select(pairs, ["*"]), engine_of("loop", pairs, Sum(), x).per_sample(x).blocks, position)
        found = gradient_of(select(model, ["*"]), engine_of(engine, model, Sum(), x).per_sample(x).blocks, position)
        assert list(found) == list(expected)
        for name, gradient in expected.items():
            assert gradient.abs().max() > 0
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_pairs_of_real_parameters(kind: Callable[[bool], nn.Module], engine: str) -> None:
    x, features = torch.randn(4, 6), []
    for model in both(kind):
        sizes = {name: coordinates(value) for name, value in select(model, ["*"]).items()}
        projector = make_projector(ProjectionJob(ProjectionSpec("sjlt", 64, 3, 4), "0" * 64, sizes), "auto")
        features.append(projector.project(engine_of(engine, model, Sum(), x).per_sample(x).blocks))
    torch.testing.assert_close(*features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_second_moments_are_those_of_pairs_of_real_parameters(kind: Callable[[bool], nn.Module]) -> None:
    x, scales = torch.randn(4, 6), []
    for model in both(kind):
        moments = SecondMoments(select(model, ["*"]))
        moments.add(engine_of("loop", model, Sum(), x).per_sample(x))
        scales.append(moments.scales())
    for name, scale in scales[0].items():
        torch.testing.assert_close(scale.rows, scales[1][name].rows, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scale.columns, scales[1][name].columns, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["hooks", "vmap"])
def test_the_comparison_with_the_loop_covers_complex_parameters(engine: str) -> None:
    model, x = both(Spectral)[0], torch.randn(3, 6)
    check_agreement(engine_of(engine, model, Sum(), x), model, Sum(), select(model, ["*"]), x)
