"""Scales in a file: two arrays, however many parameters there are; and which samples they are made of."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from trak_cli.gradients.transforms.adam import Scale, matrix_shape
from trak_cli.stages.featurizing.adam_scales import SAMPLES, joined, split_scales
from trak_cli.types import evenly_spaced


@given(st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=80))
def test_any_number_of_parameters_comes_back_from_two_arrays(shapes: list[list[int]]) -> None:
    parameters = {f"p{i}": torch.zeros(shape) for i, shape in enumerate(shapes)}
    scales = {}
    for name, parameter in parameters.items():
        m, n = matrix_shape(parameter)
        assert m * n == parameter.numel()
        scales[name] = Scale(torch.rand(m), torch.rand(n))
    arrays = {name: tensor.numpy() for name, tensor in joined(scales).items()}
    assert set(arrays) == {"rows", "columns"}
    found = split_scales(arrays, parameters, torch.device("cpu"))
    assert list(found) == list(scales)
    for name, one in scales.items():
        assert torch.equal(found[name].rows, one.rows)
        assert torch.equal(found[name].columns, one.columns)


@given(st.integers(1, 5000))
def test_samples_are_spread_over_the_whole_training_set(rows: int) -> None:
    some = evenly_spaced(rows, SAMPLES).tolist()
    assert len(some) == len(set(some)) == min(rows, SAMPLES)
    assert some[0] == 0
    assert rows == 1 or some[-1] == rows - 1
    gaps = [b - a for a, b in pairwise(some)]
    assert not gaps or max(gaps) - min(gaps) <= 1
