"""What a run says whose features would differ from the stored ones: each difference once, with the override that keeps them."""

from __future__ import annotations

import re
import shlex

import pytest
from tiny_project import Project

STORE = 3


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        (["projection.seed=9"], {"projection.seed"}),
        (["projection.dim=64"], {"projection.dim"}),
        (["features.dtype=float16"], {"dtype"}),
        (["projection.kind=gaussian"], {"projection.kind"}),
        (["gradients.optimizer=adam"], {"optimizer"}),
        (["gradients.autocast=bfloat16"], {"autocast"}),
        (["+model.batch_statistics=false"], {"model.batch_statistics"}),
        (["projection.seed=9", "features.dtype=bfloat16"], {"projection.seed", "dtype"}),
    ],
)
def test_a_difference_is_printed_once_with_the_override_that_takes_it_back(
    featurized: Project, changed: list[str], keys: set[str]
) -> None:
    message = featurized.refused(STORE, "featurize", *changed, says=("store=FOLDER", "1 more checkpoints"))
    assert sorted(re.findall(r"fingerprint ([\w.]+)", message)) == sorted(keys)
    back = [shlex.split(text)[0] for text in re.findall(r"to keep the features, give (.*); or", message)]
    gone = re.findall(r"do: +leave ([\w.]+) out", message)
    assert len(back) + len(gone) == len(keys)
    kept = [text for text in changed if text.lstrip("+").partition("=")[0] not in gone]
    featurized.done("featurize", *kept, *back)
