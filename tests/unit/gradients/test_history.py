"""A model is compared with a new one: what is kept between calls, drawn at random, or changed by forward is found and named."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch
from gathering import Sum
from torch import Tensor, nn

from trak_cli.errors import InputError
from trak_cli.gradients.checks.history import History, Samples, Subject, check_history
from trak_cli.gradients.parameters import select

X = torch.linspace(-1, 1, 24).reshape(4, 6)
SAMPLES = Samples(X, [X[row : row + 1] for row in range(4)], [f"sample {row} of train" for row in range(4)])


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.outer(torch.tanh(self.inner(x)))
        return out


class Renewed:
    """New models of one class, all with the same weights; counts them."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self.build, self.count = build, 0
        self.state = build().state_dict()
        self.renew()

    def renew(self) -> None:
        self.model = self.build()
        self.model.load_state_dict(self.state)
        self.model.eval()
        self.count += 1

    def restore(self, names: Collection[str]) -> None:
        raise AssertionError(f"restored {names}")


def check(build: Callable[[], nn.Module], samples: Samples = SAMPLES) -> History:
    renewed = Renewed(build)
    subject = Subject(lambda: renewed.model, renewed.renew, renewed.restore, Sum(), lambda model: select(model, ["*"]))
    return check_history(subject, samples)


def refusal(build: Callable[[], nn.Module], samples: Samples = SAMPLES) -> str:
    with pytest.raises(InputError) as refused:
        check(build, samples)
    (problem,) = refused.value.problems
    return str(problem)


def test_a_function_of_sample_and_weights_passes_with_one_new_model() -> None:
    renewed = Renewed(Base)
    subject = Subject(lambda: renewed.model, renewed.renew, renewed.restore, Sum(), lambda model: select(model, ["*"]))
    found = check_history(subject, SAMPLES)
    assert found.reached == {"inner.weight", "inner.bias", "outer.weight", "outer.bias"}
    assert renewed.count == 2


def test_without_a_batch_of_several_single_samples_are_compared() -> None:
    alone = Samples(None, SAMPLES.singles, SAMPLES.names)
    assert len(check(Base, alone).reached) == 4
    assert "keeps a value between calls" in refusal(Remembering, alone)


def test_parameters_without_a_path_are_left_out() -> None:
    class Detached(Base):
        def forward(self, x: Tensor) -> Tensor:
            return self.outer(torch.tanh(self.inner(x)).detach())  # type: ignore[no-any-return]

    assert check(Detached).reached == {"outer.weight", "outer.bias"}


class Memory(nn.Module):
    """Adds what it saw in its last call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.seen, self.lists = nn.Parameter(torch.ones(5)), 0.0, {"all": [1]}

    def forward(self, x: Tensor) -> Tensor:
        out = x * self.weight + self.seen
        self.seen = float(x.detach().mean())
        return out


class Remembering(Base):
    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory()

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.memory(self.inner(x)))  # type: ignore[no-any-return]


def test_the_module_and_the_attribute_that_keep_something_are_named() -> None:
    found = refusal(Remembering)
    assert found.startswith("model, module memory: found f = ")
    assert "of train after other samples" in found
    assert "keeps a value between calls: memory.seen;" in found


def test_a_graph_of_an_earlier_call_names_the_attribute() -> None:
    class Cached(Base):
        product: Any = None

        def forward(self, x: Tensor) -> Tensor:
            if self.product is None:
                self.product = [self.outer.weight @ self.inner.weight]
            return x @ self.product[0].T  # type: ignore[no-any-return]

    assert "keeps a value between calls: product" in refusal(Cached)


def test_a_gradient_that_is_lost_after_the_first_call() -> None:
    class Cached(Base):
        def __init__(self) -> None:
            super().__init__()
            self.scaled: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            weight = self.outer.weight + 0 if self.scaled is None else self.scaled
            self.scaled = weight.detach()
            return nn.functional.linear(torch.tanh(self.inner(x)), weight, self.outer.bias)

    found = refusal(lambda: Cached())
    assert "keeps a value between calls" in found


def test_a_batch_of_another_size_than_the_one_before() -> None:
    class Stateful(Base):
        state: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.inner(x) if self.state is None else self.inner(x) + 0.5 * self.state
            if self.state is not None and self.state.shape != hidden.shape:
                raise ValueError("another size")
            self.state = hidden.detach()
            return self.outer(hidden)  # type: ignore[no-any-return]

    assert "keeps a value between calls" in refusal(Stateful)


def test_what_is_drawn_when_the_model_is_built_is_told_from_what_calls_change() -> None:
    class Random(Base):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("signs", torch.randn(6), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * self.signs)

    class Seeded(Base):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("signs", torch.randn(6, generator=torch.Generator().manual_seed(3)), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * self.signs)

    assert "found signs, which differs each time the model is built" in refusal(Random)
    assert check(Seeded).reached


def test_a_parameter_that_forward_changes_is_named() -> None:
    class Decaying(Base):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.inner.bias.mul_(0.99)
            return super().forward(x)

    assert "changes the parameter inner.bias in evaluation mode" in refusal(Decaying)


def test_dropout_that_is_always_on_is_left_to_the_check_of_randomness() -> None:
    """Random numbers are the same in both models, so that they are not taken for something that is kept."""

    class Dropping(Base):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.dropout(x, 0.5, training=True))

    assert check(Dropping).reached


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupts_and_lack_of_memory_are_no_findings(error: type[BaseException]) -> None:
    class Raising(Base):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    with pytest.raises(error):
        check(Raising)


def test_a_dimension_that_a_batch_of_one_loses_is_named_with_its_module() -> None:
    class Squeezing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.squeeze()

    class Model(Base):
        def __init__(self) -> None:
            super().__init__()
            self.squeeze = Squeezing()

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.squeeze(self.inner(x)[:, None]))  # type: ignore[no-any-return]

    class Indexed(Sum):
        def output(self, model: nn.Module, batch: Any) -> Tensor:
            return model(batch)[:, 0]  # type: ignore[no-any-return]

    renewed = Renewed(Model)
    subject = Subject(lambda: renewed.model, renewed.renew, renewed.restore, Indexed(), lambda model: select(model, ["*"]))
    with pytest.raises(InputError, match=r"module squeeze: .* one dimension fewer .* use squeeze\(-1\)"):
        check_history(subject, SAMPLES)
