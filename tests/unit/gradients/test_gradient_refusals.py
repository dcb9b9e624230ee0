"""What the engines and the checks refuse, and the unusual models that they take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gathering import gradients, trial
from torch import Tensor, nn

from trak_cli.errors import ConfigError, InputError
from trak_cli.gradients.checks.finite import check_finite, first_not_finite
from trak_cli.gradients.checks.independence import check_independence
from trak_cli.gradients.checks.outputs import reached_parameters, unreached
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import only, select
from trak_cli.gradients.tuning.memory import GradientWork, activation_bytes, choose_microbatch
from trak_cli.tasks import Classification, Task

X = torch.linspace(-1, 1, 24).reshape(4, 6)
BATCH = (X, torch.tensor([0, 1, 2, 0]))
SINGLES = [(BATCH[0][i : i + 1], BATCH[1][i : i + 1]) for i in range(4)]
engines = pytest.mark.parametrize("engine", ENGINES)


class Through(nn.Module):
    """A linear layer, then whatever a test asks for."""

    def __init__(self, after: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.layer(x))
        return out


class Of(Task):
    """A task from one function of (model, batch)."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        out: Tensor = self.function(model, batch)
        return out


def always_dropping(x: Tensor) -> Tensor:
    return nn.functional.dropout(x, 0.5, training=True)


def test_random_numbers_in_evaluation_mode_are_refused_by_vmap_and_by_the_check() -> None:
    model = Through(always_dropping)
    with pytest.raises(InputError, match="random"):
        gradients("vmap", model, Classification(), BATCH)
    with pytest.raises(InputError, match="for the same sample"):
        check_independence(model, Classification(), trial(BATCH, SINGLES))


@pytest.mark.parametrize(
    "after", [nn.BatchNorm1d(3, track_running_stats=False), lambda x: x - x.mean(0), lambda x: x.cumsum(0)]
)
def test_statistics_of_the_batch_are_refused_with_the_reason(after: Any) -> None:
    with pytest.raises(InputError, match="the rest of the batch"):
        check_independence(Through(after).eval(), Classification(), trial(BATCH, SINGLES))


