"""The model output f(z; θ) for each kind of model: the Task contract and its implementations."""

from trak_cli.tasks.classification import BinaryClassification, Classification, TextClassification
from trak_cli.tasks.contrastive import Contrastive, OpenCLIP
from trak_cli.tasks.language import CausalLM, LanguageModel, MaskedLM, Seq2SeqLM, TokenClassification
from trak_cli.tasks.margin import margin
from trak_cli.tasks.regression import Regression
from trak_cli.tasks.task import SampleError, Task

__all__ = [
    "BinaryClassification",
    "CausalLM",
    "Classification",
    "Contrastive",
    "LanguageModel",
    "MaskedLM",
    "OpenCLIP",
    "Regression",
    "SampleError",
    "Seq2SeqLM",
    "Task",
    "TextClassification",
    "TokenClassification",
    "margin",
]
