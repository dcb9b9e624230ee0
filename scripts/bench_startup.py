"""Measure how long commands take that need no model, relative to ``import torch``.

Prints the median wall time of each command and its ratio to that of ``python -c "import torch"``. The commands take turns, so
that a change of the load of the machine affects all of them alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

PYTHON = sys.executable
TORCH = "import torch"
TRAK = (PYTHON, "-m", "trak_cli")
COMMANDS = {
    TORCH: (PYTHON, "-c", "import torch"),
    "trak --help": (*TRAK, "--help"),
    "trak config": (*TRAK, "config", "experiment=digits"),
    "trak status": (*TRAK, "status", "store=none"),
    "trak top": (*TRAK, "top", "store=none"),
    "trak score with a wrong key": (*TRAK, "score", "projection.dimension=3"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each command, after one that warms the file cache")
    repeat = parser.parse_args().repeat
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(repeat + 1):
            for name, command in COMMANDS.items():
                start = time.perf_counter()
                subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
                if run:
                    seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print("| command | median, s | relative to import torch |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| `{name}` | {median:.2f} | {median / medians[TORCH]:.2f} |")


if __name__ == "__main__":
    main()