def test_padding_without_a_mask_is_refused_and_with_a_mask_is_not() -> None:
    values = torch.tensor([[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    batch, singles = (values, values != 0), [(values[:1, :2], values[:1, :2] != 0), (values[1:], values[1:] != 0)]
    model = nn.Linear(1, 1)
    careless = Of(lambda model, batch: model(batch[0][..., None]).mean((1, 2)))
    careful = Of(lambda model, batch: (model(batch[0][..., None])[..., 0] * batch[1]).sum(1) / batch[1].sum(1))
    check_independence(model, careful, trial(batch, singles))
    with pytest.raises(InputError, match="padding without a mask"):
        check_independence(model, careless, trial(batch, singles))


def test_an_error_in_the_model_keeps_its_own_message() -> None:
    mistaken = Of(lambda model, batch: (model(batch[0]) @ torch.zeros(7)).sum(1))
    for engine in ENGINES:
        with pytest.raises(RuntimeError, match="size mismatch"):
            gradients(engine, nn.Linear(6, 3), mistaken, BATCH)


def test_an_output_cut_off_from_the_parameters_reaches_none() -> None:
    model = nn.Linear(6, 3)
    cut = Of(lambda model, batch: model(batch[0]).detach().sum(1))
    assert reached_parameters(model, Classification(), SINGLES[0], select(model, ["*"])) == {"weight", "bias"}
    assert reached_parameters(model, cut, SINGLES[0], select(model, ["*"])) == set()
    assert "none of the selected parameters" in str(unreached([]))


@engines
def test_one_output_for_a_whole_batch_is_refused(engine: str) -> None:
    with pytest.raises(InputError, match=r"task\.output"):
        gradients(engine, nn.Linear(6, 3), Of(lambda model, batch: model(batch[0]).mean()), BATCH)


@engines
@pytest.mark.parametrize("batch", [(X, BATCH[1][:2]), (X, torch.tensor(3)), ()])
def test_a_batch_without_a_common_leading_dimension_is_refused(engine: str, batch: Any) -> None:
    with pytest.raises(InputError, match="batch"):
        gradients(engine, nn.Linear(6, 3), Classification(), batch)


def test_text_in_a_batch_needs_the_loop() -> None:
    batch = {"x": X, "text": ["a", "bb", "ccc", "dddd"]}
    task = Of(lambda model, batch: model(batch["x"])[:, 0] * len(batch["text"][0]))
    with pytest.raises(InputError, match=r"batch\['text'\].*gradients=loop"):
        gradients("vmap", nn.Linear(6, 3), task, batch)
    bias = gradients("loop", nn.Linear(6, 3), task, batch)["bias"]
    assert bias[:, 0].tolist() == [1, 2, 3, 4]


@engines
def test_a_task_may_call_any_method_of_the_model(engine: str) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def encode(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)
            return out

    found = gradients(engine, Encoder(), Of(lambda model, batch: model.encode(batch["x"])[:, 1]), {"x": X})
    torch.testing.assert_close(found["layer.weight"].reshape(4, 2, 6)[:, 1], X)
    assert found["layer.bias"].tolist() == [[0, 1]] * 4


@engines
def test_an_engine_does_not_run_in_training_mode(engine: str) -> None:
    model = nn.Linear(6, 3)
    made = make_engine(engine, model, Classification(), select(model, ["*"]))
    model.train()
    with pytest.raises(RuntimeError, match="training mode"):
        made.per_sample(BATCH)


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="vmap, loop"):
        make_engine("jacobian", nn.Linear(6, 3), Classification(), {})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("shape", [(3,), (3, 5)])
def test_the_first_sample_that_is_not_finite_is_named(bad: float, shape: tuple[int, ...]) -> None:
    values = torch.zeros(shape)
    assert first_not_finite(values) is None
    values[1:].fill_(bad)
    with pytest.raises(InputError, match="train sample 1: "):
        check_finite(values, [f"train sample {i}" for i in range(3)], "gradient")


def test_unselected_parameters_are_not_computed_and_their_state_comes_back_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3))
    model[1].bias.requires_grad_(False)
    inside = []

    def fail() -> None:
        with only(model, select(model, ["1.weight"])):
            inside.extend(parameter.requires_grad for parameter in model.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [False, False, True, False]
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, True, False]


def test_close_names_and_every_unused_pattern_are_reported() -> None:
    with pytest.raises(ConfigError) as refused:
        select(nn.Sequential(nn.Linear(2, 2)), ["0.wieght"], ["head.*"])
    assert "0.weight" in refused.value.problems[0].expected
    assert [problem.where for problem in refused.value.problems] == ["parameters.include", "parameters.exclude"]
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ConfigError, match="2 frozen"):
        select(frozen, ["*"])


def test_saved_activations_are_counted_once_and_weights_are_not() -> None:
    model = nn.Sequential(nn.Linear(1000, 1000, bias=False), nn.Tanh(), nn.Linear(1000, 1000, bias=False))
    sample = (torch.randn(1, 1000), torch.tensor([3]))
    whole = activation_bytes(GradientWork(model, Of(lambda model, batch: model(batch[0]).sum(1)), sample, select(model, ["*"])))
    assert whole == 2 * 4 * 1000  # the input, and tanh's output, which tanh and the second layer share


def test_the_loop_takes_more_samples_than_vmap_where_activations_weigh() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    sample, chosen = (torch.randn(1, 1, 128, 128), torch.tensor([3])), select(model, ["*"])
    sizes = {name: choose_microbatch(name, GradientWork(model, Classification(), sample, chosen), 16) for name in ENGINES}
    assert sizes["vmap"] < sizes["loop"] == 256
