"""A training of EMH-PPO on a cluster, and what a fault has cost it."""

from __future__ import annotations

import itertools
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

import yaml

from faults.bench import Row
from faults.cluster import PATIENT_S, environment, wait

EVERY = 3
"""Iterations between checkpoints."""

BATCH = 512


class Training:
    """``rllib train`` as a process of its own.

    Args:
        folder: Where its file and its results go.
        address: The cluster's.
        config: Settings besides the small ones here.
        spec: Keys of the experiment besides.
    """

    def __init__(
        self, folder: pathlib.Path, address: str, config: dict | None = None, **spec: object
    ):
        """Write the file and start."""
        self.folder, self.storage = folder, folder / "results"
        self.file = folder / "faults.yaml"
        small = {
            "num_env_runners": 2,
            "env_config": {"num_devices": 3},
            "num_envs_per_env_runner": 16,
            "train_batch_size_per_learner": BATCH,
            "minibatch_size": 256,
            "demonstrations": 0,
            "env_runner_health_probe_timeout_s": 5,
        }
        experiment = {
            "run": "EMH-PPO",
            "env": "mec_task_window_v0",
            "stop": {"training_iteration": 40},
            "storage_path": str(self.storage),
            "checkpoint_config": {"checkpoint_frequency": EVERY, "num_to_keep": 3},
            "config": {**small, **(config or {})},
            **spec,
        }
        folder.mkdir(parents=True)
        self.file.write_text(yaml.safe_dump({"faults": experiment}))
        self.start(address)

    def start(self, address: str, *flags: str) -> None:
        """Start the command, or start it again."""
        argv = ["train", "file", str(self.file), "--ray-address", address, *flags]
        self.log = self.folder / f"log_{len([*self.folder.glob('log_*')])}.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rllib_mec.cli.rllib", *argv],
                env=environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def results(self) -> list[dict]:
        """All results so far, of a resumed run those done twice too."""
        lines = []
        for file in self.storage.glob("*/*/result.json"):
            lines += file.read_text().splitlines()
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # being written
        return found

    @property
    def iterations(self) -> list[int]:
        """Of all results."""
        return [result["training_iteration"] for result in self.results]

    def reach(self, iteration: int) -> None:
        """Wait for a result; the process must not end before."""
        if not wait(lambda: max(self.iterations, default=0) >= iteration or self.ended):
            raise SystemExit(f"no iteration {iteration}: {self.said()}")
        if max(self.iterations, default=0) < iteration:
            raise SystemExit(f"ended before iteration {iteration}: {self.log.read_text()}")

    @property
    def ended(self) -> bool:
        """Whether the process is over."""
        return self.process.poll() is not None

    def end(self, seconds: float = 2 * PATIENT_S) -> int | None:
        """Its exit code, or None if it did not end by itself."""
        if wait(lambda: self.ended, seconds):
            return self.process.returncode
        self.kill()
        return None

    def kill(self) -> None:
        """``kill -9`` of it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def said(self, *words: str) -> str:
        """The last line that it printed with one of some words, short."""
        lines = [li.strip() for li in self.log.read_text().splitlines() if li.strip()]
        lines = [li for li in lines if not words or any(word in li for word in words)]
        text = (lines or ["-"])[-1].replace("|", "/").replace(str(self.folder), "...")
        return text if len(text) < 230 else f"{text[:110]} ... {text[-110:]}"

    def lost(self, last: int) -> int:
        """Env steps that were lost beyond a checkpoint interval; the whole run, if it has no end.

        Args:
            last: The iteration at which it should have ended.
        """
        results, lost = self.results, 0
        if not results or results[-1]["training_iteration"] < last:
            return last * BATCH
        for before, after in itertools.pairwise(results):
            again = before["training_iteration"] + 1 - after["training_iteration"]
            lost += max(0, again - EVERY) * BATCH
        return lost

    def done_again(self) -> int:
        """Iterations that were done more than once."""
        return len(self.iterations) - len(set(self.iterations))

    def row(self, fault: str, code: int | None, seen: str, last: int = 40) -> Row:
        """What the table says of it."""
        lost = self.lost(last)
        shutil.rmtree(self.storage, ignore_errors=True)
        return Row(fault, 1, int(not lost and code == 0), lost, seen)


def actors(nodes: Sequence, kind: str = r"\w*EnvRunner") -> list[int]:
    """Processes of actors of a kind on some nodes."""
    found = []
    for pid in (pid for node in nodes for pid in node.processes("ray::")):
        title = pathlib.Path("/proc", str(pid), "cmdline").read_text()
        if re.match(rf"ray::{kind}\b", title):
            found.append(pid)
    return found
