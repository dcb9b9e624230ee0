"""Probes show a collate or a model that gives a sample another value in a batch than alone, and the refusal says why."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from trak_cli.errors import InputError
from trak_cli.gradients.checks.independence import check_independence
from trak_cli.stages.inputs.probes import choose_probes
from trak_cli.stages.inputs.split import Split
from trak_cli.tasks import BinaryClassification, Classification, Regression, Task

Sample = tuple[Tensor, Any]

#: The first twenty rows have one length, as texts in a sorted or padded file often have.
LENGTHS = [6] * 20 + [4, 9, 6, 13, 3, 6, 7, 21] * 30


class Texts:
    """Row i: LENGTHS[i] tokens out of 1..29, and a label."""

    def __init__(self, label: Callable[[int], Any] = lambda row: row * 7 % 3, lengths: Sequence[int] = LENGTHS) -> None:
        self.label, self.lengths = label, lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Sample:
        generator = torch.Generator().manual_seed(row)
        return torch.randint(1, 30, (self.lengths[row],), generator=generator), self.label(row)


def padded(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    return pad_sequence([tokens for tokens, _ in samples], batch_first=True), torch.tensor([label for _, label in samples])


def checked(collate: Any, model: nn.Module, task: Task | None = None, data: Any = None) -> float:
    data = data or Texts()
    split = Split("train", data, len(data), collate, torch.device("cpu"))
    return check_independence(model.eval(), task or Classification(), choose_probes(split).trial)


class Pooled(nn.Module):
    """Embeds the tokens, lets ``pool`` combine the positions of (B, T, 8) and a mask (B, T), and classifies."""

    def __init__(self, pool: Callable[[Tensor, Tensor], Tensor], classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pool, self.embedding, self.last = pool, nn.Embedding(30, 8), nn.Linear(8, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.last(self.pool(self.embedding(tokens), tokens != 0))
        return out


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)


class Recurrent(nn.Module):
    """The last state of a GRU over the tokens; ``pack``: over those of the sample only."""

    def __init__(self, pack: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pack, self.embedding, self.cell, self.last = (
            pack,
            nn.Embedding(30, 8),
            nn.GRU(8, 8, batch_first=True),
            nn.Linear(8, 3),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x: Any = self.embedding(tokens)
        if self.pack:
            x = pack_padded_sequence(x, (tokens != 0).sum(1), batch_first=True, enforce_sorted=False)
        out: Tensor = self.last(self.cell(x)[1][0])
        return out


class Attentive(nn.Module):
    """A transformer layer; ``masked``: without attention to padding."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.masked, self.embedding = masked, nn.Embedding(30, 8)
        self.layer, self.last = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = tokens == 0 if self.masked else None
        out: Tensor = self.last(self.layer(self.embedding(tokens), src_key_padding_mask=mask)[:, 0])
        return out


# Accepted


@pytest.mark.parametrize("model", [Pooled(masked_mean), Recurrent(pack=True), Attentive(masked=True)])
def test_models_that_mask_padding_are_accepted(model: nn.Module) -> None:
    checked(padded, model)


