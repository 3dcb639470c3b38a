"""A circuit breaker: leave a server that fails alone, for longer each time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class CircuitBreaker:
    """Says when a failing server may be tried again.

    Closed, it lets everything through. A failure opens it for a time that doubles with each failure
    in a row and is spread by ±20 %, so that many devices do not come back at the same instant. When
    the time is over one trial is let through, which closes it or opens it again.

    Args:
        first_s: How long it stays open after the first failure.
        longest_s: The most it stays open.
        clock: Seconds that pass.
        spread: A number in [0, 1) for each failure.
    """

    def __init__(
        self,
        first_s: float = 0.1,
        longest_s: float = 5.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        spread: Callable[[], float] = random.random,
    ):
        """Begin closed."""
        self._first_s, self._longest_s = first_s, longest_s
        self._clock, self._spread = clock, spread
        self._failures = 0
        self._opened_until = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether the last trial succeeded, or there was none."""
        return self._failures == 0

    @property
    def retry_in_s(self) -> float:
        """Seconds until the next trial; 0 if it may be now."""
        return 0.0 if self.is_closed else max(0.0, self._opened_until - self._clock())

    def allows(self) -> bool:
        """Whether to try the server now."""
        return self.retry_in_s == 0.0

    def failed(self) -> None:
        """Note a failure."""
        wait = min(self._first_s * 2.0 ** min(self._failures, 60), self._longest_s)
        self._failures += 1
        self._opened_until = self._clock() + wait * (0.8 + 0.4 * self._spread())

    def succeeded(self) -> None:
        """Note a success."""
        self._failures = 0
