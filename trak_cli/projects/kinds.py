"""The kinds of project that ``trak init`` writes: which data they read, and which columns these need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """A kind of project.

    Attributes:
        data: what the training set is, for questions and messages.
        dataset, task: options of the config groups.
        columns: keys of the data set that name columns, each with the usual names of such a column.
        folder: the data are a folder, not a file.
    """

    data: str
    dataset: str
    task: str
    columns: dict[str, tuple[str, ...]] | None = None
    folder: bool = False


_TEXT = ("text", "sentence", "content", "document", "review")
_LABEL = ("label", "labels", "class", "category", "target")

KINDS = {
    "image_folder": Kind("a folder with one folder of images for each class", "image_folder", "classification", folder=True),
    "text_classification": Kind(
        "a .jsonl, .csv or .parquet file of texts and labels",
        "text_classification",
        "text_classification",
        {"text": _TEXT, "label": _LABEL},
    ),
    "causal_lm": Kind("a .jsonl or .csv file of texts", "causal_lm", "causal_lm", {"text": _TEXT}),
    "masked_lm": Kind("a .jsonl or .csv file of texts", "masked_lm", "masked_lm", {"text": _TEXT}),
    "seq2seq_lm": Kind(
        "a .jsonl or .csv file of sources and targets",
        "seq2seq_lm",
        "seq2seq_lm",
        {"source": ("source", "input", "question", "document"), "target": ("target", "output", "answer", "summary")},
    ),
    "table": Kind("a .csv file whose first line names the columns", "table", "classification", columns={"label": _LABEL}),
    "own": Kind("a class or function of yours that returns a data set", "", "classification"),
}

#: End of the class name in a config.json of transformers -> kind of project, and option of the group ``model``.
OF_ARCHITECTURE = {
    "ForSequenceClassification": ("text_classification", "text_classification"),
    "ForCausalLM": ("causal_lm", "causal_lm"),
    "LMHeadModel": ("causal_lm", "causal_lm"),
    "ForMaskedLM": ("masked_lm", "masked_lm"),
    "ForConditionalGeneration": ("seq2seq_lm", "seq2seq_lm"),
    "ForImageClassification": ("image_folder", "hf_image"),
}


def is_dotted(value: str) -> bool:
    """Whether a value is MODULE.NAME, the name of a class or function, rather than a path."""
    parts = value.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts) and not Path(value).exists()


def kind_of_data(train: str) -> str:
    """The kind that the training set alone says: a folder of folders is one of images; empty if it could be another."""
    folder = Path(train)
    return "image_folder" if train and folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir()) else ""
