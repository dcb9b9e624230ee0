"""Tokenizers: of the hub, of a folder, or a single tokenizer.json."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from trak_cli.errors import InputError, Problem
from trak_cli.plugins.hub import check_local
from trak_cli.plugins.optional import needed
from trak_cli.user_errors import first_line

#: Lengths above this stand for "no limit" in tokenizer configs.
_NO_LIMIT = 10**6

#: The special tokens, which a tokenizer.json does not name, and their usual spellings.
_SPECIAL = {
    "pad_token": ("[PAD]", "<pad>", "<|padding|>"),
    "mask_token": ("[MASK]", "<mask>"),
    "eos_token": ("</s>", "<|endoftext|>", "<eos>", "[SEP]"),
    "bos_token": ("<s>", "<|endoftext|>", "<bos>", "[CLS]"),
    "unk_token": ("[UNK]", "<unk>"),
}


def load_tokenizer(name: str | None, revision: str | None = None) -> Any:
    """A transformers tokenizer.

    Args:
        name: a hub id, a folder that ``save_pretrained`` wrote, or a ``tokenizer.json`` of the package tokenizers, whose
            special tokens are found by their usual names, and which has no token types. None: tokenizer.json in the current
            folder.
        revision: of the hub's repository.

    Raises:
        ConfigError: transformers is not installed.
        InputError: no such tokenizer, or a damaged one.
    """
    name = name or "tokenizer.json"
    check_local(name, "dataset tokenizer")
    # Absolute, because the same relative path means another folder where the current folder is another.
    return _load(str(Path(name).resolve()) if Path(name).exists() else name, revision)


@lru_cache(maxsize=8)
def _load(name: str, revision: str | None) -> Any:
    transformers = needed("transformers", "text", "dataset tokenizer")
    try:
        if name.endswith(".json"):
            if not Path(name).is_file():
                raise FileNotFoundError(f"no file {name}")
            return _from_file(transformers, name)
        return transformers.AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exception, transformers a dozen classes
        expected = "a hub id that can be reached, a folder with a tokenizer, or a tokenizer.json"
        raise InputError(Problem(f"tokenizer {name}", first_line(error), expected, "correct the id or path")) from error


def longest(tokenizer: Any, max_length: int | None) -> int | None:
    """The length to which texts are truncated: the given one, else the tokenizer's; None for no limit."""
    if max_length is not None:
        return max_length
    limit = getattr(tokenizer, "model_max_length", None)
    return limit if isinstance(limit, int) and limit < _NO_LIMIT else None


def padding_token(tokenizer: Any) -> int:
    """The padding token; if the tokenizer has none, any token, because padding is masked."""
    for found in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(found, int):
            return found
    return 0


def _from_file(transformers: Any, name: str) -> Any:
    backend = needed("tokenizers", "text", "dataset tokenizer").Tokenizer.from_file(name)
    backend.no_padding()
    backend.no_truncation()
    known = backend.get_vocab()
    special = {key: next((one for one in names if one in known), None) for key, names in _SPECIAL.items()}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "attention_mask"],  # some models would embed token types
        **{key: token for key, token in special.items() if token is not None},
    )
