"""What the testbed survives: on real processes, each task's result compared, each row counted.

Fuzzed frames and requests, uploads that do not end, overload by one device, kills of each of the
server's processes, disks that are full, folders that go, a second user's server on the machine,
SIGTERM of both sides. A task counts as lost if it has no result, a wrong one, or no row on disk.

    python benchmarks/testbed_faults.py [--tasks 150]

About 5 minutes on 2 idle cores. It writes ``results/testbed_faults.md``. As root it starts the
second server as another user, else as the same.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
MODEL, TOKEN = "mobilenet_v2", "0123456789abcdef"
NOBODY = 65534
MAIN = [sys.executable, "-c", "import sys; from rllib_mec.cli.mec import main; sys.exit(main())"]
PATIENT_S = 60.0
POINT = 3  # the second half of the DNN is the server's


@dataclasses.dataclass(frozen=True)
class Row:
    """One fault: how often it was tried, how often it was survived, what was lost."""

    fault: str
    tried: int
    survived: int
    lost: int
    seen: str


class Server:
    """``rllib-mec server`` as a process of its own."""

    def __init__(self, folder: pathlib.Path, seed: int, user: int | None = None):
        """Start it, and wait until it is ready."""
        self.rows = folder / f"rows_{seed}.csv"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        options = ["--port", self.port, "--model", MODEL, "--seed", seed, "--csv", self.rows]
        options += ["--max-queue", 8]
        argv = [*MAIN, "server", *map(str, options)]
        if user is not None:
            caps = "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"
            argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *caps, *argv]
        here = {"HOME": str(folder), "OMP_NUM_THREADS": "1", "RLLIB_MEC_TOKEN": TOKEN}
        self.process = subprocess.Popen(
            argv,
            env={**os.environ, **here},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        if "ready" not in self.process.stdout.readline():
            raise SystemExit("the server did not start")

    def processes(self, *words: str) -> list[int]:
        """Process ids of its session whose command line has one of some words."""
        found = []
        for path in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                command = (path / "cmdline").read_text().replace("\0", " ")
                session = int((path / "stat").read_text().rpartition(")")[2].split()[3])
                if session == self.process.pid and any(word in command for word in words):
                    found.append(int(path.name))
        return found

    def client(self, name: str = ""):
        """A connection to it."""
        from rllib_mec.testbed.access import Access
        from rllib_mec.testbed.client import ServerClient

        return ServerClient(self.address, access=Access(name, TOKEN))

    def health(self, timeout_s: float = 5.0) -> float:
        """Milliseconds until it says that it is well; infinite if it does not."""
        client, began = self.client("health"), time.perf_counter()
        try:
            client.get_json("/health", timeout_s)
            return 1e3 * (time.perf_counter() - began)
        except Exception:
            return float("inf")
        finally:
            client.close()

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Whether a condition comes true within a minute."""
        give_up = time.monotonic() + PATIENT_S
        while not condition():
            if time.monotonic() > give_up:
                return False
            time.sleep(0.1)
        return True


class Bench:
    """The DNN, its tasks, and devices that work through them."""

    def __init__(self, server: Server, tasks: int):
        """Load the DNN that the server has."""
        from rllib_mec.testbed.access import Access
        from rllib_mec.testbed.device import load_from
        from rllib_mec.testbed.split_model import task_input

        self.model, _ = load_from(server.address, access=Access("", TOKEN), timeout_s=PATIENT_S)
        self.model.warm_up()
        self.inputs = [task_input(self.model.input_shape, 0, i) for i in range(tasks)]
        self.whole = [self.model.whole(x) for x in self.inputs]

    def work(self, server: Server, name: str, point: int = POINT, timeout_s: float = 5.0) -> tuple:
        """A device's tasks: how many were lost, how many it finished by itself, and its records."""
        import torch

        from rllib_mec.testbed.access import Access
        from rllib_mec.testbed.decisions import Fixed
        from rllib_mec.testbed.device import Device

        torch.set_num_threads(1)
        results: list = []
        device = Device(
            self.model,
            [server.address],
            Fixed(point),
            name=name,
            access=Access(name, TOKEN),
            timeout_s=timeout_s,
            backoff_s=(0.1, 0.5),
        )
        with device:
            records = device.run(
                self.inputs, len(self.inputs), lambda record, result: results.append(result)
            )
        right = sum(torch.equal(a, b) for a, b in zip(results, self.whole, strict=True))
        return len(self.inputs) - right, sum(r.fell_back for r in records), records

    @contextlib.contextmanager
    def at_work(self, server: Server, name: str = "md_0") -> Iterator[list]:
        """A device works while a block runs; its outcome is in the list afterwards."""
        outcome: list = []
        thread = threading.Thread(target=lambda: outcome.extend(self.work(server, name)))
        thread.start()
        time.sleep(0.5)
        yield outcome
        thread.join()

    def frame(self, point: int = POINT) -> bytes:
        """A request's frame."""
        from rllib_mec.testbed.frames import INFER, Frame, encode
        from rllib_mec.testbed.tensors import to_blobs

        blobs = to_blobs(self.model.head(point, self.inputs[0]), "float32")
        made = Frame(INFER, os.urandom(16), self.model.fingerprint, point, "float32", blobs)
        return encode(made)


