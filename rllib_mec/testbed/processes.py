"""Child processes of an emulation: started, listened to line by line, and always ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence

from rllib_mec.errors import MecError, one_line

_GRACE_S = 15.0  # Ray takes a while to stop
_PR_SET_PDEATHSIG = 1
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Child:
    """A process whose lines on stdout are read, and whose stdin can be written to.

    It gets a process group of its own, so that Ctrl-C reaches the parent only, which then ends it
    in order; if the parent is killed, the kernel ends it.

    Args:
        name: What errors call it.
        argv: The command line.
        environment: Variables beside this process's own.
    """

    def __init__(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ):
        """Start it."""
        self.name = name
        self._errors = tempfile.TemporaryFile("w+", prefix="rllib_mec_")
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **_THREADS, **(environment or {})},
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def send(self, line: str) -> None:
        """Write a line to its stdin.

        Args:
            line: Without its end.

        Raises:
            MecError: It has ended.
        """
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def receive(self, timeout_s: float) -> str:
        """Its next line on stdout.

        Args:
            timeout_s: Give up after so long.

        Raises:
            MecError: It ended, or said nothing within the time.
        """
        try:
            line = self._lines.get(timeout=min(timeout_s, threading.TIMEOUT_MAX))
        except queue.Empty:
            raise MecError(f"{self.name} did not answer within {timeout_s:g} s") from None
        if line is None:
            raise self._ended()
        return line

    def _ended(self) -> MecError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        last = one_line(MecError(lines[-1])) if lines else "it said nothing"
        return MecError(f"{self.name} ended with code {self._process.returncode}: {last}")

    def stop(self) -> None:
        """End it, by force if it does not end by itself."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what is left of its group
        self._process.wait()
        self._errors.close()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
