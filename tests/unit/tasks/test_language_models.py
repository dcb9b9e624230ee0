"""What f, q and the loss of language models are, against the formulas token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trak_cli.errors import InputError
from trak_cli.tasks import CausalLM, LanguageModel, MaskedLM, SampleError, Seq2SeqLM, TextClassification

VOCABULARY = 9


class Answer(nn.Module):
    """Logits that depend on the position and, for the decoder, on its tokens: enough to see which label meets which."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64))
        self.config = type("Config", (), {"decoder_start_token_id": 7, "pad_token_id": 0})()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor | None = None) -> Any:
        return type("Output", (), {"logits": self.table[input_ids if decoder_input_ids is None else decoder_input_ids]})()


def batch(labels: list[list[int]], ids: list[list[int]] | None = None) -> dict[str, Tensor]:
    tokens = torch.tensor(labels if ids is None else ids).clamp(min=0)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": torch.tensor(labels)}


def log_odds(model: Answer, given: int, right: int) -> float:
    p = model.table[given].detach().softmax(-1)[right]
    return float(torch.log(p / (1 - p)))


#: task, batch, and for each sample the pairs (token that is seen last, token that is predicted)
CASES = {
    "causal": (
        CausalLM(),
        batch([[-100, -100, 3, 4], [1, 2, -100, -100]], ids=[[5, 6, 3, 4], [1, 2, 0, 0]]),
        [[(6, 3), (3, 4)], [(1, 2)]],
    ),
    "masked": (MaskedLM(), batch([[-100, 5, -100], [2, -100, 1]], ids=[[3, 8, 4], [8, 6, 8]]), [[(8, 5)], [(8, 2), (8, 1)]]),
    "encoder and decoder": (
        Seq2SeqLM(),
        batch([[3, 4, -100], [5, 6, 1]], ids=[[2, 2, 2], [2, 2, 2]]),
        [[(7, 3), (3, 4)], [(7, 5), (5, 6), (6, 1)]],
    ),
}
cases = pytest.mark.parametrize(("task", "data", "pairs"), CASES.values(), ids=CASES.keys())
Pairs = list[list[tuple[int, int]]]


@cases
def test_f_is_the_sum_of_the_log_odds_of_the_predicted_tokens(task: LanguageModel, data: Any, pairs: Pairs) -> None:
    model = Answer()
    expected = [sum(log_odds(model, *pair) for pair in one) for one in pairs]
    assert task.output(model, data).tolist() == pytest.approx(expected, rel=1e-9)


@cases
def test_q_is_the_mean_of_one_minus_p_whether_output_was_asked_before_or_not(
    task: LanguageModel, data: Any, pairs: Pairs
) -> None:
    model = Answer()
    expected = [sum(1 / (1 + torch.tensor(log_odds(model, *pair)).exp().item()) for pair in one) / len(one) for one in pairs]
    output = task.output(model, data).detach()
    assert task.out_to_loss_grad(model, data, output).tolist() == pytest.approx(expected, rel=1e-6)
    assert task.out_to_loss_grad(model, data, output).tolist() == pytest.approx(expected, rel=1e-6)
    other = {**data, "labels": data["labels"].clone()}
    task.output(model, {**data, "labels": data["labels"].where(data["labels"] < 0, 8)})
    assert task.out_to_loss_grad(model, other, output).tolist() == pytest.approx(expected, rel=1e-6)


@cases
def test_the_loss_is_the_mean_over_all_predicted_tokens(task: LanguageModel, data: Any, pairs: Pairs) -> None:
    model = Answer()
    every = [-float(model.table[given].detach().log_softmax(-1)[right]) for one in pairs for given, right in one]
    assert task.loss(model, data).item() == pytest.approx(sum(every) / len(every), rel=1e-9)


@cases
def test_vmap_and_a_batch_agree(task: LanguageModel, data: Any, pairs: Pairs) -> None:
    model = Answer()

    def of_one(sample: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        single = {key: value[None] for key, value in sample.items()}
        output = task.output(model, single)
        return output[0], task.out_to_loss_grad(model, single, output.detach())[0]

    found = torch.func.vmap(of_one)(data)
    output = task.output(model, data)
    torch.testing.assert_close(found, (output, task.out_to_loss_grad(model, data, output.detach())))


@cases
def test_a_padded_sample_is_the_same_sample(task: LanguageModel, data: Any, pairs: Pairs) -> None:
    model = Answer()
    longer = {key: torch.nn.functional.pad(value, (0, 3), value=-100 if key == "labels" else 0) for key, value in data.items()}
    torch.testing.assert_close(task.output(model, longer), task.output(model, data))


@pytest.mark.parametrize(
    ("task", "labels", "found"),
    [
        (MaskedLM(), [[1, 2], [-100, -100]], "no predicted token"),
        (CausalLM(), [[1, 2], [3, -100]], "no predicted token"),  # the first token is never predicted
        (Seq2SeqLM(), [[1, 2], [3, VOCABULARY]], f"the label {VOCABULARY}"),
    ],
)
def test_a_sample_that_predicts_nothing_or_nonsense_is_named(task: LanguageModel, labels: Any, found: str) -> None:
    with pytest.raises(SampleError, match=found) as refused:
        task.validate(Answer(), batch(labels, ids=[[1, 1], [1, 1]]))
    assert refused.value.position == 1


def test_labels_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected a tensor of integers, \(B, T\)"):
        MaskedLM().validate(Answer(), {**batch([[1]]), "labels": torch.tensor([1])})


def test_a_decoder_whose_start_is_unknown_is_refused() -> None:
    model = Answer()
    model.config.decoder_start_token_id = None
    with pytest.raises(InputError, match="decoder_start_token_id"):
        Seq2SeqLM().output(model, batch([[1, 2]]))


class Embedded(nn.Module):
    """A classifier with 6 tokens and 4 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.wpe, self.head = nn.Embedding(6, 3), nn.Embedding(4, 3), nn.Linear(3, 2)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.head((self.embed(input_ids) * attention_mask[..., None]).sum(1))
        return out


@pytest.mark.parametrize(
    ("ids", "mask", "found"),
    [([[1, 2], [1, 6]], [[1, 1], [1, 1]], "token 6"), ([[1] * 5] * 2, [[1, 1, 1, 1, 0], [1] * 5], "5 tokens")],
)
def test_tokens_and_lengths_that_the_model_does_not_have_are_named(ids: Any, mask: Any, found: str) -> None:
    data = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor([0, 1])}
    with pytest.raises(SampleError, match=found) as refused:
        TextClassification().validate(Embedded(), data)
    assert refused.value.position == 1


def test_a_text_classifier_uses_the_margin_of_a_classifier() -> None:
    model = Embedded()
    data = {**batch([[1, 2], [3, 4]]), "labels": torch.tensor([0, 1])}
    logits = model(data["input_ids"], data["attention_mask"])
    expected = torch.stack([logits[0, 0] - logits[0, 1], logits[1, 1] - logits[1, 0]])
    torch.testing.assert_close(TextClassification().output(model, data), expected)
    TextClassification().validate(model, data)
