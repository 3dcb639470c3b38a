"""When tasks arrive: at random, in bursts, or as a file says. Counter-based, as all draws are."""

from __future__ import annotations

import functools
import math

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network import traces
from rllib_mec.network.streams import ARRIVALS, fold, uniform

HEADER = ["time_s", "device"]
"""First line of a trace."""


@compiled
def _times_of(key, device, rate, burst_rate, burst_share, burst_mean_ms, horizon_ms, times):
    """Fill in when the tasks of an MD come, as far as there is room; return how many there are.

    Rates are per ms. Without bursts (``burst_share`` 0) the first one alone counts.
    """
    key = fold(key, ARRIVALS)
    draw = 0
    in_burst = False
    switch = math.inf
    quiet_mean_ms = math.inf
    if burst_share > 0.0:
        quiet_mean_ms = burst_mean_ms * (1.0 - burst_share) / burst_share
        in_burst = uniform(key, device, 0) < burst_share
        mean_ms = burst_mean_ms if in_burst else quiet_mean_ms
        switch = -math.log(uniform(key, device, 1)) * mean_ms
        draw = 2
    clock = 0.0
    count = 0
    while True:
        now = burst_rate if in_burst else rate
        gap = -math.log(uniform(key, device, draw)) / now if now > 0.0 else math.inf
        draw += 1
        if clock + gap >= min(switch, horizon_ms):
            if switch >= horizon_ms:
                return count
            # Whatever has not come by then is as likely to come as ever.
            clock = switch
            in_burst = not in_burst
            mean_ms = burst_mean_ms if in_burst else quiet_mean_ms
            switch += -math.log(uniform(key, device, draw)) * mean_ms
            draw += 1
            continue
        clock += gap
        if count < len(times):
            times[count] = clock
        count += 1


@compiled
def _times_of_all(
    keys, rates, burst_rates, burst_share, burst_mean_ms, horizon_ms, counts, times
):  # fmt: skip
    for b in range(len(keys)):
        for n in range(len(rates)):
            counts[b, n] = _times_of(
                keys[b], n, rates[n], burst_rates[n], burst_share, burst_mean_ms, horizon_ms,
                times[b, n],
            )  # fmt: skip


def random_arrivals(
    keys: np.ndarray,
    rate_hz: np.ndarray,
    horizon_ms: float,
    *,
    burst_factor: float = 1.0,
    burst_share: float = 0.0,
    burst_mean_ms: float = 1.0,
) -> np.ndarray:
    """A Poisson process for each MD, or one that switches between bursts and quiet times.

    Args:
        keys: Of the worlds' episodes, ``(B,)`` uint64.
        rate_hz: Mean tasks a second of each MD, ``(N,)``.
        horizon_ms: Nothing comes after it.
        burst_factor: How many times the mean rate a burst has; times ``burst_share`` at most 1.
        burst_share: Share of the time in bursts, below 1; 0: no bursts.
        burst_mean_ms: Mean length of a burst.

    Returns:
        When each task comes, ``(B, N, K)``, ms; ``inf`` where there is no more.
    """
    burst_rates = burst_factor * rate_hz / 1e3
    quiet = rate_hz / 1e3 * (1.0 - burst_factor * burst_share) / (1.0 - burst_share)
    counts = np.zeros((len(keys), len(rate_hz)), dtype=np.int64)
    # A guess of the room that is needed; the second time it is known.
    expected = float(rate_hz.max(initial=0.0)) * horizon_ms / 1e3
    room = int(expected + 6.0 * math.sqrt(expected)) + 8
    while True:
        times = np.full((*counts.shape, room), np.inf)
        _times_of_all(
            keys, np.maximum(quiet, 0.0), burst_rates, burst_share, burst_mean_ms, horizon_ms,
            counts, times,
        )  # fmt: skip
        most = int(counts.max(initial=0))
        if most <= room:
            return times[..., :most]
        room = most


def read_trace(path: str, num_devices: int) -> tuple[np.ndarray, ...]:
    """When the tasks of every MD come, as a CSV file ``time_s,device`` says.

    Args:
        path: The file; devices are numbered from 0 (``3`` or ``md_3``), times do not fall.
        num_devices: N.

    Returns:
        Times of each MD, N arrays, ms.

    Raises:
        MecError: There is no such file, or a line is bad: it says which, and what was expected.
    """
    return _read_trace(path, num_devices, traces.changed_at("arrivals", path))


@functools.lru_cache(maxsize=8)
def _read_trace(path: str, num_devices: int, changed: int) -> tuple[np.ndarray, ...]:
    times: list[list[float]] = [[] for _ in range(num_devices)]
    before_s = 0.0
    for where, (time_s, device) in traces.rows("arrivals", path, HEADER):
        before_s = traces.seconds(where, "time_s", time_s, before_s)
        times[traces.number_of(where, "device", device, "md", num_devices)].append(1e3 * before_s)
    return tuple(np.array(own) for own in times)


def trace_arrivals(
    times_ms: tuple[np.ndarray, ...], start: np.ndarray, horizon_ms: float
) -> np.ndarray:
    """Stretches of a trace.

    Args:
        times_ms: Times of each MD, as :func:`read_trace` has them.
        start: Where in the trace each world begins, in [0, 1], ``(B,)``: from its beginning to the
            last stretch of the horizon's length.
        horizon_ms: How long a stretch is.

    Returns:
        When each task comes, ``(B, N, K)``, ms since the stretch's start; ``inf`` where there is no
        more.
    """
    last_ms = max(own[-1] for own in times_ms if len(own))
    starts_ms = start * max(last_ms - horizon_ms, 0.0)
    ends_ms = starts_ms + horizon_ms
    spans = [(np.searchsorted(own, starts_ms), np.searchsorted(own, ends_ms)) for own in times_ms]
    most = max(int((last - first).max()) for first, last in spans)
    found = np.full((len(start), len(times_ms), most), np.inf)
    for n, (own, (first, last)) in enumerate(zip(times_ms, spans, strict=True)):
        for b in range(len(start)):
            found[b, n, : last[b] - first[b]] = own[first[b] : last[b]] - starts_ms[b]
    return found
