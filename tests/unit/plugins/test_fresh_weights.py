"""Members that are blended with fresh weights need a model plugin that gives random ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from trak_cli.errors import InputError
from trak_cli.plugins.checkpoints.fresh_weights import require_fresh_weights, starts_random

TRAINED = nn.Linear(3, 2)


def loaded() -> nn.Module:
    model = nn.Linear(3, 2)
    model.load_state_dict(TRAINED.state_dict())
    return model


def seeded() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def frozen_but_for_a_constant() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    model[0].requires_grad_(False)
    return model


def drawn_outside() -> nn.Module:
    model = nn.Linear(3, 2)
    nn.init.constant_(model.bias, float(np.random.default_rng().normal()))
    return model


@pytest.mark.parametrize("build", [lambda: TRAINED, loaded, seeded, frozen_but_for_a_constant])
def test_a_plugin_that_returns_the_same_weights_is_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match=r"same weights each time.*give ensemble.kind=mask"):
        require_fresh_weights(build)


def test_weights_that_no_seed_determines_are_refused() -> None:
    with pytest.raises(InputError, match=r"other weights for the same seed.*give ensemble.kind=mask"):
        require_fresh_weights(drawn_outside)


def test_a_new_head_on_trained_weights_is_enough() -> None:
    require_fresh_weights(lambda: nn.Sequential(loaded(), nn.Linear(2, 2)))


def with_normalisation() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def with_small_new_head() -> nn.Module:
    return nn.Sequential(loaded(), nn.Linear(2, 1))


@pytest.mark.parametrize(
    ("build", "random"),
    [
        (lambda: nn.Linear(3, 2), True),
        (with_normalisation, True),
        (with_small_new_head, False),
        (loaded, False),
        (drawn_outside, False),
    ],
)
def test_training_starts_random_if_most_weights_are(build: Callable[[], nn.Module], random: bool) -> None:
    before = torch.get_rng_state()
    assert starts_random(build) is random
    assert torch.equal(torch.get_rng_state(), before)
