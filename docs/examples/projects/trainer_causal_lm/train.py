"""Trains a small GPT-2 with the Hugging Face Trainer on summaries of NumPy's functions: python train.py"""

import inspect
import json
from pathlib import Path

import datasets
import numpy
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)


def write_data() -> None:
    rows = []
    for name in sorted(dir(numpy)):
        text = inspect.getdoc(getattr(numpy, name)) or ""
        sentence = next((part for part in text.split("\n\n") if "(" not in part.splitlines()[0]), "") if text else ""
        sentence = " ".join(sentence.split())
        if not name.startswith("_") and 20 < len(sentence) < 160:
            rows.append({"function": f"{name}:", "summary": f" {sentence}", "text": f"{name}: {sentence}"})
    rows = [rows[i] for i in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    for name, part in {"train": rows[20:220], "test": rows[:20]}.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


def train_tokenizer() -> PreTrainedTokenizerFast:
    texts = [json.loads(line)["text"] for line in Path("train.jsonl").read_text().splitlines()]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=800, special_tokens=["<|endoftext|>"], show_progress=False)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token=end, pad_token=end, model_max_length=64)


def main() -> None:
    set_seed(0)
    write_data()
    tokenizer = train_tokenizer()
    data = datasets.load_dataset("json", data_files={"train": "train.jsonl", "test": "test.jsonl"}, cache_dir="cache")
    data = data.map(lambda row: tokenizer(row["text"], truncation=True), remove_columns=data["train"].column_names)
    ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=48, n_layer=2, n_head=4, **ends)
    trainer = Trainer(
        GPT2LMHeadModel(config),
        TrainingArguments(
            "out",
            num_train_epochs=6,
            per_device_train_batch_size=16,
            learning_rate=3e-3,
            save_strategy="epoch",
            save_total_limit=2,
            use_cpu=True,
            report_to="none",
        ),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
    )
    trainer.train()
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
