"""The text of the files that ``trak init`` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_SCRIPT = """\
#!/bin/sh
# Checks, features, Gram matrix and scores of the project {name}; every step resumes where it was interrupted.
# Run it in the folder in which `trak init` was run.
set -e
{path}trak doctor -d {name}
trak featurize -d {name}
trak finalize -d {name}
trak score -d {name}
trak top -d {name} --target 0
"""

_PATH = 'export PYTHONPATH=".${PYTHONPATH:+:$PYTHONPATH}"    # your modules are in this folder\n'

#: Words that YAML 1.1 reads as another type than text.
_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")

#: The preprocessing cannot be read from a checkpoint.
_IMAGES = ("  # 224 pixels, mean and std of ImageNet; if the training used others, add size, mean and std to train",)

_NOTES = {
    "checkpoints": "a file, a folder, a pattern or a list; scores are averaged over them",
    "gradients": "the optimizer that trained the model: adam (also for AdamW) or sgd",
}


def script(name: str, modules_here: bool) -> str:
    """The pipeline as a shell script.

    Args:
        name: of the folder, quoted for the shell.
        modules_here: modules of the project lie in the folder in which the script runs.
    """
    return _SCRIPT.format(name=name, path=_PATH if modules_here else "")


def yaml(sections: Mapping[str, Any]) -> str:
    """The configuration as YAML: every section on a line or two, with comments."""
    lines = ["# Every other key has a default: trak config --describe"]
    for key, value in sections.items():
        note = f"    # {_NOTES[key]}" if key in _NOTES else ""
        if key == "dataset":
            lines += ["dataset:", *_IMAGES] if {"override dataset": "image_folder"} in sections["defaults"] else ["dataset:"]
            lines += [f"  train: {_flow(value['train'])}", "  targets:"]
            lines += [f"    {split}: {_flow(node)}" for split, node in value["targets"].items()]
        else:
            lines.append(f"{key}: {_flow(value)}{note}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value in YAML's flow style, which is JSON but for keys without quotation marks."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*", value) and value.lower() not in _WORDS
    return str(value) if plain else json.dumps(value)
