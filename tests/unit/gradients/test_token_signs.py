"""SignedTokenSum sums of terms: the signs, the gradients under every engine, and what they stand for on average."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from gathering import engine_of, gathered, gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trak_cli.batches import one_sample
from trak_cli.errors import InputError
from trak_cli.gradients.checks.outputs import check_terms
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.autocast import with_autocast
from trak_cli.gradients.transforms.token_signs import SignedTokenSum, signs_of
from trak_cli.gradients.tuning.memory import GradientWork, choose_microbatch
from trak_cli.tasks import CausalLM, Classification, MaskedLM, Task

WORDS = 11
CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


class Net(nn.Module):
    """A causal language model of three layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mix, self.head = nn.Embedding(WORDS, 6), nn.Linear(12, 7), nn.Linear(7, WORDS)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        before = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        out: Tensor = self.head(torch.tanh(self.mix(torch.cat([x, before], -1))))
        return out


def texts(size: int = 4, length: int = 7) -> dict[str, Tensor]:
    """Some of whose tokens are not predicted: at the beginning, in between and at the end."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(WORDS, (size, length), generator=generator)
    counts = torch.rand((size, length), generator=generator) < 0.7
    counts[:, 3] = True
    return {"input_ids": tokens, "labels": tokens.where(counts, -100)}


def signed_of(seed: int) -> SignedTokenSum:
    return SignedTokenSum(CausalLM(), hashlib.sha256(bytes([seed])).hexdigest())


def flat(found: dict[str, Tensor]) -> Tensor:
    return torch.cat(list(found.values()), dim=1)


# Signs


def grid(seed: int, rows: int = 512, terms: int = 64, first: int = 0) -> Tensor:
    return signs_of(torch.arange(first, first + rows)[:, None], torch.arange(1, terms + 1)[None], seed)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, -(2**63), 1234567890123])
def test_signs_are_balanced_and_uncorrelated(seed: int) -> None:
    """Within five standard deviations: as a whole, for each row and term, between rows, terms, and neighbouring seeds."""
    signs = grid(seed).double()
    rows, terms = signs.shape
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 5 / (rows * terms) ** 0.5
    between_rows, between_terms = signs @ signs.T / terms, signs.T @ signs / rows
    for products, count in ((between_rows, terms), (between_terms, rows)):
        products.fill_diagonal_(0)
        assert float(products.abs().max()) < 6.5 / count**0.5
        assert abs(float(products.mean())) < 5 / (rows * terms) ** 0.5
    other = grid(seed ^ 1).double()
    assert abs(float((signs * other).mean())) < 5 / (rows * terms) ** 0.5
    far = grid(seed, first=10**9).double()
    assert abs(float((signs * far).mean())) < 5 / (rows * terms) ** 0.5
    assert abs(float((signs[1:, :-1] * signs[:-1, 1:]).mean())) < 5 / (rows * terms) ** 0.5


def test_signs_do_not_change() -> None:
    """By the definition, in Python's own integers."""

    def mixed(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return x ^ (x >> 31)

    step = 0x9E3779B97F4A7C15
    for seed in (0, 17, -5):
        for row in (0, 3, 2**40):
            for number in (1, 2, 1000):
                bits = mixed((mixed((row * step + seed) % 2**64) + number * step) % 2**64)
                assert int(signs_of(torch.tensor(row), torch.tensor(number), seed)) == 1 - 2 * (bits & 1)


@settings(deadline=None, max_examples=30)
@given(st.integers(-(2**63), 2**63 - 1), st.lists(st.integers(0, 2**50), min_size=1, max_size=9))
def test_a_sign_depends_only_on_its_key(seed: int, rows: list[int]) -> None:
    """Not on the other rows, nor on vmap."""
    some, numbers = torch.tensor(rows), torch.arange(1, 6)
    together = signs_of(some[:, None], numbers, seed)
    alone = torch.stack([signs_of(torch.tensor(row), numbers, seed) for row in rows])
    assert torch.equal(together, alone)
    assert torch.equal(together, torch.func.vmap(lambda row: signs_of(row, numbers, seed))(some))


# The output


def test_the_output_is_the_signed_sum_and_q_the_number_of_terms() -> None:
    model, batch, rows = Net(), texts(), torch.tensor([5, 0, 7, 2])
    function = signed_of(0)
    seed = int.from_bytes(bytes.fromhex(hashlib.sha256(bytes([0])).hexdigest())[:8], "little", signed=True)
    odds, exist = CausalLM().log_odds(model, batch)
    for pair in ((batch, rows), (batch, rows + 1)):
        found = function.output(model, pair).detach()
        for sample, row in enumerate(pair[1].tolist()):
            some = odds[sample][exist[sample]].detach()
            signs = [int(signs_of(torch.tensor(row), torch.tensor(i + 1), seed)) for i in range(len(some))]
            assert float(found[sample]) == pytest.approx(float((some * torch.tensor(signs)).sum()), abs=1e-5)
        assert function.out_to_loss_grad(model, pair, found).tolist() == exist.sum(1).tolist()
        assert function.out_to_loss_grad(model, pair, found).tolist() == exist.sum(1).tolist()  # asked again, of itself


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_change_results(side: str) -> None:
    """On either side: terms are numbered among those that exist."""
    model = nn.Sequential(nn.Embedding(WORDS, WORDS))
    model.register_forward_pre_hook(lambda _, args, kwargs: ((kwargs["input_ids"],), {}), with_kwargs=True)
    batch, rows = texts(), torch.arange(4)
    pad = torch.full((4, 3), -100)
    order = (lambda a, b: [a, b]) if side == "left" else (lambda a, b: [b, a])
    wider = {
        "input_ids": torch.cat(order(torch.zeros_like(pad), batch["input_ids"]), 1),
        "labels": torch.cat(order(pad, batch["labels"]), 1),
    }
    function = SignedTokenSum(MaskedLM(), "ab" * 32)
    torch.testing.assert_close(function.output(model, (wider, rows)), function.output(model, (batch, rows)))


def test_coordinates_that_do_not_exist_are_not_counted() -> None:
    class Holes(Task):
        def output(self, model: nn.Module, batch: Any) -> Tensor:
            raise NotImplementedError

        def terms(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
            return batch * torch.tensor([1.0, torch.inf, 1.0]), torch.tensor([[True, False, True]]).expand(len(batch), 3)

    found = SignedTokenSum(Holes(), "00" * 32).output(nn.Linear(1, 1), (torch.ones(8, 3), torch.arange(8)))
    assert set(found.abs().tolist()) <= {0.0, 2.0}


# Gradients


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_give_the_gradients_of_the_explicit_sum(engine: str) -> None:
    model, batch, rows = Net(), texts(), torch.tensor([5, 0, 7, 2])
    found = engine_of(engine, model, signed_of(3), (batch, rows)).per_sample((batch, rows))
    assert found.out_to_loss.tolist() == CausalLM().terms(model, batch)[1].sum(1).tolist()
    gradient = flat(gathered(found, model))
    for sample in range(4):
        output = signed_of(3).output(model, (one_sample(batch, sample), rows[sample : sample + 1]))[0]
        expected = torch.cat([one.reshape(-1) for one in torch.autograd.grad(output, list(model.parameters()))])
        torch.testing.assert_close(gradient[sample], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["hooks", "loop"])
def test_under_autocast_the_engines_agree_up_to_its_rounding(engine: str) -> None:
    model, given = Net(), (texts(), torch.arange(4))
    exact = flat(gradients("loop", model, signed_of(3), given))
    function = with_autocast(signed_of(3), model, CPU, "bfloat16")
    found = flat(gradients(engine, model, function, given))
    assert found.dtype == torch.float32
    assert 1e-5 < float((found - exact).norm() / exact.norm()) < 0.03


def test_memory_is_counted_for_pairs_too() -> None:
    model, batch = Net(), one_sample(texts(), 0)
    parameters = select(model, ["*"])
    plain, signed = (
        choose_microbatch("hooks", GradientWork(model, task, sample, parameters), 1)
        for task, sample in ((CausalLM(), batch), (signed_of(0), (batch, torch.zeros(1, dtype=torch.int64))))
    )
    assert signed in (plain, plain // 2)


def test_on_average_the_products_are_the_gram_matrix_of_single_terms() -> None:
    """E[z zᵀ] = Σ_t g_t g_tᵀ, over many checkpoints' seeds, and not the Gram matrix of whole sums."""
    model, batch = Net(), one_sample(texts(length=5), 0)
    odds, exist = CausalLM().terms(model, batch)
    parameters = list(model.parameters())
    single = torch.stack(
        [
            torch.cat([one.reshape(-1) for one in torch.autograd.grad(term, parameters, retain_graph=True)])
            for term in odds[exist]
        ]
    )
    seeds, rows = 20, torch.arange(200)
    repeated = {key: value.expand(200, -1) for key, value in batch.items()}
    total = torch.zeros(single.shape[1], single.shape[1])
    for seed in range(seeds):
        z = flat(gradients("hooks", model, signed_of(seed), (repeated, rows)))
        total += z.T @ z / (seeds * len(rows))
    expected, whole = single.T @ single, torch.outer(single.sum(0), single.sum(0))
    assert len(single) >= 3
    assert float((total - expected).norm() / expected.norm()) < 0.05
    assert float((whole - expected).norm() / expected.norm()) > 0.2


# Refusals


def test_which_tasks_have_terms() -> None:
    assert CausalLM().has_terms()
    assert MaskedLM().has_terms()
    assert not Classification().has_terms()
    with pytest.raises(NotImplementedError):
        Classification().terms(Net(), texts())


class Terms(CausalLM):
    """A task whose terms are what a test wants them to be."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def terms(self, model: nn.Module, batch: Any) -> Any:
        return self.change(*super().terms(model, batch))


@pytest.mark.parametrize(
    "change",
    [
        lambda odds, exist: odds,
        lambda odds, exist: (odds, exist.float()),
        lambda odds, exist: (odds.sum(1), exist.any(1)),
        lambda odds, exist: (odds.long(), exist),
        lambda odds, exist: (odds, exist[:, 1:]),
        lambda odds, exist: (odds, None),
    ],
)
def test_terms_of_another_shape_are_refused(change: Any) -> None:
    with pytest.raises(InputError, match=r"task\.terms.*\(B, T\)"):
        SignedTokenSum(Terms(change), "00" * 32).output(Net(), (texts(), torch.arange(4)))


def test_terms_must_add_up() -> None:
    check_terms(Net(), CausalLM(), texts())
    with pytest.raises(InputError, match=r"terms with the sum .* but f = "):
        check_terms(Net(), Terms(lambda odds, exist: (odds * 1.01, exist)), texts())
    with pytest.raises(InputError, match=r"terms with the sum"):
        check_terms(Net(), Terms(lambda odds, exist: (odds, exist & (torch.arange(6) != 2))), texts())


def test_signs_of_neighbouring_checkpoints_differ() -> None:
    model, given = Net(), (texts(), torch.arange(4))
    outputs = [signed_of(seed).output(model, given).detach().numpy() for seed in range(3)]
    assert not np.allclose(outputs[0], outputs[1])
    assert not np.allclose(outputs[1], outputs[2])
