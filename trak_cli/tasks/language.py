"""Language models and taggers: f is the sum over tokens of the log-odds of the true token or class (TRAK, section 5.2)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from trak_cli.batches import IGNORED
from trak_cli.errors import InputError, Problem
from trak_cli.tasks.margin import margin, widened
from trak_cli.tasks.quality import Quality
from trak_cli.tasks.task import SampleError, Task, field
from trak_cli.tasks.tokens import call, check_tokens, logits_of

#: Standard deviation of the loss at chance, as a share of it.
_NOISE = 0.025


class LanguageModel(Task):
    """f = Σ_t log(p_t / (1 − p_t)) over the predicted tokens, q = the mean over them of 1 − p_t, loss = token cross entropy.

    A batch is a mapping: ``labels`` (B, T) with −100 where nothing is predicted, and the keyword arguments of the model. A
    sample without any predicted token is refused.
    """

    #: For messages: the kind of a label, and the remedy for a label that the model does not have.
    label_kind, label_remedy = "a token", "use the tokenizer that belongs to the model"

    def __init__(self, label: str = "labels") -> None:
        self.label = label
        self._classes: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
        self._last: tuple[Any, Tensor, Tensor] | None = None  # batch, log-odds and mask of the last call of output

    @abstractmethod
    def predicted(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V), and the true token at each position, (B, T), −100 for none."""

    def log_odds(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """log(p_t / (1 − p_t)) of every predicted token, 0 elsewhere, (B, T); and the mask of predicted tokens, (B, T) bool."""
        logits, right = self.predicted(model, batch)
        counts = right != IGNORED
        odds = margin(logits, right.where(counts, 0))
        return odds.where(counts, 0.0), counts

    def terms(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The log-odds of single tokens."""
        return self.log_odds(model, batch)

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """The sum of the log-odds over the predicted tokens, (B,)."""
        odds, counts = self.log_odds(model, batch)
        self._last = (batch, odds.detach(), counts)
        return odds.sum(1)

    def predictions(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The logits of all tokens of the vocabulary, and the true token at each position."""
        if (type(self).losses, type(self).loss) != (
            LanguageModel.losses,
            LanguageModel.loss,
        ):  # another loss in a derived class
            return super().predictions(model, batch)
        logits, right = self.predicted(model, batch)
        return widened(logits), right.long()

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """The mean of 1 − p_t over the predicted tokens, (B,); the log-odds are those of ``output``."""
        del output
        last, self._last = self._last, None
        if last is not None and last[0] is batch:
            _, odds, counts = last
        else:
            odds, counts = self.log_odds(model, batch)
        return (torch.sigmoid(-odds) * counts).sum(1) / counts.sum(1).clamp(min=1)

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        """The cross entropy of a sample's tokens, summed and divided by the batch's mean number of tokens, (B,)."""
        sums, count = self._token_losses(model, batch)
        return sums * len(sums) / count

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Cross entropy, mean over all predicted tokens of the batch, a scalar."""
        logits, right = self.predicted(model, batch)
        return nn.functional.cross_entropy(widened(logits).flatten(0, -2), right.flatten().long(), ignore_index=IGNORED)

    def weighted_loss(self, model: nn.Module, batch: Any, weights: Tensor) -> Tensor:
        """Σ_i w_i Σ_t ℓ_it, divided by the number of predicted tokens of the batch, those of weight 0 included."""
        sums, count = self._token_losses(model, batch)
        return (sums * weights.to(sums.dtype)).sum() / count

    def _token_losses(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The cross entropy of each sample, summed over its tokens, (B,), and the number of predicted tokens of the batch."""
        logits, right = self.predicted(model, batch)
        flat = widened(logits).flatten(0, -2), right.flatten().long()
        tokens = nn.functional.cross_entropy(*flat, ignore_index=IGNORED, reduction="none")
        return tokens.view(right.shape).flatten(1).sum(1), (right != IGNORED).sum()

    def quality(self, model: nn.Module, batches: Iterable[Any]) -> Quality:
        """The loss per predicted token, −log p; log V at chance."""
        loss, count, classes = 0.0, 0, 2
        for batch in batches:
            odds, counts = self.log_odds(model, batch)
            loss += float((nn.functional.softplus(-odds.detach().double()) * counts).sum())
            count, classes = count + int(counts.sum()), self._vocabulary(model, batch)
        chance = math.log(classes)
        return Quality("loss per token", loss / count, 0.0, chance, _NOISE * chance)

    def validate(self, model: nn.Module, batch: Any) -> None:
        """Every sample must predict a token, the model must know all tokens, and no sample may exceed the model's positions.

        Raises:
            SampleError: for the first sample that is refused.
            InputError: labels or logits of the wrong shape or dtype.
        """
        labels = self.labels(batch)
        if not isinstance(labels, Tensor) or labels.dim() != 2 or labels.is_floating_point():
            found = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            remedy = "return one label for each token from the dataset"
            raise InputError(Problem(self.label, found, "a tensor of integers, (B, T)", remedy))
        check_tokens(model, batch)
        self._check_labels(self.targets(labels), self._vocabulary(model, batch))

    def labels(self, batch: Any) -> Any:
        """The labels of a batch."""
        return field(batch, self.label)

    def targets(self, labels: Tensor) -> Tensor:
        """The labels of positions that can be predicted, (B, T')."""
        return labels

    def _vocabulary(self, model: nn.Module, batch: Any) -> int:
        """V, computed once per model."""
        if model not in self._classes:
            with torch.no_grad():
                logits = self.predicted(model, batch)[0]
            if logits.dim() != 3 or logits.shape[2] < 2:
                remedy = "load the model with the class that fits the task"
                raise InputError(Problem("model output", f"shape {tuple(logits.shape)}", "logits (B, T, V)", remedy))
            self._classes[model] = int(logits.shape[2])
        return self._classes[model]

    def _check_labels(self, labels: Tensor, vocabulary: int) -> None:
        counts = labels != IGNORED
        empty = (~counts.any(1)).nonzero()
        bad = (counts & ((labels < 0) | (labels >= vocabulary))).nonzero()
        if len(empty) and (not len(bad) or int(empty[0, 0]) <= int(bad[0, 0])):
            remedy = "remove the sample, give it a text to predict, or raise max_length if the text was truncated"
            raise SampleError(int(empty[0, 0]), "no predicted token", "one token or more whose label is not -100", remedy)
        if len(bad):
            sample, place = bad[0].tolist()
            expected = f"-100 or {self.label_kind} in [0, {vocabulary})"
            raise SampleError(sample, f"the label {int(labels[sample, place])}", expected, self.label_remedy)


class CausalLM(LanguageModel):
    """Predicts each token from those before: ``labels`` (B, T) repeat ``input_ids``, with −100 for prompt and padding."""

    def predicted(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The logits at each position and the label of the next one."""
        return call(model, batch, without=(self.label,))[:, :-1], self.targets(field(batch, self.label))

    def targets(self, labels: Tensor) -> Tensor:
        """All but the first token, which has no context."""
        return labels[:, 1:]


class MaskedLM(LanguageModel):
    """Predicts masked tokens from the others: ``labels`` (B, T) are the true tokens at masked positions, −100 elsewhere.

    The data set masks the tokens, the same ones at every read.
    """

    def predicted(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The logits and labels at each position."""
        return call(model, batch, without=(self.label,)), field(batch, self.label)


class Seq2SeqLM(LanguageModel):
    """Predicts each token of a target text from the source text and the target tokens before it.

    ``labels`` (B, T') are the target's tokens, −100 for padding; ``input_ids`` and ``attention_mask`` (B, T) the source. The
    decoder gets ``decoder_input_ids`` if the batch has them, else the labels shifted right by one after the start token.
    """

    def predicted(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The logits and labels at each position of the decoder."""
        labels = field(batch, self.label)
        if "decoder_input_ids" not in batch:
            batch = {**batch, "decoder_input_ids": _shifted_right(model, labels)}
        return call(model, batch, without=(self.label,)), labels


class TokenClassification(LanguageModel):
    """f = Σ_t log(p_t / (1 − p_t)) over the labelled positions, q = the mean over them of 1 − p_t, loss = their cross entropy.

    The model returns logits (B, T, C), or an object with the attribute ``logits``. A sample without any label is refused.

    Args:
        label: the labels in the batch, (B, T), integers in [0, C), −100 at positions that do not count.
        inputs: the model's input in the batch; null: every other part of the batch, a mapping, is a keyword argument of the
            model.
    """

    label_kind, label_remedy = "a class", "correct the label, or load a model with more classes"

    def __init__(self, label: int | str = "labels", inputs: int | str | None = None) -> None:
        super().__init__(str(label))
        self._key, self.inputs = label, inputs

    def labels(self, batch: Any) -> Any:
        """The labels of a batch."""
        return field(batch, self._key, ("inputs", "label"))

    def predicted(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The logits and labels at each position."""
        if self.inputs is None:
            return call(model, batch, without=(self.label,)), self.labels(batch)
        remedy = "return the logits from the model, or an object with logits"
        logits = logits_of(model(field(batch, self.inputs, ("inputs", "label"))), remedy)
        return logits, self.labels(batch)


def _shifted_right(model: nn.Module, labels: Tensor) -> Tensor:
    """(B, T') labels shifted right by one, after the start token of the model; −100 becomes padding."""
    config = getattr(model, "config", None)
    start = getattr(config, "decoder_start_token_id", None)
    if not isinstance(start, int):
        expected = "a model whose config has the start token of the decoder"
        remedy = "give the model plugin config: {decoder_start_token_id: N}, or the batch decoder_input_ids"
        raise InputError(Problem("model.config.decoder_start_token_id", repr(start), expected, remedy))
    padding = getattr(config, "pad_token_id", None)
    known = labels.where(labels != IGNORED, padding if isinstance(padding, int) else start)
    return torch.cat([torch.full_like(labels[:, :1], start), known[:, :-1]], dim=1)
