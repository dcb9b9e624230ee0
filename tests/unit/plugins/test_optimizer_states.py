"""States of optimizers in checkpoints: the moments of every parameter, matched by names, or by order and shapes for certain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

from trak_cli.plugins.optimizers.files import TrainedBy, trained_by
from trak_cli.plugins.optimizers.match import Parameter, assignments


class Net(nn.Module):
    """Layers of equal shapes, a norm, and an output layer; ``tied``: the output layer is the embedding."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.word = nn.Embedding(7, 5)
        self.one, self.norm, self.two = nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 5)
        self.head = nn.Linear(5, 7 if tied else 4)
        if tied:
            self.head.weight = self.word.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.two(self.norm(self.one(self.word(x)).tanh())))
        return out


def trained(model: nn.Module, optimizer: optim.Optimizer, steps: int = 4) -> optim.Optimizer:
    """The optimizer after some steps."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randint(7, (6, 3), generator=generator)).square().mean().backward()
        optimizer.step()
    return optimizer


def saved(path: Path, model: nn.Module, optimizer: optim.Optimizer | dict[str, Any]) -> Path:
    state = optimizer if isinstance(optimizer, dict) else optimizer.state_dict()
    torch.save({"model": model.state_dict(), "optimizer": state}, path)
    return path


def stored(optimizer: optim.Optimizer, model: nn.Module, key: str = "exp_avg_sq") -> dict[str, Tensor]:
    """What the optimizer holds of every parameter that it changed, by the identity of the parameter."""
    return {name: optimizer.state[item][key] for name, item in model.named_parameters() if key in optimizer.state[item]}


def check(state: TrainedBy | None, expected: dict[str, Tensor], key: str = "exp_avg_sq") -> None:
    assert state is not None
    assert state.entries is not None, state.reason
    assert set(state.entries) == set(expected)
    for name, value in expected.items():
        assert torch.equal(state.entries[name].state[key], value), name


Groups = Callable[[dict[str, nn.Parameter]], Any]


def chosen(parameters: dict[str, nn.Parameter], *choices: Callable[[str], bool], decay: Sequence[float] = ()) -> Any:
    """Groups of parameters, in order of the model, by their names."""
    groups: list[dict[str, Any]] = [{"params": [p for n, p in parameters.items() if choice(n)]} for choice in choices]
    for group, value in zip(groups, decay, strict=False):
        group["weight_decay"] = value
    return groups


def plain(name: str) -> bool:
    return "bias" in name or "norm" in name


#: What is given to the optimizer, where it leaves one assignment only.
CLEAR: dict[str, Groups] = {
    "all parameters": lambda p: list(p.values()),
    "names": lambda p: list(p.items()),
    "names in two groups": lambda p: [{"params": [(n, q) for n, q in p.items() if plain(n) is yes]} for yes in (True, False)],
    "decayed first": lambda p: chosen(p, lambda n: not plain(n), plain, decay=(0.1, 0.0)),
    "decayed last": lambda p: chosen(p, plain, lambda n: not plain(n), decay=(0.0, 0.1)),
    "all but biases decayed": lambda p: chosen(p, lambda n: "bias" not in n, lambda n: "bias" in n, decay=(0.1, 0.0)),
    "biases in the first group": lambda p: chosen(p, lambda n: "bias" in n, lambda n: "bias" not in n, decay=(0.0, 0.1)),
    "the head apart": lambda p: chosen(p, lambda n: "head" in n, lambda n: "head" not in n),
    "the head only": lambda p: [q for n, q in p.items() if "head" in n],
    "three groups": lambda p: chosen(p, lambda n: "word" in n, lambda n: "head" in n, lambda n: n[:4] not in ("word", "head")),
}


@pytest.mark.parametrize("groups", CLEAR.values(), ids=list(CLEAR))
def test_every_parameter_gets_its_own_moments(groups: Groups, tmp_path: Path) -> None:
    model = Net()
    optimizer = trained(model, optim.AdamW(groups(dict(model.named_parameters()))))
    check(trained_by(saved(tmp_path / "a.pt", model, optimizer), Net()), stored(optimizer, model))


#: What leaves several assignments: refused, never guessed.
UNCLEAR: dict[str, Groups] = {
    "one of two equal layers": lambda p: [q for n, q in p.items() if n.startswith("two")],
    "equal layers in two groups": lambda p: chosen(p, lambda n: n.startswith("one"), lambda n: n.startswith("two")),
    "an order of its own": lambda p: chosen(p, lambda n: n == "two.bias", lambda n: n == "norm.bias", lambda n: "weight" in n),
}


@pytest.mark.parametrize("groups", UNCLEAR.values(), ids=list(UNCLEAR))
def test_parameters_that_fit_in_several_ways_are_refused(groups: Groups, tmp_path: Path) -> None:
    model = Net()
    optimizer = trained(model, optim.AdamW(groups(dict(model.named_parameters()))))
    state = trained_by(saved(tmp_path / "a.pt", model, optimizer), Net())
    assert state is not None
    assert state.entries is None
    assert "more than one way" in state.reason


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    model, other = Net(), nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))
    optimizer = trained(other, optim.AdamW(other.parameters()))
    state = trained_by(saved(tmp_path / "a.pt", model, optimizer), model)
    assert state is not None
    assert state.entries is None
    assert "do not fit" in state.reason


@pytest.mark.parametrize("given", [True, False])
def test_frozen_parameters_have_no_moments(given: bool, tmp_path: Path) -> None:
    """Whether the optimizer was given them or not."""
    model = Net()
    model.one.requires_grad_(False)
    parameters = [item for item in model.parameters() if given or item.requires_grad]
    optimizer = trained(model, optim.AdamW(parameters))
    fresh = copy.deepcopy(model)
    check(trained_by(saved(tmp_path / "a.pt", model, optimizer), fresh), stored(optimizer, model))


def test_a_tied_weight_has_one_entry(tmp_path: Path) -> None:
    model = Net(tied=True)
    optimizer = trained(model, optim.AdamW(model.parameters()))
    path = saved(tmp_path / "a.pt", model, optimizer)
    check(trained_by(path, Net(tied=True)), stored(optimizer, model))
    state = optimizer.state_dict()
    names = ["head.weight" if name == "word.weight" else name for name, _ in model.named_parameters()]
    groups = [{**state["param_groups"][0], "params": names}]
    named = {"state": {n: state["state"][i] for i, n in enumerate(names)}, "param_groups": groups}
    check(trained_by(saved(path, model, named), Net(tied=True)), stored(optimizer, model))


def test_names_may_have_wrappers_and_a_prefix(tmp_path: Path) -> None:
    """As FSDP and torch.compile name them, for a part of a Lightning module."""
    model = Net()
    optimizer = trained(model, optim.AdamW(model.parameters()))
    content = optimizer.state_dict()
    for style in ("module.{}", "net._orig_mod.{}", "_fsdp_wrapped_module.model._checkpoint_wrapped_module.{}"):
        names = [style.format(name) for name, _ in model.named_parameters()]
        state = {name: content["state"][i] for i, name in enumerate(names)} | {"loss.scale": {"exp_avg_sq": torch.ones(1)}}
        named = {"state": state, "param_groups": [{"params": [*names, "loss.scale"], "betas": (0.9, 0.999), "eps": 1e-8}]}
        check(trained_by(saved(tmp_path / "a.pt", model, named), Net()), stored(optimizer, model))


def test_a_flat_state_is_read(tmp_path: Path) -> None:
    """As torch.distributed.checkpoint flattens it."""
    model = Net()
    optimizer = trained(model, optim.AdamW(model.parameters()))
    content = optimizer.state_dict()
    flat: dict[str, Any] = {}
    for i, (name, _) in enumerate(model.named_parameters()):
        flat |= {f"state.{name}.{key}": value for key, value in content["state"][i].items()}
        flat |= {f"param_groups.{name}.eps": 1e-6, f"param_groups.{name}.betas": (0.9, 0.99)}
    state = trained_by(saved(tmp_path / "a.pt", model, flat), Net())
    check(state, stored(optimizer, model))
    assert state is not None
    assert state.entries is not None
    assert state.entries["one.weight"].group["eps"] == 1e-6


@pytest.mark.parametrize("flatten", [True, False, None])
def test_a_folder_of_a_distributed_checkpoint(flatten: bool | None, tmp_path: Path) -> None:
    """With names (flat or in groups) or with numbers; the hyperparameters are those of the folder."""
    model = Net()
    optimizer = trained(model, optim.AdamW(model.parameters(), betas=(0.8, 0.9), eps=1e-5))
    own, state = model.state_dict(), optimizer.state_dict()
    if flatten is not None:
        own, state = get_state_dict(model, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=flatten))
    dcp.save({"model": own, "optim": state}, checkpoint_id=tmp_path / "dcp", no_dist=True)
    found = trained_by(tmp_path / "dcp", Net())
    expected = trained_by(saved(tmp_path / "a.pt", model, optimizer), Net())
    assert found is not None
    assert expected is not None
    for name, _ in model.named_parameters():
        second, other = found.second_moments(name), expected.second_moments(name)
        assert second is not None, found.reason
        assert other is not None
        assert torch.equal(second, other)


def test_a_folder_of_the_optimizer_beside_the_weights(tmp_path: Path) -> None:
    """As Accelerate writes it with FSDP."""
    model = Net()
    optimizer = trained(model, optim.AdamW(model.parameters()))
    own, state = get_state_dict(model, optimizer)
    dcp.save({"model": own}, checkpoint_id=tmp_path / "pytorch_model_fsdp_0", no_dist=True)
    dcp.save({"optimizer": state}, checkpoint_id=tmp_path / "optimizer_0", no_dist=True)
    found = trained_by(tmp_path, Net())
    assert found is not None
    assert found.file == tmp_path / "optimizer_0"
    assert found.entries is not None
    assert len(found.entries) == len(dict(model.named_parameters()))


class Lit(nn.Module):
    """A module as Lightning users write it: a loss with a parameter and a buffer before the model."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))
        self.register_buffer("class_weights", torch.ones(5))
        self.model = Net()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x) * self.temperature
        return out


