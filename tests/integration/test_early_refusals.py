"""What would stop a run late, or leave its scores without meaning, shows before the first feature, in featurize and doctor."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_project import ROWS, TARGETS, Project

both = pytest.mark.parametrize("stage", ["featurize", "doctor"])


def edit(project: Project, before: str, after: str) -> None:
    (path,) = project.folder.glob("*_plugin.py")
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def shown(project: Project, stage: str, *arguments: str, code: int = 4) -> str:
    """What a stage prints, on either stream, when no feature may be written."""
    before = project.files()
    outcome = project.trak(stage, *arguments)
    assert outcome.code == code, outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr
    if code:
        assert {path: content for path, content in project.files().items() if "features" in path} == before_features(before)
    return " ".join((outcome.stdout + outcome.stderr).split())


def before_features(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if "features" in path}


# Samples of all splits


@both
def test_a_target_that_is_longer_than_the_models_positions(words: Project, stage: str) -> None:
    """The only long sentence is a target in the middle of the split."""
    edit(words, "torch.randint(12, (3 + row % 6,)", "torch.randint(12, (81 if row == 7 and self.seed == 2 else 3 + row % 6,)")
    edit(words, "nn.Linear(7, 12)", "nn.Linear(7, 12)\n        self.wpe = nn.Embedding(64, 6)")
    edit(words, "x = self.embed(input_ids)", "x = self.embed(input_ids) + self.wpe.weight[: input_ids.shape[1]]")
    for path in (words.folder / "checkpoints").iterdir():
        save_file(load_file(path) | {"wpe.weight": torch.zeros(64, 6)}, path)
    text = shown(words, stage)
    assert "sample 7 of test" in text
    assert "81 tokens" in text


@both
@pytest.mark.parametrize("row", [0, 5, TARGETS - 1])
def test_a_target_with_a_label_out_of_range(project: Project, stage: str, row: int) -> None:
    assert f"sample {row} of test" in shown(project, stage, f"+dataset.targets.test.label={row}")


@both
def test_a_target_that_cannot_be_read(project: Project, stage: str) -> None:
    edit(
        project,
        "        nan, label, edit =",
        "        if self.seed == 2 and row == 8: raise OSError('bad jpeg')\n        nan, label, edit =",
    )
    assert "sample 8 of test" in shown(project, stage)


@both
def test_problems_of_several_splits_are_told_at_once(project: Project, stage: str) -> None:
    edit(project, "        nan, label, edit =", "        if row == 8: raise OSError('bad jpeg')\n        nan, label, edit =")
    text = shown(project, stage)
    assert "sample 8 of train" in text
    assert "sample 8 of test" in text


@pytest.mark.parametrize("share", [0.04, 0.1])
def test_augmentation_of_a_few_samples_is_found(project: Project, share: float) -> None:
    """With 600 samples, of which 128 are read twice."""
    edit(project, "        if self.random:", f"        if self.random and hash((row, 7)) % 1000 < {1000 * share}:")
    text = shown(project, "featurize", "+dataset.train.random=true", f"dataset.train.rows={10 * ROWS}")
    assert "different values when it was read again" in text
    assert "of train" in text


def test_augmentation_of_the_targets_is_found(project: Project) -> None:
    text = shown(project, "featurize", "+dataset.targets.test.random=true")
    assert "of test" in text


# Order and padding

SORTING = """
class Sorting:
    def __call__(self, samples):
        ordered = sorted(samples, key=KEY)
        return torch.stack([x for x, _ in ordered]), torch.tensor([y for _, y in ordered])
