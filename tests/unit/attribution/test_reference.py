"""The LDS on a real ground truth, if the reference data are next to the repository."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from trak_cli.attribution.lds.bootstrap import Bootstrap, compare
from trak_cli.attribution.lds.ground_truth import check_ground_truth
from trak_cli.attribution.lds.lds import lds, subset_predictions
from trak_cli.attribution.lds.ranks import spearman


@pytest.fixture(scope="module")
def digits():
    folder = Path(__file__).parents[3].parent / "shared" / "reference" / "digits_cnn"
    if not folder.is_dir():
        pytest.skip("the reference data are not next to the repository (../shared/reference)")
    with np.load(folder / "groundtruth.npz") as truth, np.load(folder / "trak_reference.npz") as reference:
        return {**truth, **reference}


def test_the_ground_truth_is_accepted(digits):
    assert check_ground_truth(digits["masks"], digits["outputs"], 1200, 200) == []


def test_lds_of_the_original_library_equals_scipy(digits):
    scores = digits["scores_1"].T
    result = lds(scores, digits["masks"], digits["outputs"])
    sums = scores.astype(np.float64) @ digits["masks"].T
    expected = [spearmanr(p, o).statistic for p, o in zip(sums, digits["outputs"].T, strict=True)]
    np.testing.assert_allclose(result.per_target, expected, atol=1e-10)


def test_two_checkpoints_are_better_than_one(digits):
    named = {m: subset_predictions(digits[f"scores_{m}"].T, digits["masks"]) for m in ("2", "1")}
    (difference,) = compare(named, digits["outputs"], Bootstrap(resamples=300)).differences
    assert difference.interval.low > 0


def test_one_seed_ranks_another_as_published(digits):
    seeds = digits["outputs_single_seed"].transpose(0, 2, 1)
    pairs = [spearman(seeds[a], seeds[b]).mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert np.mean(pairs) == pytest.approx(0.16, abs=0.01)
