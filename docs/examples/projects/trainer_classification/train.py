"""Fine-tunes a small BERT with the Hugging Face Trainer to tell docstrings of NumPy from those of PyTorch: python train.py"""

import inspect
import json
from pathlib import Path

import datasets
import numpy
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)


def summaries(package) -> list[str]:
    """The first sentence of every function's docstring."""
    functions = (getattr(package, name) for name in sorted(dir(package)) if not name.startswith("_"))
    texts = [inspect.getdoc(function) or "" for function in functions if callable(function)]
    paragraphs = [text.partition("\n\n")[2] if "(" in text.partition("\n\n")[0] else text for text in texts]
    sentences = [" ".join(text.partition("\n\n")[0].split()).lower() for text in paragraphs]
    return [sentence for sentence in dict.fromkeys(sentences) if 30 < len(sentence) < 200]


def write_data() -> None:
    rows = [{"text": text, "label": label} for label, module in enumerate([numpy, torch]) for text in summaries(module)]
    rows = [rows[i] for i in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    for name, part in {"train": rows[20:220], "test": rows[:20]}.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


def train_tokenizer() -> PreTrainedTokenizerFast:
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    texts = [json.loads(line)["text"] for line in Path("train.jsonl").read_text().splitlines()]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=1000, special_tokens=list(special.values())))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)


def main() -> None:
    set_seed(0)
    write_data()
    tokenizer = train_tokenizer()
    data = datasets.load_dataset("json", data_files={"train": "train.jsonl", "test": "test.jsonl"}, cache_dir="cache")
    data = data.map(lambda rows: tokenizer(rows["text"], truncation=True), batched=True, remove_columns="text")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        num_labels=2,
    )
    trainer = Trainer(
        BertForSequenceClassification(config),
        TrainingArguments(
            "out",
            num_train_epochs=6,
            per_device_train_batch_size=16,
            learning_rate=2e-3,
            save_strategy="epoch",
            save_total_limit=2,
            use_cpu=True,
            report_to="none",
        ),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=lambda found: {"accuracy": (found.predictions.argmax(-1) == found.label_ids).mean()},
    )
    trainer.train()
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
