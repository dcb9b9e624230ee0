"""Models that real projects have and that go wrong in a tool which loads and calls them carelessly; a plugin of test runs.

Each maps (B, 8) to logits (B, 3).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint


class LoRA(nn.Linear):
    """A linear layer with a low-rank product, as loralib has it: eval() merges the product into the weight.

    Args:
        frozen: the weight requires no gradient.
    """

    def __init__(self, inputs: int, outputs: int, frozen: bool = False) -> None:
        super().__init__(inputs, outputs)
        self.weight.requires_grad_(not frozen)
        self.A = nn.Parameter(torch.randn(2, inputs))
        self.B = nn.Parameter(torch.zeros(outputs, 2))
        self.merged = False

    def train(self, mode: bool = True) -> LoRA:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.B.data @ self.A.data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.merged else out + x @ self.A.T @ self.B.T


class AddingLoRA(LoRA):
    """One that adds the product each time it is put into evaluation mode."""

    def train(self, mode: bool = True) -> AddingLoRA:
        nn.Linear.train(self, mode)
        if not mode:
            self.weight.data += self.B.data @ self.A.data
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = nn.Linear.forward(self, x)
        return out + x @ self.A.T @ self.B.T if self.training else out


class Net(nn.Module):
    """8 -> 6 -> 3 with a replaceable first layer."""

    def __init__(self, first: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(8, 6) if first is None else first
        self.second = nn.Linear(6, 3)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.hidden(x))
        return out


def merging() -> nn.Module:
    return Net(LoRA(8, 6))


def adding() -> nn.Module:
    return Net(AddingLoRA(8, 6))


class OnlyLoRA(Net):
    def __init__(self) -> None:
        super().__init__(LoRA(8, 6, frozen=True))
        self.requires_grad_(False)
        self.first.A.requires_grad_(True)
        self.first.B.requires_grad_(True)


class FusedOnEval(Net):
    """Folds a scale into the next weight in evaluation mode and leaves it there."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def train(self, mode: bool = True) -> FusedOnEval:
        super().train(mode)
        if not mode:
            self.fused = self.second.weight * self.scale
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return nn.functional.linear(self.hidden(x) * self.scale, self.second.weight, self.second.bias)
        return nn.functional.linear(self.hidden(x), self.fused.detach(), self.second.bias)


class AveragedInside(Net):
    """Uses a copy of the weights in evaluation mode, which requires no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.average = deepcopy(nn.Sequential(self.first, nn.Tanh(), self.second)).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x) if self.training else self.average(x)
        return out


class DecidesOnLoad(Net):
    """Reads a flag of the checkpoint in a load hook."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("power", torch.ones(()))
        self.exponent = 1.0
        self.register_load_state_dict_post_hook(self._read)

    def _read(self, module: nn.Module, keys: Any) -> None:
        self.exponent = float(self.power)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.exponent)


def normalised() -> nn.Module:
    return Net(parametrizations.weight_norm(nn.Linear(8, 6)))


def spectral() -> nn.Module:
    return Net(parametrizations.spectral_norm(nn.Linear(8, 6)))


def old_norms() -> nn.Module:
    return Net(nn.utils.spectral_norm(nn.utils.weight_norm(nn.Linear(8, 6), name="bias", dim=None)))


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).T


class Square(Net):
    def __init__(self) -> None:
        super().__init__()
        self.middle = parametrize.register_parametrization(nn.Linear(6, 6), "weight", Symmetric())

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.middle(super().hidden(x)))


class LazyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class LazyConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LazyConv1d(2, 3), nn.LazyInstanceNorm1d(), nn.Flatten(), nn.Tanh(), nn.LazyLinear(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x[:, None])
        return out


class CreatedInForward(Net):
    """Creates its last layer in its first call."""

    created_by_call = True

    def __init__(self) -> None:
        super().__init__()
        self.head: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        hidden = super().forward(x)
        if self.head is None:
            self.head = nn.Linear(hidden.shape[1], 3)
        out: Tensor = self.head(hidden)
        return out


