"""Processes that are killed or told to end, disks that are full, folders that go."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from faults.bench import MAIN, PATIENT_S, TOKEN, Bench, Row, Server

NOBODY = 65534


def kills(server: Server, bench: Bench) -> list[Row]:
    """Kill -9 of each of the server's processes but the first, while a device works."""
    rows = []
    for name, words in (
        ("HAProxy", ["haproxy -db"]),
        ("the replica", ["ray::ServeReplica:tail"]),
        ("Serve's controller", ["ray::ServeController"]),
        ("Serve's proxies", ["ray::ProxyActor", "ray::HAProxyManager"]),
    ):
        with bench.at_work(server) as outcome:
            victims = server.processes(*words)
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
        lost, local, _ = outcome
        began = time.monotonic()
        back = server.wait(lambda: server.health() < 5e3)
        seen = f"{local} tasks fell back, well again {time.monotonic() - began:.1f} s after them"
        rows.append(Row(f"kill -9 of {name}", len(victims), len(victims) * back, lost, seen))
    return rows


def tasks_in(path: pathlib.Path) -> int:
    """Rows of a device's CSV or JSON file."""
    if path.suffix == ".json":
        return len(json.loads(path.read_text())["tasks"])
    with path.open(newline="") as file:
        return sum(None not in row.values() for row in csv.DictReader(file))


def device(server: Server, *options: object, **popen: object) -> subprocess.Popen:
    """``rllib-mec device`` as a process."""
    argv = [*MAIN, "device", "--server", server.address, "--tasks", "100000", *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RLLIB_MEC_TOKEN": TOKEN}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(argv, env=environment, **pipes, **popen)  # type: ignore[call-overload]


def device_ends(server: Server, folder: pathlib.Path) -> list[Row]:
    """SIGTERM, SIGKILL, a full disk, a removed folder: is every finished task on disk?"""
    rows = []
    limit = 40_000

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    for fault in ("SIGTERM of a device", "SIGKILL of a device", "a full disk", "a removed folder"):
        own = folder / fault.replace(" ", "_")
        own.mkdir()
        files = [own / "tasks.csv", own / "tasks.json"]
        popen = {"preexec_fn": full} if fault == "a full disk" else {}
        # Only after kill -9 a name is not free again at once.
        name = "another" if "KILL" in fault else "board"
        options = "--name", name, "--csv", files[0], "--json", files[1]
        process = device(server, *options, **popen)
        server.wait(lambda: files[0].exists() and files[0].stat().st_size > 10_000)  # noqa: B023
        if fault == "a removed folder":
            shutil.rmtree(own)
            server.wait(lambda: files[0].exists() and files[0].stat().st_size > 20_000)  # noqa: B023
        if fault != "a full disk":
            process.send_signal(signal.SIGKILL if "KILL" in fault else signal.SIGTERM)
        out, error = process.communicate(timeout=PATIENT_S)
        counts = [tasks_in(file) for file in files]
        done = [int(line.split()[1]) for line in out.splitlines() if " tasks in " in line]
        printed = sum(line.count(",") > 15 for line in out.splitlines())
        finished = done[0] if done else max(counts)
        lost = max(0, finished - printed - min(counts)) if "KILL" not in fault else 0
        said = [line for line in error.splitlines() if "error" in line]
        seen = f"{finished} tasks, {min(counts)} rows; it said: {said[-1][:110] if said else '-'}"
        rows.append(Row(fault, finished, finished - lost, lost, seen))
    return rows


def second_server(server: Server, bench: Bench, folder: pathlib.Path) -> list[Row]:
    """Another user's server beside, with other weights, which is then killed."""
    user = NOBODY if os.geteuid() == 0 and shutil.which("setpriv") else None
    folder = pathlib.Path(tempfile.mkdtemp(dir="/tmp"))
    if user is not None:
        os.chown(folder, user, user)
    other = Server(folder, seed=1, user=user)
    hellos = [one.client("x").hello(PATIENT_S).fingerprint for one in (server, other) * 20]
    apart = len(set(hellos[::2])) == len(set(hellos[1::2])) == 1 and len(set(hellos)) == 2
    with bench.at_work(server) as outcome:
        other.process.kill()
        other.process.wait()
        gone = other.wait(lambda: other.health(1.0) == float("inf"))
    lost, local, _ = outcome
    theirs = [path for path in pathlib.Path("/tmp").glob("mec-*") if path.stat().st_uid == user]
    for left in (folder, *theirs):
        shutil.rmtree(left, ignore_errors=True)
    whose = "another user's" if user is not None else "a second"
    return [
        Row(f"{whose} server on the machine", 40, 40 * apart, 0, "each answered for itself alone"),
        Row("kill -9 of that one", 1, int(gone), lost, f"{local} tasks of the other's fell back"),
    ]


def server_ends(server: Server, bench: Bench) -> Row:
    """SIGTERM under load: is every task that was finished answered, and every row there?"""
    from rllib_mec.testbed.client import FRAME_TYPE

    answered, ended = set(), []
    data = bench.frame(0)

    def ask() -> None:
        client = server.client("md")
        while True:
            own = data[:12] + os.urandom(16) + data[28:]
            with contextlib.suppress(Exception):
                own = _with_checksum(own)
            try:
                client.request("POST", "/infer", own, FRAME_TYPE, PATIENT_S, 2**20)
                answered.add(own[12:28].hex())
            except Exception as error:
                ended.append(str(error))
                return

    before = len(server.rows.read_text().splitlines()) if server.rows.exists() else 0
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    server.wait(lambda: len(answered) > 50)
    server.process.terminate()
    for thread in threads:
        thread.join()
    server.process.wait(PATIENT_S)
    rows = {line.split(",")[1] for line in server.rows.read_text().splitlines()[before:]}
    lost = len(rows ^ answered)
    seen = f"exit code {server.process.returncode}; the next were told: {ended[0]}"
    return Row("SIGTERM of a server under load", len(answered), len(answered) - lost, lost, seen)


def _with_checksum(frame: bytes) -> bytes:
    from rllib_mec.testbed.frames import _checksum

    return frame[:44] + _checksum(frame[:44], frame[48:]) + frame[48:]
