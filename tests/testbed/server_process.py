"""A real MEC server as a process, a network in between, and devices as threads."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch

RLLIB_MEC = [
    sys.executable,
    "-c",
    "import sys; from rllib_mec.cli.mec import main; sys.exit(main())",
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """``rllib-mec server``, which can be killed and started again on the same port."""

    def __init__(self, arguments, environment):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.arguments = arguments
        self.environment = environment
        self.process = None
        self.ready = ""

    def start(self, arguments=None):
        for _ in range(3):  # Ray gives up where a busy machine takes longer than 30 s for a node
            self.process = subprocess.Popen(
                [*RLLIB_MEC, "server", "--port", str(self.port), *(arguments or self.arguments)],
                env=self.environment,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self.ready = self.process.stdout.readline()
            if "ready" in self.ready:
                return
            self.process.wait()
        raise AssertionError("the server did not start")

    def kill(self):
        """Kill -9, as if the machine had lost its power; Ray's own processes follow."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not self.is_listening())

    def kill_processes(self, name):
        """Kill -9 of its processes whose command line begins so; returns how many there were."""
        victims = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if self._is_ours(pid)]
        victims = [pid for pid in victims if open(f"/proc/{pid}/cmdline").read().startswith(name)]
        for pid in victims:
            os.kill(int(pid), signal.SIGKILL)
        return len(victims)

    def is_listening(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        except OSError:
            return False
        return True

    def resident_bytes(self):
        """Memory of the server's process and all its children."""
        pages = 0
        for pid in [pid for pid in filter(str.isdigit, os.listdir("/proc")) if self._is_ours(pid)]:
            with contextlib.suppress(OSError):
                pages += int(open(f"/proc/{pid}/statm").read().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def listening(self):
        """Addresses that the server's process and its children listen on."""
        pids = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if self._is_ours(pid)]
        sockets = set()
        for pid in pids:
            with contextlib.suppress(OSError):
                for number in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        sockets.add(os.readlink(f"/proc/{pid}/fd/{number}"))
        found = set()
        for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            for row in open(f"/proc/net/{table}").read().splitlines()[1:]:
                local, state, inode = (row.split()[i] for i in (1, 3, 9))
                if state == "0A" and f"socket:[{inode}]" in sockets:
                    words = re.findall("." * 8, local.partition(":")[0])
                    ip = b"".join(bytes.fromhex(word)[::-1] for word in words)
                    found.add(socket.inet_ntop(family, ip))
        return found

    def _is_ours(self, pid):
        """Whether a process is of the session that the server began."""
        with contextlib.suppress(OSError, ValueError):
            stat = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
            return int(stat[3]) == self.process.pid
        return False

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def wait_until(condition, timeout_s=60.0):
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(0.02)


class CuttableLink:
    """A TCP proxy; while it is cut, bytes pass in no direction, and nobody is told."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self._to = (host, int(port))
        self.up = threading.Event()
        self.up.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._to)
            except OSError:
                near.close()
                continue
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(a, b), daemon=True).start()

    def _forward(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.up.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.up.set()
        self._listener.close()


def run_devices(devices, inputs):
    """Run devices at the same time; returns for each its records and its results."""

    def run(device):
        results = []
        torch.set_num_threads(1)
        records = device.run(inputs, len(inputs), lambda record, result: results.append(result))
        return records, results

    with ThreadPoolExecutor(len(devices)) as pool:
        return list(pool.map(run, devices))


def assert_all_right(whole, records, results):
    """Every task has one record and one result, which is the whole DNN's bit for bit."""
    assert [record.task for record in records] == list(range(len(whole)))
    assert len(results) == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(results, whole, strict=True))