class GrowingCache(Net):
    """Keeps a table that follows from the length alone, in a buffer that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.table) < x.shape[1]:
            self.table = torch.linspace(0, 1, x.shape[1])
        return super().forward(x + self.table)


class Counting(Net):
    """Counts calls in a buffer, which f does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Queue(Net):
    """Stores the last features in evaluation mode too, which f does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.bank = torch.cat([self.hidden(x).mean(0, keepdim=True), self.bank[:-1]])
        return super().forward(x)


# Right models end here; what follows keeps or changes something.


class CachedProduct(Net):
    """Computes a product of weights once."""

    cached: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.cached is None:
            self.cached = self.second.weight @ self.first.weight
        return x @ self.cached.T


class DetachedProduct(CachedProduct):
    def forward(self, x: Tensor) -> Tensor:
        if self.cached is None:
            self.cached = (self.second.weight @ self.first.weight).detach()
        return super().forward(x) + self.second.bias + self.first(x).sum(1, keepdim=True)


class SharedCache(Net):
    """A cache of the class, which all instances share."""

    cache: ClassVar[dict[int, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        key = x.shape[1]
        if key not in self.cache:
            self.cache[key] = self.second.weight * 2
        return nn.functional.linear(self.hidden(x), self.cache[key] ** 2, self.second.bias)


class LastBatch(Net):
    """Adds the mean of the last batch's features."""

    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        mixed = hidden if self.last is None else hidden + 0.1 * self.last
        self.last = hidden.detach().mean(0)
        out: Tensor = self.second(mixed)
        return out


class Annealed(Net):
    """A temperature that falls with each call, in a Python attribute."""

    steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return super().forward(x) / (1 + 0.1 * self.steps)


class HiddenState(Net):
    """A recurrent layer whose state passes on to the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.state = nn.GRU(1, 6, batch_first=True), None

    def forward(self, x: Tensor) -> Tensor:
        out, self.state = self.cell(x[..., None], self.state)
        return torch.as_tensor(self.second(out[:, -1]))


class DetachedState(HiddenState):
    """The same, detached, and reset when the size of the batch changes."""

    def forward(self, x: Tensor) -> Tensor:
        if self.state is not None:
            self.state = self.state.detach() if self.state.shape[1] == len(x) else None
        return super().forward(x)


class Keys(Net):
    """An attention whose keys of earlier calls stay."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        self.keys.append(hidden.detach().mean(0))
        keys = torch.stack(self.keys)
        out: Tensor = self.second((hidden @ keys.T).softmax(-1) @ keys + hidden)
        return out


class OwnGenerator(Net):
    """Noise from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn(x.shape, generator=self.generator))


class RunningMean(Net):
    """Updates its statistics in evaluation mode, and uses them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean += 0.1 * (x.mean(0) - self.mean)
        return super().forward(x - self.mean)


class MergedAtFirst(Net):
    """Merges its product in the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.A, self.B, self.merged = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(6, 2)), False

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and not self.merged:
            self.first.weight.data += self.B.data @ self.A.data
            self.merged = True
        return super().forward(x)


class Clipping(Net):
    """Normalises its weight in place in each call."""

    def forward(self, x: Tensor) -> Tensor:
        self.first.weight.data *= 0.9
        return super().forward(x)


class Observer(Net):
    """Quantises by the range of all inputs so far."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.largest = torch.maximum(self.largest, x.detach().abs().max())
        return super().forward(x / self.largest)


class RandomFeatures(Net):
    """Random directions that the checkpoint does not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("directions", torch.randn(8, 8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.cos(x @ self.directions))


class RandomAttribute(Net):
    def __init__(self) -> None:
        super().__init__()
        self.order = torch.randperm(8)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, self.order])


class FrozenOnBuild(Net):
    """A scale computed from the initial weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = float(self.first.weight.abs().max())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / self.scale)


class Reentrant(Net):
    def forward(self, x: Tensor) -> Tensor:
        hidden = checkpoint(torch.tanh, self.first(x), use_reentrant=True)
        out: Tensor = self.second(hidden)
        return out


class ReentrantFirst(Net):
    """Its first block is checkpointed, so that reentrant autograd loses all gradients of the block."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(checkpoint(self.hidden, x, use_reentrant=True))
        return out


class NotReentrant(Net):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(checkpoint(self.hidden, x, use_reentrant=False))
        return out


class Squeezed(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze()


class SqueezedInside(Net):
    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x[:, None]).squeeze()


class StaysInTraining(Net):
    def train(self, mode: bool = True) -> StaysInTraining:
        return self


class OnAnotherDevice(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.cuda().cpu())


class Exits(Net):
    def forward(self, x: Tensor) -> Tensor:
        raise SystemExit(0)


class Asserts(Net):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 9
        return super().forward(x)


class Recurses(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.forward(x)
