"""A Slurm of four nodes on this machine, in a private folder: munged, slurmctld and four slurmds, stopped by their numbers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

#: The programs of Debian's slurm-wlm and munge. The daemons are in folders that are not on every PATH.
DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
NODES = ("n0", "n1", "n2", "n3")

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

#: A node counts as lost after SlurmdTimeout. Credentials expire quickly, because a requeued job waits for that.
_CONF = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MinJobAge=3600
KillWait=2
SlurmctldTimeout=10
SlurmdTimeout=5
TCPTimeout=2
MessageTimeout=5
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0,bf_interval=2
NodeName=n[0-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 RealMemory=4000 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=n[0-3] Default=YES MaxTime=INFINITE State=UP OverTimeLimit=0 PriorityTier=1
PartitionName=urgent Nodes=n[0-3] MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing() -> str | None:
    """Why no cluster can be started here; None if one can."""
    absent = [name for name in (*DAEMONS, *COMMANDS) if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"{', '.join(absent)} not found (make slurm-setup installs slurm-wlm and munge)"
    return None if os.geteuid() == 0 else "its daemons must be started as root"


@dataclass
class Lab:
    """The cluster in ``folder``; ``environment`` is what its clients need."""

    folder: Path
    port: int = field(default_factory=lambda: 20_000 + os.getpid() % 4_000 * 8)  # and the next four

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": _PATH, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons, and wait until all nodes are idle."""
        for name in ("munge", "state", "spool", "run", "log"):
            (self.folder / name).mkdir(parents=True)
        host = os.uname().nodename.partition(".")[0]
        ports = {"port": self.port, "first": self.port + 1, "last": self.port + len(NODES)}
        (self.folder / "slurm.conf").write_text(_CONF.format(host=host, folder=self.folder, **ports))
        self._start_munge()
        self._daemon("slurmctld", "-c")
        for node in NODES:
            self.start_node(node)
        self.wait_for_idle()

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node."""
        self._daemon("slurmd", "-N", node)

    def wait_for_idle(self, seconds: float = 30) -> None:
        """Wait until every node can take jobs."""
        wait_for(lambda: self.run("sinfo", "-h", "-o", "%D", "-t", "idle").strip() == str(len(NODES)), seconds, "idle nodes")

    def lose_node(self, node: str) -> None:
        """Kill the slurmd of a node and everything that it has started, as when a machine loses its power."""
        numbers = [self._pid(f"slurmd.{node}"), *self.processes_on(node)]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # first all of them, so that none reports the end of another
            for process in numbers:
                with suppress(ProcessLookupError):
                    os.kill(process, number)

    def processes_on(self, node: str) -> list[int]:
        """The processes of jobs on a node: its step daemons and their children."""
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        jobs = [number for number in numbers if _is_on(number, node, self.folder)]
        steps = {parent for number in jobs if (parent := _parent(number)) and _name(parent).startswith("slurmstepd")}
        return [*steps, *jobs]

    def stop(self) -> None:
        """Stop all daemons by their numbers."""
        for name in [*(f"slurmd.{node}" for node in NODES), "slurmctld"]:
            with suppress(FileNotFoundError, ProcessLookupError, ValueError):
                os.kill(self._pid(name), signal.SIGKILL)
        for node in NODES:
            for number in self.processes_on(node):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((self.folder / "munge" / "munged.pid").read_text()), signal.SIGTERM)

    def run(self, *command: str, check: bool = True) -> str:
        """The stdout of a command of Slurm."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def cancel_all(self) -> None:
        """Cancel every job, and wait until the nodes are free."""
        self.run("scancel", "--user=root", check=False)
        for node in NODES:
            if not _alive(self._pid(f"slurmd.{node}")):
                self.start_node(node)
        self.wait_for_idle(60)

    def _pid(self, name: str) -> int:
        return int((self.folder / "run" / f"{name}.pid").read_text())

    def _daemon(self, name: str, *options: str) -> None:
        subprocess.run([name, *options], env=self.environment, check=True, capture_output=True, timeout=30)

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        folder.chmod(0o755)
        options = [f"--key-file={key}", f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"]
        options += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed", "--num-threads=2", "--force"]
        self._daemon("munged", *options)


def _is_on(number: int, node: str, folder: Path) -> bool:
    """Whether a process belongs to a job on a node of this cluster, by its environment."""
    variables = _read(number, "environ").split("\0")
    return f"SLURMD_NODENAME={node}" in variables and f"SLURM_CONF={folder}/slurm.conf" in variables


def _parent(number: int) -> int:
    found = re.search(r"^PPid:\s+(\d+)", _read(number, "status"), re.MULTILINE)
    return int(found[1]) if found else 0


def _name(number: int) -> str:
    return _read(number, "comm")


def _read(number: int, name: str) -> str:
    """A file of a process; empty if the process has ended."""
    try:
        return Path(f"/proc/{number}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def _alive(number: int) -> bool:
    status = _read(number, "status")
    return bool(status) and "State:\tZ" not in status


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until the condition holds; fail after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.1)
