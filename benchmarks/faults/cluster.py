"""A Ray cluster of real ``ray start`` processes on loopback addresses, to be broken."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENT_S = 120.0
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


def free_port(host: str) -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def environment(**changes: str) -> dict[str, str]:
    """This process's, with this checkout first; without a cluster of its own."""
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    path = os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])
    quiet = {"RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**kept, "PYTHONPATH": path, **quiet, **TOKEN, **changes}


def in_session(session: int, *words: str) -> list[int]:
    """Processes of a session, whose leader may have ended, that have one of some words."""
    found = []
    for path in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            command = (path / "cmdline").read_text().replace("\0", " ")
            of = int((path / "stat").read_text().rpartition(")")[2].split()[3])
            if of == session and (not words or any(word in command for word in words)):
                found.append(int(path.name))
    return found


def wait(condition: Callable[[], bool], seconds: float = PATIENT_S) -> bool:
    """Whether a condition comes true in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.1)
    return True


class Node:
    """``ray start`` on an address of its own, with a temporary folder of its own.

    Args:
        number: Its address is 127.0.0.(number + 2); 0 is the head.
        head: The head's address, if this is not it.
        num_cpus: What it offers.
        temp: Its temporary folder, if it is to share one.
        changes: Of its environment, for all its workers.
    """

    def __init__(
        self,
        number: int,
        head: str | None = None,
        *,
        num_cpus: int = 1,
        temp: pathlib.Path | None = None,
        dashboard: bool = False,
        **changes: str,
    ):
        """Start it; :meth:`wait` says when it is there."""
        self.ip = f"127.0.0.{number + 2}"
        self.own_temp = None if temp else pathlib.Path(tempfile.mkdtemp(prefix="mecray"))
        self.temp = temp or self.own_temp
        self.address = head or f"{self.ip}:{free_port(self.ip)}"
        where = ["--address", self.address]
        self.dashboard = f"http://{self.ip}:{free_port(self.ip)}"
        if head is None:
            where = ["--head", "--port", self.address.rpartition(":")[2]]
            where += ["--include-dashboard", str(dashboard).lower()]
            where += ["--dashboard-host", self.ip]
            where += ["--dashboard-port", self.dashboard.rpartition(":")[2]]
        options = ["--block", "--num-cpus", num_cpus, "--object-store-memory", 10**8]
        options += ["--node-ip-address", self.ip, "--temp-dir", self.temp, "--disable-usage-stats"]
        options += ["--dashboard-agent-listen-port", free_port(self.ip)]  # else of all Rays here
        self.log = self.temp / f"start_{number}.log"
        self._command = [*RAY, "start", *where, *map(str, options)]
        self._environment = environment(**changes)
        self._start()

    def _start(self) -> None:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self.temp,
            )

    def wait(self) -> Node:
        """Wait until it has joined; Ray gives up after 30 s, so that it may try again."""
        for _ in range(3):
            if not wait(lambda: "Ray runtime started" in self.log.read_text() or self.ended):
                raise SystemExit(f"the node {self.ip} did not start")
            if not self.ended:
                return self
            if "timed out during startup" not in self.log.read_text():
                break
            self.kill()
            self._start()
        raise SystemExit(f"the node {self.ip} ended: {self.log.read_text()}")

    @property
    def ended(self) -> bool:
        """Whether ``ray start`` is over."""
        return self.process.poll() is not None

    def processes(self, *words: str) -> list[int]:
        """Process ids of it whose command line has one of some words."""
        return in_session(self.process.pid, *words)

    def kill(self) -> None:
        """``kill -9`` of everything on it."""
        for _ in range(3):
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        self.process.wait()

    def close(self) -> None:
        """End it, and remove what is its own."""
        self.kill()
        if self.own_temp:
            shutil.rmtree(self.own_temp, ignore_errors=True)


@contextlib.contextmanager
def cluster(*num_cpus: int, dashboard: bool = False) -> Iterator[list[Node]]:
    """Nodes, the first of them the head; those that are put into the list end with them.

    Args:
        num_cpus: What each offers.
        dashboard: Whether the head takes jobs.
    """
    nodes = [Node(0, num_cpus=num_cpus[0], dashboard=dashboard)]
    try:
        nodes[0].wait()
        nodes += [
            Node(i, nodes[0].address, num_cpus=n) for i, n in enumerate(num_cpus[1:], start=1)
        ]
        for node in nodes[1:]:
            node.wait()
        yield nodes
    finally:
        for node in reversed(nodes):
            node.close()