def test_a_lightning_checkpoint_with_parameters_of_its_own(tmp_path: Path) -> None:
    module = Lit()
    optimizer = trained(module, optim.AdamW(module.parameters()))
    path = tmp_path / "last.ckpt"
    torch.save({"epoch": 3, "state_dict": module.state_dict(), "optimizer_states": [optimizer.state_dict()]}, path)
    check(trained_by(path, Net()), stored(optimizer, module.model))


def test_the_order_is_that_of_the_trained_model(tmp_path: Path) -> None:
    """The same model, whose layers the user's class now defines in another order."""

    class Reordered(Net):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = self._modules.pop("one"), self._modules.pop("two")  # type: ignore[assignment]

    model = Net()
    optimizer = trained(model, optim.AdamW(model.parameters()))
    check(trained_by(saved(tmp_path / "a.pt", model, optimizer), Reordered()), stored(optimizer, model))


@pytest.mark.parametrize("name", ["optimizer.pt", "optimizer.bin"])
def test_a_state_beside_the_weights_of_a_folder(name: str, tmp_path: Path) -> None:
    model = Net()
    optimizer = trained(model, optim.AdamW(model.parameters()))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    torch.save(model.state_dict(), tmp_path / "other.pt")
    torch.save(optimizer.state_dict(), tmp_path / name)
    check(trained_by(tmp_path / "pytorch_model.bin", Net()), stored(optimizer, model))
    assert trained_by(tmp_path / "other.pt", Net()) is None  # a folder of several checkpoints: whose state is it?


