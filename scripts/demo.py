"""The demo: attributions and their LDS on scikit-learn's handwritten digits.

Runs the commands that a user would type, prints each of them, and draws the result. Takes a few minutes on two cores. A second
run finds everything done.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

PICTURE = Path("runs/digits/attributions.png")
TARGETS = ("4", "17", "45")

COMMANDS = (
    "train experiment=digits",
    "featurize experiment=digits",
    "finalize experiment=digits",
    "score experiment=digits",
    "score experiment=digits estimator=cosine",
    "retrain experiment=digits",
    "eval-lds experiment=digits lds.estimators=[cosine]",
)


def run(command: str) -> None:
    """Run one trak command as a user would."""
    print(f"\n\033[1m$ trak {command}\033[0m" if sys.stdout.isatty() else f"\n$ trak {command}", flush=True)
    trak = Path(sys.executable).with_name("trak")
    done = subprocess.run([trak, *shlex.split(command)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    start = time.monotonic()
    for command in COMMANDS:
        run(command)
    targets = " ".join(f"--target {target}" for target in TARGETS)
    run(f"top experiment=digits {targets} -k 5 --plot {PICTURE}")
    for score_set in json.loads(Path("runs/digits/lds/test.json").read_text())["scores"]:
        lds = score_set["lds"]
        print(f"LDS of {score_set['name']}: {lds['estimate']:.3f} (95% interval {lds['low']:.3f} to {lds['high']:.3f})")
    print(f"done in {time.monotonic() - start:.0f} s; now look at {PICTURE}")


if __name__ == "__main__":
    main()
