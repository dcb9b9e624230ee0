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
trak doctor -d {name}
trak featurize -d {name}
trak finalize -d {name}
trak score -d {name}
trak top -d {name} --target 0
"""

#: Words that YAML 1.1 reads as another type than text.
_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")

_NOTES = {
    "checkpoints": "a file, a folder, a pattern or a list; scores are averaged over them",
    "gradients": "the optimizer that trained the model: adam (also for AdamW) or sgd",
}


def script(name: str) -> str:
    """The pipeline as a shell script. ``name``: of the folder, quoted for the shell."""
    return _SCRIPT.format(name=name)


def yaml(sections: Mapping[str, Any]) -> str:
    """The configuration as YAML: every section on a line or two, with comments."""
    lines = ["# Every other key has a default: trak config --describe"]
    for key, value in sections.items():
        note = f"    # {_NOTES[key]}" if key in _NOTES else ""
        if key == "dataset":
            lines += ["dataset:", f"  train: {_flow(value['train'])}", "  targets:"]
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
