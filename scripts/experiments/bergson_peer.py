"""EK-FAC of bergson 2.5.1, for causal language models of Hugging Face whose training samples are texts; it runs on a CPU.

Its dependencies would replace this torch by another build, so install what it imports, without more:

pip install --no-deps bergson==2.5.1 torchopt optree graphviz simple-parsing docstring_parser ml_dtypes petname jaxtyping
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stages import Array

from trak_cli.config.load import Loaded
from trak_cli.plugins.checkpoints.state import apply, load
from trak_cli.stages.inputs.plugins import make_model

#: The texts of prompt and completion, joined.
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def installed() -> bool:
    return importlib.util.find_spec("bergson") is not None


def ekfac(loaded: Loaded, checkpoint: Path, rows: Sequence[int]) -> Array:
    """Scores (targets, n) of some questions, by EK-FAC with corrected eigenvalues and its default damping."""
    folder = Path(loaded.config.store) / "bergson"
    _export(loaded, checkpoint, folder / "model")
    for name, columns, kept in (("train", ("text",), None), ("questions", ("prompt", "completion"), rows)):
        lines = [json.loads(line) for line in (folder.parent / "data" / f"{name}.jsonl").open()]
        chosen = lines if kept is None else [lines[row] for row in kept]
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps({key: line[key] for key in columns}) + "\n" for line in chosen)
        )
    length = str(loaded.config.model["config"]["n_positions"])
    train = ("--data.dataset", "train.jsonl", "--data.prompt_column", "text")
    query = ("--query.prompt_column", "prompt", "--query.completion_column", "completion")
    method = ("--method", "kfac", "--hessian_cfg.ev_correction", "true", "--token_batch_size", length, "--overwrite", "true")
    command = [
        sys.executable,
        "-m",
        "bergson",
        "ekfac",
        "run",
        "--model",
        "model",
        *train,
        "--query.dataset",
        "questions.jsonl",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([*command, *query, *method], cwd=folder, env=environment, stderr=subprocess.DEVNULL, check=True)
    scores = folder / "run" / "scores"
    info = json.loads((scores / "info.json").read_text())
    stored = np.memmap(scores / "scores.bin", dtype=np.dtype(info["dtype"]), mode="r", shape=(info["num_rows"],))
    return np.stack([stored[f"score_{i}"] for i in range(info["num_scores"])]).astype(np.float64)


def _export(loaded: Loaded, checkpoint: Path, folder: Path) -> None:
    """Write model and tokenizer in the format of transformers."""
    from transformers import PreTrainedTokenizerFast

    model = make_model(loaded.config)
    apply(model, load(checkpoint), checkpoint)
    model.save_pretrained(folder)
    file = Path(loaded.config.store) / "data" / "tokenizer.json"
    special = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_file=str(file), chat_template=_TEMPLATE, **special).save_pretrained(folder)
