"""What a training starts from and what of the model it moves, whatever a trainer does to modes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trak_cli.config.schema import ParametersConfig, TrainConfig
from trak_cli.errors import ConfigError, InputError, TrakError
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.stages.training.partial_training import prepared

State = dict[str, Tensor]


def net(seed: int) -> nn.Module:
    """0, 1, 2: a body with BatchNorm and dropout; 3: dropout; 4: a normalised head."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    return nn.Sequential(body, nn.Dropout(0.5), nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of seed 0 after some batches have passed, so that statistics are not those of a new model."""
    model = net(0).train()
    model(torch.randn(64, 4) + 3)
    save_file(model.state_dict(), tmp_path / "start.safetensors")
    return tmp_path / "start.safetensors"


def only(parameters: list[str] | None, start: str | None = None) -> tuple[TrainConfig, ParametersConfig]:
    """Training of the parameters that match these patterns only; None: of all of them."""
    chosen = ParametersConfig() if parameters is None else ParametersConfig(include=parameters)
    return TrainConfig(start=start, only_parameters=parameters is not None), chosen


def trained(file: Path | None, parameters: list[str] | None, step: Callable[[nn.Module], None] | None = None) -> nn.Module:
    """A model of seed 1, trained for three steps in training mode."""
    model = net(1)
    with prepared(model, *only(parameters, None if file is None else str(file))):
        optimiser = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
        for _ in range(3):
            model.train()
            optimiser.zero_grad()
            model(torch.randn(16, 4)).square().sum().backward()
            optimiser.step()
        if step is not None:
            step(model)
    return model.eval()


def state_of(file: Path) -> State:
    model = net(0)
    apply(model, load(file), file)
    return dict(model.state_dict())


def moved(model: nn.Module, state: State) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, state[name])}


def test_unselected_parameters_and_statistics_keep_every_bit(file: Path) -> None:
    model = trained(file, ["2.2.*"])
    assert moved(model, state_of(file)) == {"2.2.weight", "2.2.bias"}


def test_statistics_go_with_the_patterns_that_choose_them(file: Path) -> None:
    whole = moved(trained(file, ["2.*"]), state_of(file))
    assert whole == {name for name in net(0).state_dict() if name.startswith("2.")}
    weights = moved(trained(file, ["2.*.weight", "2.*.bias"]), state_of(file))
    assert weights == {name for name, _ in net(0).named_parameters() if name.startswith("2.")}


def test_selected_parameters_start_from_the_seed_and_the_others_from_the_file(file: Path) -> None:
    new, old = dict(net(1).state_dict()), state_of(file)
    model = net(1)
    with prepared(model, *only(["2.1.*", "2.2.*"], str(file))):
        assert moved(model, new) == {name for name in new if not name.startswith(("2.1", "2.2"))} - {"0.1.weight", "0.1.bias"}
    model = net(1)
    with prepared(model, *only(None, str(file))):
        assert not moved(model, old)
    assert moved(trained(file, None), old) == set(old)


def test_without_a_file_the_other_parameters_are_those_of_the_plugin() -> None:
    assert moved(trained(None, ["2.2.*"]), dict(net(1).state_dict())) == {"2.2.weight", "2.2.bias"}


def test_fixed_modules_compute_as_in_evaluation_and_the_dropout_before_the_head_does_not(file: Path) -> None:
    model = net(1)
    x = torch.randn(16, 4)
    with prepared(model, *only(["2.*"], str(file))):
        expected = model.eval()[0](x)
        model.train()
        assert torch.equal(model[0](x), expected)
        assert not torch.equal(model[1](expected), expected)
    model.train()
    assert not torch.equal(model[0](x), expected)


def test_tied_weights_are_chosen_under_any_name(file: Path) -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    with prepared(model, *only(["b.*"])):
        assert {name for name, one in model.named_parameters() if one.requires_grad} == {"a.weight", "b.bias"}


def test_a_training_that_changes_what_is_fixed_is_refused(file: Path) -> None:
    def reset(model: nn.Module) -> None:
        model[0][1].reset_running_stats()  # type: ignore[index,operator]

    with pytest.raises(InputError) as raised:
        trained(file, ["2.2.*"], reset)
    (problem,) = raised.value.problems
    assert problem.where == "trainer"
    assert "0.1.running_mean" in problem.found


def refusal(expected: type[TrakError], start: Path | None, parameters: list[str] | None) -> dict[str, str]:
    """Where -> what was found."""
    with pytest.raises(expected) as raised:
        trained(start, parameters)
    assert type(raised.value) is expected
    return {problem.where: problem.found for problem in raised.value.problems}


def test_patterns_that_choose_nothing_or_everything_are_refused(file: Path) -> None:
    assert "'head.*'" in refusal(ConfigError, file, ["2.*", "head.*"])["parameters.include"]
    assert "nothing that can be trained" in refusal(ConfigError, file, ["*.running_mean"])["parameters.include"]
    assert "nothing that can be trained" in refusal(ConfigError, None, [])["parameters.include"]
    assert "nothing of train.start is used" in refusal(ConfigError, file, ["*"])["parameters.include"]
    trained(None, ["*"])


def test_a_file_that_does_not_fit_is_refused_together_with_the_patterns(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"0.0.weight": torch.zeros(2, 2), "extra": torch.zeros(1)}, file)
    with pytest.raises(InputError) as raised:
        trained(file, ["head.*"])
    told = [str(problem) for problem in raised.value.problems]
    assert told[0].startswith("parameters.include: found 'head.*'")
    assert any(one.startswith(f"train.start={file} (0.0): found 0.0.weight (2, 2)") for one in told)
    assert any("extra" in one for one in told)
    assert len(told) == 4  # the pattern, the shape, the missing names and the unexpected one
