"""Chemical reactions as SMILES, and the tokenizer of rxnmapper's ALBERT. The package's own code is not imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

#: The tokens of a SMILES, as in rxnmapper.
TOKENS = r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}|[0-9]"

GROUPS = ("C", "CC", "CCC", "CC(C)", "CCCC", "CC(C)C", "FCC", "COCC", "CCOC", "CSCC")
PATTERNS = {
    "ester": "{a}C(=O)O.O{b}>>{a}C(=O)O{b}",
    "amide": "{a}C(=O)O.N{b}>>{a}C(=O)N{b}",
    "ether": "{a}Br.O{b}>>{a}O{b}",
    "amine": "{a}Br.N{b}>>{a}N{b}",
}


def reactions() -> Iterator[dict[str, str]]:
    """Every pair of groups in every kind of reaction."""
    for (kind, pattern), a, b in product(PATTERNS.items(), GROUPS, GROUPS):
        yield {"text": pattern.format(a=a, b=b), "kind": kind}


def write_data(folder: Path, training: int = 64, targets: int = 8) -> None:
    """train.jsonl and test.jsonl, in an order that mixes kinds and groups."""
    rows = list(reactions())
    rows = [rows[(number * 171) % len(rows)] for number in range(len(rows))]
    for name, part in (("train", rows[targets : targets + training]), ("test", rows[:targets])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


def write_tokenizer(vocabulary: Path, file: Path) -> None:
    """The tokenizer of a vocab.txt as a tokenizer.json."""
    ids = {token: number for number, token in enumerate(vocabulary.read_text().split("\n")) if token}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKENS), "isolated")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.save(str(file))
