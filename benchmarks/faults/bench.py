"""A server and a device at work, and what a fault's row says."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

MODEL, TOKEN = "mobilenet_v2", "0123456789abcdef"
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

    def __init__(
        self,
        folder: pathlib.Path,
        seed: int,
        user: int | None = None,
        checkpoint: pathlib.Path | None = None,
    ):
        """Start it, and wait until it is ready."""
        self.rows = folder / f"rows_{seed}.csv"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        options = ["--port", self.port, "--model", MODEL, "--seed", seed, "--csv", self.rows]
        options += ["--max-queue", 8, *(["--checkpoint", checkpoint] if checkpoint else [])]
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

    def health(self, timeout_s: float = 5.0, path: str = "/health") -> float:
        """Milliseconds until it says that it is well; infinite if it does not."""
        client, began = self.client("health"), time.perf_counter()
        try:
            client.get_json(path, timeout_s)
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

    def work(
        self,
        server: Server,
        name: str,
        point: int = POINT,
        timeout_s: float = 5.0,
        scheduled: bool = False,
    ) -> tuple:
        """A device's tasks: how many were lost, how many it finished by itself, and its records."""
        import torch

        from rllib_mec.testbed.access import Access
        from rllib_mec.testbed.decisions import Fixed, Scheduled
        from rllib_mec.testbed.device import Device

        torch.set_num_threads(1)
        results: list = []
        decider = Fixed(point)
        if scheduled:
            decider = Scheduled(server.client(name), name, self.model, timeout_s=timeout_s)
        device = Device(
            self.model,
            [server.address],
            decider,
            name=name,
            access=Access(name, TOKEN),
            timeout_s=timeout_s,
            backoff_s=(0.1, 0.5),
        )
        with device:
            if scheduled:
                device.connect()
            records = device.run(
                self.inputs, len(self.inputs), lambda record, result: results.append(result)
            )
        right = sum(torch.equal(a, b) for a, b in zip(results, self.whole, strict=True))
        return len(self.inputs) - right, sum(r.fell_back for r in records), records

    @contextlib.contextmanager
    def at_work(
        self, server: Server, names: tuple[str, ...] = ("md_0",), *, scheduled: bool = False
    ) -> Iterator[list]:
        """Devices work while a block runs; what :meth:`work` says of all is in the list then."""
        outcome: list = []
        done: list[tuple] = []

        def run(name: str) -> None:
            done.append(self.work(server, name, scheduled=scheduled))

        threads = [threading.Thread(target=run, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        yield outcome
        for thread in threads:
            thread.join()
        missing = (len(names) - len(done)) * len(self.inputs)  # a device that failed lost all
        outcome.append(missing + sum(lost for lost, _, _ in done))
        outcome.append(sum(local for _, local, _ in done))
        outcome.append([record for _, _, records in done for record in records])

    def frame(self, point: int = POINT) -> bytes:
        """A request's frame."""
        from rllib_mec.testbed.frames import INFER, Frame, encode
        from rllib_mec.testbed.tensors import to_blobs

        blobs = to_blobs(self.model.head(point, self.inputs[0]), "float32")
        made = Frame(INFER, os.urandom(16), self.model.fingerprint, point, "float32", blobs)
        return encode(made)
