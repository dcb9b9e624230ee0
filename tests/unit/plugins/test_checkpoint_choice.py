"""Which weights of a file are loaded, where several could be meant; and what is said where none fit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_layouts import Net, Tied, Wrapped, inside, optimizer_state, other, prefixed, whole_model_state, without
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.checkpoints.identity import sha256
from trak_cli.plugins.checkpoints.state import apply, load

PATH = Path("c.pt")


def state_of(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Random weights for a model."""
    torch.manual_seed(seed)
    state = model.state_dict()
    return {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in state.items()}


def loaded(folder: Path, content: object, model: nn.Module, key: str | None = None) -> dict[str, Tensor]:
    """The weights of the model after loading a file with this content."""
    torch.save(content, folder / PATH)
    apply(model, load(folder / PATH), folder / PATH, key)
    return model.state_dict()


def problems(folder: Path, content: object, model: nn.Module, key: str | None = None) -> tuple[Problem, ...]:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError) as refused:
        loaded(folder, content, model, key)
    assert same(model.state_dict(), before)
    return refused.value.problems


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def keys_offered(problem: Problem) -> list[str]:
    """The values of checkpoints.key in a remedy, as a shell passes them on."""
    options = [word for word in shlex.split(problem.remedy) if word.startswith("checkpoints.key=")]
    return [re.sub(r'^"|"$', "", option.partition("=")[2]) for option in options]


STATE = state_of(Net())

#: Contents with two sets of weights that fit Net and differ.
TWICE: dict[str, Any] = {
    "EMA beside raw weights": {"model": STATE, "ema": whole_model_state(other(STATE)), "optimizer": optimizer_state(STATE)},
    "nested": {"state": {"model": STATE, "model_ema": other(STATE)}},
    "two flat prefixes": {**prefixed(STATE, "student."), **prefixed(other(STATE), "teacher.")},
    "one inside the other": {**STATE, **prefixed(other(STATE), "ema.")},
    "one at the top": {**STATE, "ema": other(STATE)},
    "beside the names with a wrapper": {**STATE, **prefixed(other(STATE), "module.")},
    "a key with a space": {"raw weights": STATE, "averaged weights": other(STATE)},
    "GAN of equal halves": {"G_AB": prefixed(STATE, "module."), "G_BA": prefixed(other(STATE), "module.")},
    "Lightning": {"state_dict": {**prefixed(STATE, "model."), **prefixed(other(STATE), "ema_model.module.")}, "epoch": 3},
    "a list": [STATE, other(STATE)],
}


@pytest.mark.parametrize("content", TWICE.values(), ids=TWICE.keys())
def test_two_sets_of_weights_that_fit_are_refused_and_each_offered_key_loads_one(content: object, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, content, Net())
    assert "several weights that fit the model and differ" in problem.found
    keys = keys_offered(problem)
    results = [loaded(tmp_path, content, Net(), key) for key in keys]
    assert [same(result, STATE) for result in results] == [True, False]
    assert same(results[1], other(STATE))


def test_the_model_with_a_prefix_does_not_hide_other_weights_that_fit(tmp_path: Path) -> None:
    state = state_of(Wrapped())
    content = {"net": inside(state, "net.", ""), "ema": inside(other(state), "net.", "")}
    (problem,) = problems(tmp_path, content, Wrapped())
    assert keys_offered(problem) == ["net", "ema"]


def test_the_part_of_a_file_that_fits_exactly_is_loaded(tmp_path: Path) -> None:
    small, large = (
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)),
    )
    content = {"generator": state_of(large), "discriminator": state_of(small, 1)}
    assert same(loaded(tmp_path, content, small), content["discriminator"])
    assert same(loaded(tmp_path, content, large), content["generator"])


def test_a_wrong_key_names_the_keys_there_are(tmp_path: Path) -> None:
    content = {"model": STATE, "ema": other(STATE)}
    (problem,) = problems(tmp_path, content, Net(), "modell")
    assert "model" in problem.expected
    assert keys_offered(problem) == ["model?"]
    assert same(loaded(tmp_path, content, Net(), "model"), STATE)


def test_the_key_is_part_of_the_identity(tmp_path: Path) -> None:
    torch.save({"model": STATE, "ema": other(STATE)}, tmp_path / PATH)
    assert len({sha256(tmp_path / PATH, key) for key in (None, "model", "ema")}) == 3


