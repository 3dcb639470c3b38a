"""Compute as on a slower device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


class SlowedWork:
    """Runs functions as on a device that is slower, and adds up their time.

    What is missing to ``slowdown`` times the CPU time is slept, so that a machine that is busy with
    other things does not count twice.

    Args:
        slowdown: How many times longer compute takes, at least 1.

    Attributes:
        spent_ms: What everything together took.
    """

    def __init__(self, slowdown: float):
        """Begin with no time spent."""
        self._slowdown = slowdown
        # With one thread all work is in this one, and its CPU time knows no other processes.
        self._clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
        self.spent_ms = 0.0

    def do(self, function: Callable[[], T]) -> T:
        """Run a function and return its result."""
        start, cpu_start = time.perf_counter(), self._clock()
        result = function()
        wanted = self._slowdown * (self._clock() - cpu_start)
        left = wanted - (time.perf_counter() - start)
        if self._slowdown > 1.0 and left > 0:
            time.sleep(left)
        self.spent_ms += 1e3 * (time.perf_counter() - start)
        return result
