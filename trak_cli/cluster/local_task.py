"""One task on this machine, as the controller of submitit starts it: the set-up lines, then the command.

    python -m trak_cli.cluster.local_task SCRIPT

SCRIPT is text for bash, which ends by replacing itself with the command. Signals are passed on to it. After SIGUSR2, which the
controller sends before the time limit, a task that has stopped ends with the exit code at which the controller starts it again.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from types import FrameType

from trak_cli.cluster.tasks import EXIT_LINE, STOPPED_CODES

#: Exit code at which the controller of submitit starts the task again.
AGAIN = 144

#: Signals that are passed on -> what the command gets. The controller sends SIGINT at the time limit.
_PASSED_ON = {signal.SIGUSR2: signal.SIGUSR2, signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGTERM}

_SET_SIGNAL_AT_DEATH_OF_PARENT = 1


def main() -> int:
    """Run the task; its exit code."""
    received: list[int] = []
    # In a session of its own: Ctrl-C stops `trak submit`, which stops its tasks.
    task = subprocess.Popen(["bash", "-c", sys.argv[1]], start_new_session=True, preexec_fn=_prepare)

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        task.send_signal(_PASSED_ON[signal.Signals(number)])

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    ended = task.wait()
    code = 128 - ended if ended < 0 else ended  # as bash reports the end by a signal
    print(f"{EXIT_LINE} {code}", flush=True)  # noqa: T201
    return AGAIN if code in STOPPED_CODES and received == [signal.SIGUSR2] else code


def _prepare() -> None:
    """In the new process: Ctrl-C has its usual effect, and no task outlives this program."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_SIGNAL_AT_DEATH_OF_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
