"""When MDs and MEC servers are out: what fails and comes back, and MDs that join and leave.

A process is given by its *changes*: what has changed an even number of times by now is up.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.errors import MecError
from rllib_mec.network import traces
from rllib_mec.network.stages import IDLE, SAME_INSTANT, SERVER, TRANSMISSION
from rllib_mec.network.streams import OUTAGES, VISITS, fold, uniform


@compiled
def _exponential(key, part, draw, mean):
    return -math.log(uniform(key, part, draw)) * mean


@compiled
def _changes_of_all(keys, first, up_ms, down_ms, horizon_ms, counts, times):
    for b in range(len(keys)):
        key = fold(keys[b], OUTAGES)
        for p in range(len(up_ms)):
            counts[b, p] = count = 0
            if down_ms[p] <= 0.0:
                continue
            is_up = uniform(key, first + p, 0) * (up_ms[p] + down_ms[p]) < up_ms[p]
            clock = 0.0
            if is_up:
                clock = _exponential(key, first + p, 1, up_ms[p])
            while clock < horizon_ms:
                if count < times.shape[2]:
                    times[b, p, count] = clock
                count += 1
                mean_ms = up_ms[p] if count % 2 == 0 else down_ms[p]
                clock += _exponential(key, first + p, 1 + count, mean_ms)
            counts[b, p] = count


def random_outages(
    keys: np.ndarray, first: int, up_ms: np.ndarray, down_ms: np.ndarray, horizon_ms: float
) -> np.ndarray:
    """Times up and down that are exponential, in the long run's proportion from the start.

    Args:
        keys: Of the worlds' episodes, ``(B,)`` uint64.
        first: The number of the first part; parts of other numbers are independent.
        up_ms: Mean time up of each part, ``(P,)``.
        down_ms: Mean time down, ``(P,)``; 0 of those that never fail.
        horizon_ms: Nothing changes after it.

    Returns:
        Changes, ``(B, P, K)``, ms since the episode's start; ``inf`` where there is no more.
    """
    counts = np.zeros((len(keys), len(up_ms)), dtype=np.int64)
    room = 8
    while True:
        times = np.full((*counts.shape, room), np.inf)
        _changes_of_all(keys, first, up_ms, down_ms, horizon_ms, counts, times)
        most = int(counts.max(initial=0))
        if most <= room:
            return times[..., :most]
        room = most


@compiled
def _visits_of_all(keys, present_share, stay_ms, horizon_ms, visits):
    for b in range(len(keys)):
        key = fold(keys[b], VISITS)
        for n in range(visits.shape[1]):
            joins = 0.0
            if uniform(key, n, 0) >= present_share:
                joins = uniform(key, n, 1) * horizon_ms
            visits[b, n, 0] = joins
            visits[b, n, 1] = joins + _exponential(key, n, 2, stay_ms)


def random_visits(
    keys: np.ndarray, num_devices: int, present_share: float, stay_ms: float, horizon_ms: float
) -> np.ndarray:
    """Some MDs are there from the start, the others join at any time; all stay exponentially long.

    Args:
        keys: Of the worlds' episodes, ``(B,)`` uint64.
        num_devices: N.
        present_share: The chance that an MD is there from the start.
        stay_ms: The mean stay.
        horizon_ms: MDs join before it.

    Returns:
        When each MD joins and leaves, ``(B, N, 2)``, ms since the episode's start.
    """
    visits = np.empty((len(keys), num_devices, 2))
    _visits_of_all(keys, present_share, stay_ms, horizon_ms, visits)
    return visits


def read_outages(path: str, num_servers: int, num_devices: int) -> tuple[np.ndarray, np.ndarray]:
    """What a CSV file ``part,from_s,to_s`` says of when parts are out.

    Args:
        path: The file; parts are ``server_0`` or ``md_3``, and those of one part do not overlap.
        num_servers: M.
        num_devices: N.

    Returns:
        Changes of the servers, ``(1, M, K)``, and of the MDs, ``(1, N, K)``, ms.

    Raises:
        MecError: There is no such file, or a line is bad: it says which, and what was expected.
    """
    changed = traces.changed_at("outages", path)
    return _read_outages(path, num_servers, num_devices, changed)


@functools.lru_cache(maxsize=8)
def _read_outages(
    path: str, num_servers: int, num_devices: int, changed: int
) -> tuple[np.ndarray, np.ndarray]:
    counts = {"server": num_servers, "md": num_devices}
    changes: dict[str, list[list[float]]] = {
        kind: [[] for _ in range(count)] for kind, count in counts.items()
    }
    for where, (part, from_s, to_s) in traces.rows("outages", path, ("part", "from_s", "to_s")):
        kind = part.partition("_")[0]
        if kind not in counts or "_" not in part:
            raise MecError(f"{where}: part must be like server_0 or md_3, but is {part!r}")
        own = changes[kind][traces.number_of(where, "part", part, kind, counts[kind])]
        start_s = traces.seconds(where, "from_s", from_s, own[-1] / 1e3 if own else 0.0)
        end_s = traces.seconds(where, "to_s", to_s, start_s)
        own += [1e3 * start_s, 1e3 * end_s]
    servers, devices = (_padded(changes[kind])[None] for kind in ("server", "md"))
    return servers, devices


def _padded(rows: list[list[float]]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows))), np.inf)
    for row, own in zip(padded, rows, strict=True):
        row[: len(own)] = own
    return padded


def read_visits(path: str, num_devices: int) -> np.ndarray:
    """What a CSV file ``device,join_s,leave_s`` says of who is there when.

    Args:
        path: The file; devices are numbered from 0 (``3`` or ``md_3``). Who is not in it never
            comes, and nobody comes twice.
        num_devices: N.

    Returns:
        When each MD joins and leaves, ``(1, N, 2)``, ms; ``inf`` where it never does.

    Raises:
        MecError: There is no such file, or a line is bad: it says which, and what was expected.
    """
    return _read_visits(path, num_devices, traces.changed_at("visits", path))


@functools.lru_cache(maxsize=8)
def _read_visits(path: str, num_devices: int, changed: int) -> np.ndarray:
    visits = np.full((1, num_devices, 2), np.inf)
    header = ("device", "join_s", "leave_s")
    for where, (device, join_s, leave_s) in traces.rows("visits", path, header):
        n = traces.number_of(where, "device", device, "md", num_devices)
        if visits[0, n, 0] < math.inf:
            raise MecError(f"{where}: md_{n} comes a second time, which no agent can")
        joins_s = traces.seconds(where, "join_s", join_s)
        leaves_s = traces.seconds(where, "leave_s", leave_s, joins_s)
        visits[0, n] = 1e3 * joins_s, 1e3 * leaves_s
    return visits


def is_up(changes_ms: np.ndarray, now_ms: np.ndarray) -> np.ndarray:
    """Which parts are up, ``(B, P)`` bool.

    Args:
        changes_ms: ``(B, P, K)``.
        now_ms: The time in each world, ``(B,)``.
    """
    return (changes_ms <= now_ms[:, None, None] * SAME_INSTANT).sum(2) % 2 == 0


def next_change(changes_ms: np.ndarray, now_ms: np.ndarray) -> np.ndarray:
    """When the next part changes in each world, ``(B,)``; ``inf`` where none does.

    Args:
        changes_ms: ``(B, P, K)``.
        now_ms: The time in each world, ``(B,)``.
    """
    to_come = np.where(changes_ms > now_ms[:, None, None] * SAME_INSTANT, changes_ms, np.inf)
    return to_come.min(axis=(1, 2), initial=np.inf)


def next_up(servers_up: np.ndarray) -> np.ndarray:
    """For each server itself if it is up, else the next one that is, ``(B, M)``; -1 if none is.

    Args:
        servers_up: ``(B, M)`` bool.
    """
    num_servers = servers_up.shape[1]
    index = np.arange(2 * num_servers)  # twice round: after the last one comes the first
    ahead = np.where(np.tile(servers_up, 2), index, 2 * num_servers)
    found = np.minimum.accumulate(ahead[:, ::-1], axis=1)[:, ::-1][:, :num_servers]
    return np.where(found < 2 * num_servers, found % num_servers, -1)


@compiled
def fail_over(flight, begun, devices_up, next_server, physics):
    """Bring tasks in flight to what is left of the network.

    A task on a server that is out is sent again, to the next one that is up; if none is, its MD
    does it anew by itself. A task of an MD that is out is lost, and will be begun again.

    Args:
        flight: A :class:`~rllib_mec.network.slots.Flight`, changed in place.
        begun: Tasks that each MD has begun, ``(B, N)`` int, changed in place.
        devices_up: ``(B, N)`` bool.
        next_server: Of :func:`next_up`, ``(B, M)``.
        physics: A :class:`~rllib_mec.network.physics.Physics`.
    """
    num_envs, num_devices = begun.shape
    for b in range(num_envs):
        for n in range(num_devices):
            stage = flight.stage[b, n]
            if stage == IDLE:
                continue
            if not devices_up[b, n]:
                flight.stage[b, n] = IDLE
                begun[b, n] -= 1
                continue
            point = flight.partition[b, n]
            server = flight.server[b, n]
            instead = next_server[b, server]
            if stage > SERVER or point >= physics.full_local[n] or instead == server:
                continue
            if instead < 0:
                flight.partition[b, n] = physics.full_local[n]
                flight.stage[b, n] = 1
                flight.work[b, n] = physics.stage_work[n, 0, physics.full_local[n]]
                continue
            flight.server[b, n] = instead
            if stage == SERVER:
                flight.stage[b, n] = TRANSMISSION
                flight.work[b, n] = physics.stage_work[n, TRANSMISSION - 1, point]