"""


@both
@pytest.mark.parametrize(
    "key", ["lambda sample: sample[1]", "lambda sample: -sample[1]", "lambda sample: float(sample[0].sum())"]
)
def test_a_collate_that_sorts_is_refused_naming_the_order(project: Project, stage: str, key: str) -> None:
    with (project.folder / "tiny_plugin.py").open("a") as file:
        file.write(SORTING.replace("KEY", key))
    text = shown(project, stage, "dataset.collate={_target_: tiny_plugin.Sorting}")
    assert "the order of the samples changes" in text


def test_targets_of_retrained_models_keep_their_order_too(project: Project) -> None:
    """The outputs of retrained models are the ground truth of the LDS."""
    with (project.folder / "tiny_plugin.py").open("a") as file:
        file.write(SORTING.replace("KEY", "lambda sample: sample[1]"))
    arguments = ("trainer={_target_: trak_cli.plugins.SGDTrainer, epochs: 1}", "retrain.subsets=2")
    project.done("retrain", *arguments, "name=kept")
    text = shown(project, "retrain", *arguments, "dataset.collate={_target_: tiny_plugin.Sorting}")
    assert "the order of the samples changes" in text


@both
def test_padding_without_a_mask_is_refused_although_the_first_rows_have_one_length(words: Project, stage: str) -> None:
    edit(words, "(3 + row % 6,)", "(5 if row < 30 else 3 + row % 6,)")
    edit(
        words,
        "before = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]",
        "before = x.mean(1, keepdim=True).expand_as(x)",
    )
    assert "padding without a mask" in shown(words, stage)


# The quality of the model


@both
def test_the_quality_on_both_splits_is_printed_with_a_warning_near_chance(project: Project, stage: str) -> None:
    text = shown(project, stage, code=0)  # random weights and labels
    assert "on 60 samples of train" in text
    assert f"on {TARGETS} samples of test" in text
    assert "is near chance (0.333)" in text


def learned(project: Project) -> None:
    """Labels that the first checkpoint gives, so that the model is perfect."""
    edit(
        project,
        "        nan, label, edit =",
        "        w = load_file('checkpoints/a.safetensors')\n"
        "        h = torch.tanh(w['first.weight'] @ inputs + w['first.bias'])\n"
        "        answer = int((w['second.weight'] @ h + w['second.bias']).argmax())\n"
        "        inputs = inputs * self.scale\n"
        "        nan, label, edit =",
    )
    edit(project, "random=False):", "random=False, scale=1.0):\n        self.scale = scale")
    edit(project, "import itertools", "import itertools\n\nfrom safetensors.torch import load_file")


@both
def test_a_good_model_has_no_warning(project: Project, stage: str) -> None:
    learned(project)
    text = shown(project, stage, code=0)
    assert "accuracy = 1 on 60 samples of train" in text
    assert "warning" not in text


@both
def test_targets_that_are_preprocessed_otherwise_are_far_from_the_training_set(project: Project, stage: str) -> None:
    learned(project)
    text = shown(project, stage, "+dataset.targets.test.scale=-3", "dataset.targets.test.rows=60", code=0)
    assert "warning: accuracy on test" in text
    assert "test" in text


@both
def test_a_quality_that_cannot_be_computed_stops_nothing(project: Project, stage: str) -> None:
    (project.folder / "own_task.py").write_text(
        "from trak_cli.tasks import Classification\n\n\n"
        "class Own(Classification):\n"
        "    def quality(self, model, batches):\n"
        "        raise ValueError('not for this task')\n"
    )
    text = shown(project, stage, "task={_target_: own_task.Own}", code=0)
    assert "quality unknown on train (ValueError: not for this task)" in text


def test_the_summary_of_doctor_has_the_quality(project: Project) -> None:
    summary: dict[str, Any] = json.loads(project.done("doctor", "--json").stdout)
    assert [each["split"] for each in summary["quality"]] == ["train", "test"]
    assert summary["quality"][0]["quality"]["name"] == "accuracy"
    assert summary["warnings"]


# The start token


def test_a_start_token_that_is_there_twice_fails_in_doctor_and_warns_in_featurize(words: Project) -> None:
    edit(words, "left_out =", "tokens = torch.cat([torch.tensor([1, 1]), tokens])\n        left_out =")
    edit(
        words,
        "        self.rows, self.seed, self.empty =",
        "        self.tokenizer = Tokenizer()\n        self.rows, self.seed, self.empty =",
    )
    edit(
        words,
        "class Data:",
        "class Tokenizer:\n    bos_token_id = 1\n\n    def decode(self, ids):\n        return '<s>'\n\n\nclass Data:",
    )
    assert "start token <s> (1) twice" in shown(words, "doctor")
    assert "warning: sample 0 of train: the start token <s> (1) twice" in shown(words, "featurize", code=0)


# Without samples


@pytest.mark.parametrize("stage", ["featurize", "doctor", "train", "score", "tune", "top"])
def test_a_check_of_the_configuration_says_what_it_did_not_check(project: Project, stage: str) -> None:
    text = shown(project, "config", "--check", stage, "trainer={_target_: trak_cli.plugins.SGDTrainer}", code=0)
    assert f"ok for {stage}" in text
    assert "not checked: " in text


def test_a_check_of_the_configuration_looks_for_the_files_of_data_sets(project: Project) -> None:
    data = "dataset.train={_target_: trak_cli.plugins.SampleFile, path: none.npz}"
    text = shown(project, "config", "--check", "featurize", "~dataset.train", f"+{data}", code=2)
    assert "dataset.train.path" in text
    assert "no file or folder in" in text
