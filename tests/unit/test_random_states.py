"""The global random states around code that draws from them."""

from __future__ import annotations

import pytest
import torch

from trak_cli.random_states import random_states_kept, set_random_states


def test_gpus_that_nobody_has_used_yet_start_from_the_seed_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with random_states_kept():
        torch.manual_seed(7)
        with random_states_kept():
            set_random_states(3)
        assert seeds[-2:] == [3, 7]
