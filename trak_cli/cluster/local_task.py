"""One task on this machine, as the controller of submitit starts it: the set-up lines, then the command.

    python -m trak_cli.cluster.local_task SCRIPT

SCRIPT is text for bash, which ends by replacing itself with the command. Signals are passed on to it. After SIGUSR2, which the
controller sends before the time limit, a task that has stopped ends with the exit code at which the controller starts it again.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from types import FrameType

from trak_cli.cluster.tasks import EXIT_LINE, STOPPED_CODES

#: Exit code at which the controller of submitit starts the task again.
AGAIN = 144


def main() -> int:
    """Run the task; its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the command as well
    received: list[int] = []
    task = subprocess.Popen(["bash", "-c", sys.argv[1]], preexec_fn=_interruptible)

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        task.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, pass_on)
    ended = task.wait()
    code = 128 - ended if ended < 0 else ended  # as bash reports the end by a signal
    print(f"{EXIT_LINE} {code}", flush=True)  # noqa: T201
    return AGAIN if code in STOPPED_CODES and signal.SIGTERM not in received else code


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
