"""Text: models from transformers, adapters from peft, and tokenised data sets from files and from `datasets`."""

from trak_cli.plugins.text.datasets import CausalTexts, ClassifiedTexts, MaskedTexts, SourceTarget
from trak_cli.plugins.text.model import text_model
from trak_cli.plugins.text.padding import Padding
from trak_cli.plugins.text.token_targets import TokenTargets
from trak_cli.plugins.text.tokenizer import load_tokenizer

__all__ = [
    "CausalTexts",
    "ClassifiedTexts",
    "MaskedTexts",
    "Padding",
    "SourceTarget",
    "TokenTargets",
    "load_tokenizer",
    "text_model",
]