def test_of_two_optimizers_the_one_of_the_model_counts(tmp_path: Path) -> None:
    model, critic = Net(), nn.Sequential(nn.Embedding(7, 9), nn.Linear(9, 1))
    one, other = trained(model, optim.AdamW(model.parameters())), trained(critic, optim.AdamW(critic.parameters()))
    path = tmp_path / "gan.pt"
    torch.save({"g": model.state_dict(), "optimizers": {"d": other.state_dict(), "g": one.state_dict()}}, path)
    check(trained_by(path, Net()), stored(one, model))


KINDS: dict[str, tuple[Callable[[Any], optim.Optimizer], str, bool | None]] = {
    "Adam": (optim.Adam, "Adam or AdamW", True),
    "amsgrad": (lambda p: optim.AdamW(p, amsgrad=True), "Adam or AdamW", True),
    "NAdam": (optim.NAdam, "Adam or AdamW", True),
    "RAdam": (optim.RAdam, "Adam or AdamW", True),
    "RMSprop": (lambda p: optim.RMSprop(p, momentum=0.9, centered=True), "RMSprop", True),
    "Adagrad": (optim.Adagrad, "Adagrad", True),
    "Adamax": (optim.Adamax, "Adamax", True),
    "Adadelta": (optim.Adadelta, "Adadelta", True),
    "Adafactor": (optim.Adafactor, "Adafactor", True),
    "SGD": (lambda p: optim.SGD(p, lr=0.1), "SGD", False),
    "momentum": (lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), "SGD", False),
    "Rprop": (optim.Rprop, "an unknown optimizer", None),
    "ASGD": (optim.ASGD, "an unknown optimizer", None),
}


@pytest.mark.parametrize(("make", "name", "adaptive"), KINDS.values(), ids=list(KINDS))
def test_the_kind_of_an_optimizer_is_told_by_its_state(
    make: Callable[[Any], optim.Optimizer], name: str, adaptive: bool | None, tmp_path: Path
) -> None:
    model = Net()
    state = trained_by(saved(tmp_path / "a.pt", model, trained(model, make(model.parameters()))), Net())
    assert state is not None
    assert state.optimizer.name.startswith(name)
    assert state.optimizer.adaptive is adaptive


def test_a_state_with_more_than_that_of_adam_is_of_an_unknown_optimizer(tmp_path: Path) -> None:
    """SOAP and Adan keep exp_avg_sq too, but divide by something else."""
    model = Net()
    content = trained(model, optim.AdamW(model.parameters())).state_dict()
    for entry in content["state"].values():
        entry["GG"] = [torch.ones(5, 5)]
    state = trained_by(saved(tmp_path / "a.pt", model, content), Net())
    assert state is not None
    assert state.optimizer.adaptive is None
    assert "GG" in state.optimizer.name


