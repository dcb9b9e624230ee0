"""A ground truth of the wrong shape is refused with the shape that is wanted."""

import numpy as np
import pytest

from trak_cli.attribution.lds.ground_truth import axis_orders, check_ground_truth

N, T, S = 12, 5, 8


def _good():
    generator = np.random.default_rng(0)
    masks = np.array([generator.permutation(N) < N // 2 for _ in range(S)])
    return masks, generator.standard_normal((S, T)).astype(np.float32)


def _problems(masks, outputs):
    return check_ground_truth(masks, outputs, N, T)


def _only(masks, outputs):
    (problem,) = _problems(masks, outputs)
    return problem


def test_a_correct_model_passes():
    masks, outputs = _good()
    assert _problems(masks, outputs) == []
    assert _problems(masks, outputs.astype(np.float16)) == []


def test_transposed_arrays_are_recognised():
    masks, outputs = _good()
    first, second = _problems(masks.T, outputs.T)
    assert (first.where, second.where) == ("ground truth: masks", "ground truth: outputs")
    assert first.found == f"shape ({N}, {S})"
    assert f"(subsets, {N})" in first.expected
    assert f"(subsets, {T})" in second.expected
    assert "transpose" in first.remedy
    assert "transpose" in second.remedy


def test_wrong_widths_name_the_expected_width():
    masks, outputs = _good()
    problem = _only(masks[:, :-1], outputs)
    assert f"the {N} training samples" in problem.expected
    assert "transpose" not in problem.remedy
    assert f"the {T} targets" in _only(masks, outputs[:, 0]).expected


def test_axes_of_outputs_of_several_models_are_told_apart_by_their_sizes():
    masks, outputs = _good()
    by_model = np.stack([outputs, outputs, outputs], axis=1)
    assert _problems(masks, by_model) == []
    for order, back in (((1, 0, 2), (1, 0, 2)), ((0, 2, 1), (0, 2, 1)), ((2, 0, 1), (1, 2, 0))):
        problem = _only(masks, by_model.transpose(order))
        assert problem.expected.startswith(f"shape ({S} subsets, models, {T})")
        assert f"outputs.transpose{back}" in problem.remedy


def test_every_order_of_axes_that_has_the_wanted_sizes_is_named():
    assert axis_orders((2, 8, 5), (8, None, 5)) == [(1, 0, 2)]
    assert axis_orders((8, 8, 5), (8, None, 5)) == [(0, 1, 2), (1, 0, 2)]
    assert axis_orders((2, 5, 5), (5, None, 5)) == [(1, 0, 2), (2, 0, 1)]
    assert axis_orders((8, 0, 5), (8, None, 5)) == []
    assert axis_orders((8, 5), (8, None, 5)) == []


def test_rows_must_be_the_same_subsets():
    masks, outputs = _good()
    problem = _only(masks, outputs[:-1])
    assert problem.found == f"{S - 1} rows, while masks has {S}"


def test_too_few_subsets():
    masks, outputs = _good()
    assert _only(masks[:2], outputs[:2]).found == "2 subsets"


@pytest.mark.parametrize(
    ("masks", "remedy"),
    [
        (_good()[0].astype(np.int64), "astype(bool)"),
        (_good()[0] * 2, "not lists of indices"),
        (_good()[0].astype(np.float32), "not lists of indices"),
    ],
)
def test_masks_must_be_bool(masks, remedy):
    problem = _only(masks, _good()[1])
    assert problem.expected == "dtype bool"
    assert remedy in problem.remedy


def test_outputs_must_be_real_numbers():
    masks, outputs = _good()
    assert _only(masks, outputs.astype(np.int32)).where == "ground truth: outputs"
    assert _only(masks, outputs.astype(str)).where == "ground truth: outputs"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_must_be_finite_and_the_first_bad_one_is_named(bad):
    masks, outputs = _good()
    outputs[3, 2] = bad
    outputs[5, 1] = bad
    assert _only(masks, outputs).found == "2 NaN or infinite entries (first: subset 3, target 2)"


def test_empty_and_full_subsets_are_named():
    masks, outputs = _good()
    masks[1], masks[4], masks[6] = False, True, True
    empty, full = _problems(masks, outputs)
    assert "empty: 1 subset (rows 1)" in empty.found
    assert "(rows 4, 6)" in full.found


def test_long_lists_of_rows_are_cut():
    masks, outputs = _good()
    masks[:7] = False
    assert "(rows 0, 1, 2, 3, 4, …)" in _only(masks, outputs).found


def test_the_same_subset_again_and_again():
    masks, outputs = _good()
    masks[:] = masks[0]
    assert "same subset" in _only(masks, outputs).found


def test_outputs_that_never_change():
    masks, outputs = _good()
    outputs[:] = outputs[0]
    assert "same output" in _only(masks, outputs).found


def test_all_problems_are_reported_at_once():
    masks, outputs = _good()
    outputs[0, 0] = np.nan
    masks[0] = False
    assert len(_problems(masks, outputs)) == 2
    assert len(_problems(masks.astype(np.int8), outputs.T)) == 2