MISFITS: dict[str, tuple[object, type[nn.Module], list[str]]] = {
    "another prefix of a part": (
        inside(STATE, "encoder.", "backbone."),
        Net,
        [r"backbone\.\* \(9 tensors\); expected encoder\.\*"],
    ),
    "other prefixes of all parts": (
        {"state_dict": inside(inside(STATE, "encoder.", "backbone.0."), "head.", "fc.")},
        Net,
        [r"backbone\.0\.\* \(9 tensors\), \S*fc\.\* \(2 tensors\)"],
    ),
    "half of the names": (
        {name: value for name, value in STATE.items() if name.startswith("encoder.")},
        Net,
        [r"no head\.weight, head\.bias; expected head\.weight \(3, 5\), head\.bias \(3,\)"],
    ),
    "a head of another size": (
        {**STATE, "head.weight": torch.ones(7, 5), "head.bias": torch.ones(7)},
        Net,
        [r"head\.weight \(7, 5\), head\.bias \(7,\); expected head\.weight \(3, 5\), head\.bias \(3,\); build the model"],
    ),
    "an extra head of another size": (
        {**STATE, "head_2.weight": torch.ones(7, 5), "head_2.bias": torch.ones(7)},
        Net,
        [r"head_2\.weight \(7, 5\), head_2\.bias \(7,\); expected no such names"],
    ),
    "a deeper model": (
        {**STATE, "encoder.4.weight": torch.ones(5, 5)},
        Net,
        [r"encoder\.4\.weight \(5, 5\); expected no such names"],
    ),
    "another model": (
        {"features.0.weight": torch.ones(2, 2), "classifier.weight": torch.ones(2)},
        Net,
        [
            r"no encoder\.0\.weight, .*more \(of 11\)",
            r"features\.0\.weight \(2, 2\), classifier\.weight \(2,\); expected no such",
        ],
    ),
    "no running statistics": (
        without(STATE, "running_mean", "running_var"),
        Net,
        [r"no encoder\.1\.running_mean, encoder\.1\.running_var"],
    ),
    "two nested models of which neither fits": (
        {"generator": without(STATE, "head.bias"), "discriminator": without(STATE, "head.weight", "head.bias")},
        Net,
        [r"\(generator\): found no head\.bias"],
    ),
    "integers instead of weights": (
        {**STATE, "head.weight": torch.ones(3, 5, dtype=torch.int8)},
        Net,
        [r"head\.weight of torch\.int8; expected floating-point weights"],
    ),
    "only an optimizer": (optimizer_state(STATE), Net, [r"no encoder", r"state\.0\.step"]),
    "tied weights that differ": (
        {
            "embed.weight": torch.ones(4, 4),
            "out.weight": torch.zeros(4, 4),
            "body.weight": torch.ones(4, 4),
            "body.bias": torch.ones(4),
        },
        Tied,
        [r"different values for embed\.weight and out\.weight"],
    ),
}


@pytest.mark.parametrize(("content", "model", "told"), MISFITS.values(), ids=MISFITS.keys())
def test_one_problem_is_told_for_each_kind_of_difference(
    content: object, model: type[nn.Module], told: list[str], tmp_path: Path
) -> None:
    found = problems(tmp_path, content, model())
    assert len(found) == len(told)
    for problem, pattern in zip(found, told, strict=True):
        assert re.search(pattern, str(problem)), str(problem)


class WithConstant(nn.Module):
    """A module with a buffer that its files may hold or lack, such as the positions of older BERT classes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.body = nn.Linear(2, 2)
        self.register_buffer("positions", torch.arange(size), persistent=False)


def test_a_constant_that_older_versions_stored_may_be_there_with_the_value_of_the_model(tmp_path: Path) -> None:
    state = state_of(WithConstant(3))
    assert same(loaded(tmp_path, {**state, "positions": torch.arange(3)}, WithConstant(3)), state)
    for value in (torch.arange(3) + 1, torch.arange(4)):
        (problem,) = problems(tmp_path, {**state, "positions": value}, WithConstant(3))
        assert "positions" in problem.found


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_older_files_of_transformers_are_read(kind: str, tmp_path: Path) -> None:
    """BERT's positions and GPT-2's masks were stored; the hub's GPT-2 has the names of the model without its output layer."""
    transformers = pytest.importorskip("transformers")
    if kind == "bert":
        config = transformers.BertConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=20
        )
        model = transformers.BertForSequenceClassification(config)
        extra = {"bert.embeddings.position_ids": torch.arange(512)[None]}
        state = state_of(model)
    else:
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20))
        extra = {"h.0.attn.bias": torch.ones(1, 1, 4, 4)}
        state = state_of(model)
        state["lm_head.weight"] = state["transformer.wte.weight"]
    stored = {name.removeprefix("transformer."): value for name, value in state.items() if name != "lm_head.weight"}
    assert same(loaded(tmp_path, {**stored, **extra}, model), state)


def test_lazy_parameters_take_the_shapes_of_the_file(tmp_path: Path) -> None:
    state = state_of(nn.Sequential(nn.Linear(4, 3)))
    model = nn.Sequential(nn.LazyLinear(3))
    torch.save({"state_dict": prefixed(state, "model.")}, tmp_path / PATH)
    apply(model, load(tmp_path / PATH), tmp_path / PATH)
    assert same(model.state_dict(), state)
