"""Compute as on a slower device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

T = TypeVar("T")


class Pace:
    """CPU time of pieces of work: as measured each time, until it is fixed.

    Processes that share a machine share its caches, and the same work takes more CPU time the more
    of them there are. Devices share none, so that an emulation of several fixes the least that one
    device alone measured, which is what the core takes when it is left alone.
    """

    def __init__(self) -> None:
        """Begin with nothing measured and nothing fixed."""
        self._least_s: dict[str, float] = {}
        self._fixed_s: dict[str, float] = {}

    def of(self, piece: str, measured_s: float) -> float:
        """The seconds that count for a piece of work that took ``measured_s``.

        Args:
            piece: Its name.
            measured_s: How long it took this time.
        """
        self._least_s[piece] = min(measured_s, self._least_s.get(piece, measured_s))
        return self._fixed_s.get(piece, measured_s)

    def least_s(self) -> dict[str, float]:
        """Of each piece, the least that was measured."""
        return dict(self._least_s)

    def fix(self, seconds: Mapping[str, float]) -> None:
        """From now on these count, whatever is measured.

        Args:
            seconds: By the name of the piece of work.
        """
        self._fixed_s = dict(seconds)


class SlowedWork:
    """Runs functions as on a device that is slower, and adds up their time.

    What is missing to ``slowdown`` times the CPU time is slept, so that a machine that is busy with
    other things does not count twice.

    Args:
        slowdown: How many times longer compute takes, at least 1.
        pace: What the CPU time is taken from; default: each measurement counts.

    Attributes:
        spent_ms: What everything together took.
    """

    def __init__(self, slowdown: float, pace: Pace | None = None):
        """Begin with no time spent."""
        self._slowdown, self._pace = slowdown, pace or Pace()
        # With one thread all work is in this one, and its CPU time knows no other processes.
        self._clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
        self.spent_ms = 0.0

    def do(self, piece: str, function: Callable[[], T]) -> T:
        """Run a function, which is this piece of work, and return its result.

        Args:
            piece: Its name.
            function: The work, without arguments.
        """
        start, cpu_start = time.perf_counter(), self._clock()
        result = function()
        wanted = self._slowdown * self._pace.of(piece, self._clock() - cpu_start)
        left = wanted - (time.perf_counter() - start)
        if self._slowdown > 1.0 and left > 0:
            time.sleep(left)
        self.spent_ms += 1e3 * (time.perf_counter() - start)
        return result
