"""Models of the benchmarks: the shapes of well-known models, with random weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trak_cli.plugins import ResNet9
from trak_cli.tasks import CausalLM, Classification, Contrastive, Seq2SeqLM, Task, TextClassification

VOCABULARY = 30_000


class Encoder(nn.Module):
    """A BERT-like encoder with a linear head on the first token: token ids (B, T) to logits (B, 2)."""

    def __init__(self, width: int, layers: int, heads: int, length: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(VOCABULARY, width), nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(EncoderLayer(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.token(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device)))
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x[:, 0])
        return logits


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network, each followed by a residual connection and a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = self.first(x + self.out(mixed))
        out: Tensor = self.second(x + self.down(F.gelu(self.up(x))))
        return out


def task_of(name: str) -> Task:
    """Return the task of a model of :func:`make`."""
    tasks = {"gpt2-small": CausalLM, "bert-base": TextClassification, "mt5-small": Seq2SeqLM, "clip-base": Contrastive}
    return tasks.get(name, Classification)()


def make(name: str, batch: int) -> tuple[nn.Module, list[Any]]:
    """Return a model in evaluation mode and ``batch`` samples for it."""
    torch.manual_seed(0)
    if name in ("resnet18", "resnet50", "vit-base", "resnet18-small", "resnet50-small"):
        side = 64 if name.endswith("-small") else 224
        return _image_classifier(name.removesuffix("-small")), [(torch.randn(3, side, side), i % 1000) for i in range(batch)]
    if name in ("gpt2-small", "bert-base", "mt5-small"):
        return _text_model(name, batch)
    if name == "clip-base":
        from trak_cli.plugins import hf_clip

        # The other defaults of transformers are those of ViT-B/32.
        model = hf_clip(config={"projection_dim": 512}, attention="sdpa").eval()
        tokens = torch.randint(1000, 49_000, (batch, 77))
        return model, [
            {"pixel_values": torch.randn(3, 224, 224), "input_ids": row, "attention_mask": torch.ones_like(row), "key": i}
            for i, row in enumerate(tokens)
        ]
    if name.startswith("resnet9"):
        width = 142 if name == "resnet9-wide" else 64
        return ResNet9(width=width).eval(), [(torch.randn(3, 32, 32), i % 10) for i in range(batch)]
    sizes = {"bert-small": (256, 4, 4, 128), "bert-long": (256, 4, 4, 1024), "encoder-base": (768, 12, 12, 128)}
    width, layers, heads, length = sizes[name]
    return Encoder(width, layers, heads, length).eval(), [(torch.randint(VOCABULARY, (length,)), i % 2) for i in range(batch)]


def _image_classifier(name: str) -> nn.Module:
    from trak_cli.plugins import hf_image_classifier

    eighteen = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}
    more = {
        "resnet18": {"model_type": "resnet", **eighteen},
        "resnet50": {"model_type": "resnet"},
        "vit-base": {"model_type": "vit"},
    }
    return hf_image_classifier(config={**more[name], "num_labels": 1000}).eval()


def _text_model(name: str, batch: int) -> tuple[nn.Module, list[Any]]:
    """Each text has 128 tokens without padding (for mT5 the answer has 32)."""
    from trak_cli.plugins.text import text_model

    kinds = {"gpt2-small": "causal_lm", "bert-base": "text_classification", "mt5-small": "seq2seq_lm"}
    model = text_model(kinds[name], config={"model_type": name.split("-")[0]})
    tokens = torch.randint(1000, 30_000, (batch, 128))
    whole = torch.ones_like(tokens)
    labels = {"gpt2-small": tokens, "bert-base": torch.arange(batch) % 2, "mt5-small": tokens[:, :32]}[name]
    return model, [
        {"input_ids": row, "attention_mask": mask, "labels": label}
        for row, mask, label in zip(tokens, whole, labels, strict=True)
    ]