def fuzz(server: Server, bench: Bench) -> Row:
    """Frames with bits flipped, cut and drawn; requests that are no HTTP; hostile JSON."""
    rng, valid, count, well = random.Random(0), bench.frame(5), 3000, 0
    start = f"POST /infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    with bench.at_work(server) as outcome:
        for i in range(count):
            data = bytearray(valid)
            for _ in range(rng.randrange(1, 5)):
                data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
            cut = data[: rng.randrange(len(data))] if i % 2 else data
            head = f"{start}Content-Length: {len(cut)}\r\nConnection: close\r\n\r\n".encode()
            sent = rng.randbytes(200) if i % 10 == 0 else head + bytes(cut)
            with socket.create_connection(("127.0.0.1", server.port), 10) as one:
                one.sendall(sent + b"\r\n\r\n")
                answer = one.recv(64)
            well += not answer or answer.split(b" ")[1][:1] == b"4"
    lost, local, _ = outcome
    fine = well if server.health() < 5e3 else 0
    return Row("fuzzed frames and requests", count, fine, lost, f"beside them {local} fell back")


def slow_uploads(server: Server, bench: Bench) -> Row:
    """Uploads that stop, while a fast device works."""
    head = f"POST /infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    held = []
    for i in range(200):
        one = socket.create_connection(("127.0.0.1", server.port))
        own = f"x-mec-device: slow_{i % 40}\r\nContent-Length: 600000\r\n\r\naaaa"
        one.sendall((head + own).encode())
        held.append(one)
    time.sleep(1)
    health = [server.health() for _ in range(10)]
    lost, local, _ = bench.work(server, "fast")
    for one in held:
        one.close()
    well = 200 if max(health) < 5e3 and not local else 0
    seen = f"health within {max(health):.0f} ms, {local} of the fast device's tasks fell back"
    return Row("uploads that do not end", 200, well, lost, seen)


def overload(server: Server, bench: Bench) -> Row:
    """One device with 24 connections, and three with one each."""
    from rllib_mec.testbed.client import FRAME_TYPE, ServerBusy

    data, stop, greedy, refused = bench.frame(0), threading.Event(), [], []

    def flood() -> None:
        client = server.client("greedy")
        while not stop.is_set():
            try:
                client.request("POST", "/infer", data, FRAME_TYPE, PATIENT_S, 2**20)
                greedy.append(None)
            except ServerBusy as busy:
                refused.append(busy.retry_after_s)
                time.sleep(busy.retry_after_s or 0.0)
        client.close()

    threads = [threading.Thread(target=flood) for _ in range(24)]
    for thread in threads:
        thread.start()
    outcomes: list = []
    fair = [
        threading.Thread(
            target=lambda n=n: outcomes.append(bench.work(server, f"fair_{n}", 0, PATIENT_S))
        )
        for n in range(3)
    ]
    before = len(greedy)
    for thread in fair:
        thread.start()
    for thread in fair:
        thread.join()
    during = len(greedy) - before
    stop.set()
    for thread in threads:
        thread.join()
    tasks = 3 * len(bench.inputs)
    local, lost = sum(o[1] for o in outcomes), sum(o[0] for o in outcomes)
    told = sum(each is not None for each in refused)
    seen = (
        f"meanwhile {during} of the other device, by 24 connections; of its {len(refused)} requests"
        f" that were turned away, {told} were told when to come again"
    )
    return Row("overload by one device", tasks, tasks - local, lost, seen)


def kills(server: Server, bench: Bench) -> list[Row]:
    """Kill -9 of each of the server's processes but the first, while a device works."""
    rows = []
    for name, words in (
        ("HAProxy", ["haproxy -db"]),
        ("the replica", ["ray::ServeReplica"]),
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
        process = device(server, "--csv", files[0], "--json", files[1], **popen)
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


def leftovers() -> int:
    """Folders of servers that lie in the temporary folder."""
    return len(list(pathlib.Path("/tmp").glob("mec-*/haproxy")))


def report(rows: list[Row], machine: str, load: float) -> str:
    """The Markdown page."""
    lines = [
        "# What the testbed survives",
        "",
        f"`{' '.join(['python', 'benchmarks/testbed_faults.py', *sys.argv[1:]])}`",
        "",
        f"{machine}, load average {load:.1f} before it began. {MODEL}; each task's result is"
        " compared with the whole DNN's, bit for bit, and each row on disk is counted. A task that"
        " a device finishes by itself, as the server does not, falls back; it is not lost.",
        "",
        "| fault | tried | survived | lost | what was seen |",
        "|---|--:|--:|--:|---|",
        *(f"| {r.fault} | {r.tried} | {r.survived} | {r.lost} | {r.seen} |" for r in rows),
        "",
        f"**Lost: {sum(row.lost for row in rows)}.**",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Try everything, write the page; returns the exit code: 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=150, help="of a device at work")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="where to write")
    args = parser.parse_args()
    import torch
    from machine import describe_machine

    torch.set_num_threads(1)
    load, rows = os.getloadavg()[0], []

    def tell(*more: Row) -> None:
        rows.extend(more)
        for row in more:
            print(row, flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(folder, seed=0)
        bench = Bench(server, args.tasks)
        tell(fuzz(server, bench), slow_uploads(server, bench), overload(server, bench))
        tell(*device_ends(server, folder), *second_server(server, bench, folder))
        tell(*kills(server, bench))
        with bench.at_work(server) as outcome:
            server.process.kill()
            server.process.wait()
        left = leftovers()
        time.sleep(61)  # younger folders may be of servers that are about to start
        again = Server(folder, seed=0)
        cleaned = left - (leftovers() - 1)
        seen = f"{outcome[1]} fell back; the next start cleaned {cleaned} of {left} folders"
        tell(Row("kill -9 of the server", 1, 1, outcome[0], seen))
        tell(server_ends(again, bench))
    args.out.mkdir(parents=True, exist_ok=True)
    text = report(rows, describe_machine(), load)
    (args.out / "testbed_faults.md").write_text(text)
    print(text)
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