#: Optimizer -> the divisor of a parameter's step by its own formula, from its state and its group.
DIVISORS: dict[str, tuple[Callable[[Any], optim.Optimizer], Callable[[Any, Any], Tensor]]] = {
    "AdamW": (
        lambda p: optim.AdamW(p, betas=(0.8, 0.97), eps=1e-3),
        lambda s, g: (s["exp_avg_sq"] / (1 - 0.97 ** s["step"])).sqrt() + 1e-3,
    ),
    "amsgrad": (
        lambda p: optim.AdamW(p, amsgrad=True),
        lambda s, g: (s["max_exp_avg_sq"] / (1 - 0.999 ** s["step"])).sqrt() + 1e-8,
    ),
    "RMSprop": (lambda p: optim.RMSprop(p, eps=1e-4), lambda s, g: s["square_avg"].sqrt() + 1e-4),
    "centred": (
        lambda p: optim.RMSprop(p, centered=True),
        lambda s, g: (s["square_avg"] - s["grad_avg"].square()).clamp(min=0).sqrt() + 1e-8,
    ),
    "Adagrad": (optim.Adagrad, lambda s, g: s["sum"].sqrt() + 1e-10),
}

#: Optimizer -> weight of the newest gradient in its second moments.
NEWEST = {"AdamW": 0.03, "amsgrad": 0.001, "RMSprop": 0.01, "centred": 0.01, "Adagrad": 0.25}


@pytest.mark.parametrize("kind", DIVISORS)
def test_second_moments_are_those_that_divide_a_step(kind: str, tmp_path: Path) -> None:
    """The square of the divisor, after one more gradient of mean size in its second moment."""
    make, divisor = DIVISORS[kind]
    model = Net()
    optimizer = trained(model, make(model.parameters()))
    state = trained_by(saved(tmp_path / "a.pt", model, optimizer), Net())
    assert state is not None
    eps = float(optimizer.param_groups[0]["eps"])
    for name, parameter in model.named_parameters():
        root = divisor(optimizer.state[parameter], optimizer.param_groups[0]).double() - eps
        expected = ((root.square() + NEWEST[kind] * root.square().mean()).sqrt() + eps).square()
        found = state.second_moments(name)
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-14)


def test_moments_that_are_not_finite_are_not_used(tmp_path: Path) -> None:
    model = Net()
    content = trained(model, optim.AdamW(model.parameters())).state_dict()
    content["state"][2]["exp_avg_sq"][0] = float("nan")
    state = trained_by(saved(tmp_path / "a.pt", model, content), Net())
    assert state is not None
    assert state.entries is None
    assert "one.bias" in state.reason


def test_a_state_without_its_hyperparameters_is_not_used(tmp_path: Path) -> None:
    """Whose second moments are not known without them."""
    model = Net()
    content = trained(model, optim.AdamW(model.parameters())).state_dict()
    del content["param_groups"][0]["betas"]
    state = trained_by(saved(tmp_path / "a.pt", model, content), Net())
    assert state is not None
    assert state.entries is None
    assert "betas" in state.reason


def test_an_optimizer_before_its_first_step_has_no_moments(tmp_path: Path) -> None:
    model = Net()
    state = trained_by(saved(tmp_path / "a.pt", model, optim.AdamW(model.parameters())), Net())
    assert state is not None
    assert state.optimizer.adaptive is True
    assert state.entries is None


def test_weights_alone_tell_nothing(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "a.pt")
    assert trained_by(tmp_path / "a.pt", Net()) is None


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([(2,), (3,), (2, 3)]), min_size=1, max_size=6), st.data())
def test_assignments_are_those_that_a_search_of_all_finds(shapes: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Two groups: every choice of parameters for the first and of others for the second, in order, with their shapes."""
    optional = data.draw(st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes)))
    group_of = data.draw(st.lists(st.sampled_from([0, 1, None]), min_size=len(shapes), max_size=len(shapes)))
    groups = [[shape for shape, of in zip(shapes, group_of, strict=True) if of == group] for group in (0, 1)]
    places = range(len(shapes))
    expected = [
        [*first, *second]
        for first in combinations(places, len(groups[0]))
        for second in combinations([i for i in places if i not in first], len(groups[1]))
        if [shapes[i] for i in first] == groups[0]
        and [shapes[i] for i in second] == groups[1]
        and all(optional[i] or i in (*first, *second) for i in places)
    ]
    parameters = [Parameter(str(i), shapes[i], optional[i]) for i in places]
    found = assignments(groups, parameters)
    assert len(found) == min(len(expected), 2)
    assert all(way in expected for way in found)
    assert len(found) < 2 or found[0] != found[1]
