"""Single tokens as targets: which training texts made the model say this word?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from trak_cli.batches import IGNORED
from trak_cli.errors import InputError, Problem
from trak_cli.plugins.text.marking import Marking
from trak_cli.plugins.text.texts import Texts


class TokenTargets(Dataset[dict[str, Tensor]]):
    """Each predicted token of some texts as one target: the text with the label of this token only.

    Tokens are ordered by text, then by position. f of a text is the sum over its tokens, and so are its features: the scores
    of the tokens show which part of the text a score is about.

    Args:
        texts: a dataset whose samples have ``labels`` (T,), −100 where nothing is predicted, such as
            :class:`~trak_cli.plugins.text.CausalTexts`.
        rows: the texts to use; null: all.

    Raises:
        InputError: ``texts`` has no such row, or none of the texts has a predicted token.
    """

    def __init__(self, texts: Any, rows: Sequence[int] | None = None) -> None:
        self._texts = texts
        chosen = range(len(texts)) if rows is None else rows
        missing = [row for row in chosen if not 0 <= row < len(texts)]
        if missing:
            expected = f"rows of the texts: 0 to {len(texts) - 1}"
            raise InputError(Problem("dataset rows", ", ".join(map(str, missing)), expected, "correct them"))
        first = texts.unpredicted if isinstance(texts, Texts) else 0
        self._places = [
            (row, place)
            for row in chosen
            for place, label in enumerate(texts[row]["labels"].tolist())
            if label != IGNORED and place >= first
        ]
        if not self._places:
            remedy = "name rows whose texts have predicted tokens"
            raise InputError(Problem("dataset texts", "no predicted token", "one token or more", remedy))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        row, place = self._places[i]
        sample: dict[str, Tensor] = self._texts[row]
        labels = sample["labels"].new_full(sample["labels"].shape, IGNORED)
        labels[place] = sample["labels"][place]
        return {**sample, "labels": labels}

    def rows_to_check(self, count: int) -> list[int]:
        """One target of each of the longest texts, at most ``count``."""
        chosen = self._texts.rows_to_check(count) if isinstance(self._texts, Texts) else []
        places = {row: i for i, (row, _) in enumerate(self._places)}
        return [places[row] for row in chosen if row in places]

    def describe(self, i: int) -> dict[str, Any]:
        """What a report shows of target i: the token, its position, and its text."""
        row, place = self._places[i]
        number = int(self._texts[row]["labels"][place])
        tokenizer = getattr(self._texts, "tokenizer", None)
        token = str(number) if tokenizer is None else repr(tokenizer.decode([number]))
        about = self._texts.describe(row) if hasattr(self._texts, "describe") else {}
        if "tokens" in about:
            marks = about["tokens"]
            about = {**about, "tokens": Marking(lambda: {**marks, "predicted": [place]})}
        return {"token": token, "place": place, "row": row, **about}