def test_padding_to_a_multiple_of_eight_with_a_mask_is_accepted() -> None:
    def to_eight(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        tokens, labels = padded(samples)
        return nn.functional.pad(tokens, (0, -tokens.shape[1] % 8)), labels

    checked(to_eight, Pooled(masked_mean))


def test_rows_that_are_padded_to_one_length_by_the_data_set_are_accepted() -> None:
    """Padding that is the same in every batch is part of the sample."""

    def fixed(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        tokens, labels = padded(samples)
        return nn.functional.pad(tokens, (0, 32 - tokens.shape[1])), labels

    checked(fixed, Pooled(lambda x, mask: x.mean(1)))


def test_images_of_one_size_are_accepted() -> None:
    images = [(torch.randn(3, 8, 8), row % 3) for row in range(40)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    checked(torch.utils.data.default_collate, model, data=images)


def test_concatenated_graphs_are_accepted() -> None:
    """A batch of graphs is one graph of all nodes, with the number of the graph of each node."""

    def joined(samples: Sequence[Sample]) -> dict[str, Tensor]:
        graph = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor([len(tokens) for tokens, _ in samples]))
        labels = torch.tensor([label for _, label in samples])
        return {"nodes": torch.cat([tokens for tokens, _ in samples]), "graph": graph, "label": labels}

    class Graphs(Pooled):
        def forward(self, batch: Any) -> Tensor:
            x, size = self.embedding(batch["nodes"]), int(batch["graph"].max()) + 1
            out: Tensor = self.last(torch.zeros(size, 8).index_add(0, batch["graph"], x))
            return out

    class OfGraphs(Task):
        def output(self, model: nn.Module, batch: Any) -> Tensor:
            return model(batch).gather(1, batch["label"].unsqueeze(1)).squeeze(1)

    checked(joined, Graphs(masked_mean), OfGraphs())


# The order of the samples


def by_length(samples: Sequence[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda sample: -len(sample[0]))


SORTING: dict[str, Callable[[Sequence[Sample]], Sequence[Sample]]] = {
    "longest first": by_length,
    "shortest first": lambda samples: sorted(samples, key=lambda sample: len(sample[0])),
    "by label": lambda samples: sorted(samples, key=lambda sample: sample[1]),
    "by content": lambda samples: sorted(samples, key=lambda sample: sample[0].tolist()),
    "shuffled": lambda samples: random.sample(list(samples), len(samples)),
    "shuffled by a fixed seed": lambda samples: random.Random(3).sample(list(samples), len(samples)),
    "last first": lambda samples: samples[::-1],
    "rotated": lambda samples: [*samples[1:], samples[0]],
}


@pytest.mark.parametrize("key", list(SORTING))
def test_a_collate_that_changes_the_order_is_named(key: str) -> None:
    with pytest.raises(InputError, match=r"dataset\.collate.*the order of the samples changes"):
        checked(lambda samples: padded(SORTING[key](samples)), Pooled(masked_mean))


@pytest.mark.parametrize("key", list(SORTING))
def test_the_order_is_named_although_padding_is_not_masked_either(key: str) -> None:
    with pytest.raises(InputError, match=r"dataset\.collate.*the order of the samples changes"):
        checked(lambda samples: padded(SORTING[key](samples)), Pooled(lambda x, mask: x.mean(1)))


@pytest.mark.parametrize("key", list(SORTING)[2:])
def test_rows_of_one_length_that_change_places_are_found_too(key: str) -> None:
    with pytest.raises(InputError, match="the order of the samples changes"):
        checked(lambda samples: padded(SORTING[key](samples)), Pooled(masked_mean), data=Texts(lengths=[5] * 300))


@pytest.mark.parametrize("rare", [0.05, 0.1])
def test_sorting_by_a_rare_label_is_found(rare: float) -> None:
    data = Texts(lambda row: int(row < rare * len(LENGTHS)), [5] * len(LENGTHS))
    with pytest.raises(InputError, match="the order of the samples changes"):
        checked(lambda samples: padded(SORTING["by label"](samples)), Pooled(masked_mean), data=data)


@pytest.mark.parametrize(
    ("task", "label"),
    [
        (Classification(), lambda row: row * 7 % 3),
        (BinaryClassification(), lambda row: row % 2),
        (Regression(), lambda row: (row * 37 % 101) / 10),  # f of a regression does not depend on the label: q does
    ],
    ids=["classes", "binary", "regression"],
)
@pytest.mark.parametrize("key", ["longest first", "by label", "rotated"])
def test_labels_in_another_order_than_the_inputs_are_named(key: str, task: Task, label: Any) -> None:
    def labels_moved(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        return padded(samples)[0], padded(SORTING[key](samples))[1]

    model = Pooled(masked_mean, classes=3 if isinstance(task, Classification) else 1)
    with pytest.raises(InputError, match=r"dataset\.collate.*the order of the samples changes in batch\[1\]"):
        checked(labels_moved, model, task, Texts(label))


def test_inputs_in_another_order_than_the_labels_are_named_by_their_key() -> None:
    def inputs_moved(samples: Sequence[Sample]) -> dict[str, Tensor]:
        return {"tokens": padded(by_length(samples))[0], "label": padded(samples)[1]}

    with pytest.raises(InputError, match=r"the order of the samples changes in batch\['tokens'\]"):
        checked(inputs_moved, Pooled(masked_mean), Classification("tokens", "label"))


# The number of the samples


@pytest.mark.parametrize(
    "collate",
    [
        lambda samples: padded([sample for sample in samples if len(sample[0]) < 15] or samples),
        lambda samples: padded(samples[: 4 * (len(samples) // 4)] or samples),
        lambda samples: padded([*samples, samples[0]]),
    ],
    ids=["leaves out long ones", "only whole fours", "one twice"],
)
def test_a_collate_that_drops_or_adds_samples_is_refused_with_both_numbers(collate: Any) -> None:
    with pytest.raises(InputError, match=r"a batch of \d+ from \d+ samples?"):
        checked(collate, Pooled(masked_mean))


def test_a_collate_that_replaces_samples_is_named() -> None:
    def replacing(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        good = [sample for sample in samples if len(sample[0]) < 15] or samples
        return padded([*good, *[good[0]] * (len(samples) - len(good))])

    with pytest.raises(InputError, match=r"dataset\.collate.*samples are repeated in place of others"):
        checked(replacing, Pooled(masked_mean))


def test_a_collate_that_cuts_to_the_smallest_is_named() -> None:
    def cut(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        tokens, labels = padded(samples)
        return tokens[:, : min(len(tokens) for tokens, _ in samples)], labels

    with pytest.raises(InputError, match=r"dataset\.collate.*cut to the smallest of the batch"):
        checked(cut, Pooled(masked_mean))


# Padding


def left_padded(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    longest = max(len(tokens) for tokens, _ in samples)
    tokens = [nn.functional.pad(tokens, (longest - len(tokens), 0)) for tokens, _ in samples]
    return torch.stack(tokens), torch.tensor([label for _, label in samples])


@pytest.mark.parametrize(
    ("model", "collate"),
    [
        (Pooled(lambda x, mask: x.mean(1)), padded),
        (Pooled(lambda x, mask: x.amax(1)), padded),
        (Pooled(lambda x, mask: x[:, -1]), padded),
        (Pooled(lambda x, mask: x.sum(1)), padded),
        (Pooled(lambda x, mask: x[:, 0]), left_padded),
        (Recurrent(pack=False), padded),
        (Attentive(masked=False), padded),
    ],
    ids=["mean", "maximum", "last position", "sum", "first position, padded on the left", "GRU", "attention"],
)
def test_padding_without_a_mask_is_named_with_the_length(model: nn.Module, collate: Any) -> None:
    with pytest.raises(InputError, match=r"padding without a mask.*beside the larger sample \d+ of train \(size 2[12]\)"):
        checked(collate, model)


# Statistics of the batch


@pytest.mark.parametrize(
    ("norm", "where"),
    [
        (nn.BatchNorm1d(8, track_running_stats=False), r"model: 1 \(BatchNorm1d\)"),
        (nn.Softmax(dim=0), "statistics over the batch"),
        (nn.GroupNorm(1, 8), None),
    ],
)
def test_statistics_of_the_batch_are_told_from_those_of_a_sample(norm: nn.Module, where: str | None) -> None:
    rows = [(torch.randn(4), row % 3) for row in range(50)]
    model = nn.Sequential(nn.Linear(4, 8), norm, nn.Linear(8, 3))
    if where is None:
        checked(torch.utils.data.default_collate, model, data=rows)
    else:
        with pytest.raises(InputError, match=where):
            checked(torch.utils.data.default_collate, model, data=rows)
