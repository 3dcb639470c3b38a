"""What the simulator says of an emulated testbed, before it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.network.engine import (
    Decisions,
    Devices,
    Records,
    advance,
    all_there,
    make_scratch,
)
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.stages import LOCAL, SERVER
from rllib_mec.policies import Policy

_SEARCH_STARTS, _SEARCH_TASKS = 16, 12  # enough to tell points apart


@dataclass(frozen=True)
class Prediction:
    """Expected metrics of a run; see :class:`~rllib_mec.testbed.records.Summary`.

    Attributes:
        mean_ms: Mean latency of a task, waiting for decisions not included.
        p50_ms: Its median.
        p95_ms: Its 95th percentile.
        throughput_per_s: Tasks of all devices a second.
        local_share: Share of tasks that run fully on the device.
        waiting_ms: Mean time a task waits for the other devices.
        energy_j: Mean energy of a task on the device.
    """

    mean_ms: float
    p50_ms: float
    p95_ms: float
    throughput_per_s: float
    local_share: float
    waiting_ms: float
    energy_j: float

    @classmethod
    def of(
        cls,
        latencies_ms: np.ndarray,
        *,
        makespan_ms: float,
        num_tasks: int,
        local_share: float,
        waiting_ms: float,
        energy_j: float,
    ) -> Prediction:
        """Summarise the latencies of many simulated tasks.

        Args:
            latencies_ms: Of single tasks, ``(tasks,)``.
            makespan_ms: From the first start to the last end.
            num_tasks: Done in the makespan.
            local_share: See the class.
            waiting_ms: See the class.
            energy_j: See the class.
        """
        p50, p95 = np.percentile(latencies_ms, [50, 95])
        return cls(
            mean_ms=float(latencies_ms.mean()),
            p50_ms=float(p50),
            p95_ms=float(p95),
            throughput_per_s=1e3 * num_tasks / makespan_ms,
            local_share=local_share,
            waiting_ms=waiting_ms,
            energy_j=energy_j,
        )


def predict_fixed(
    scenario: Scenario,
    points: Sequence[int],
    num_tasks: int,
    power_w: float,
    *,
    starts: int = 64,
    seed: int = 0,
) -> Prediction:
    """What happens if each device cuts all its tasks at one point.

    Devices that start at the same instant would meet at the server in every round, for nothing in
    the model ever moves them apart. So they start out of step, within the length of a task, as
    those of the emulation do; the prediction is the mean over many such starts.

    Args:
        scenario: The testbed as its :class:`~rllib_mec.testbed.calibration.Calibration` has it.
        points: Each device's point, an index into the scenario's table; N of them.
        num_tasks: Tasks of each device.
        power_w: Transmit power of all.
        starts: How many starts to average over.
        seed: Of the starts.
    """
    physics = scenario.physics
    num_devices = len(points)
    partition = np.repeat(np.array(points, dtype=np.int64)[:, None], num_tasks, axis=1)
    own = np.repeat(np.arange(num_devices)[:, None], num_tasks, axis=1)
    task_ms = alone_ms(scenario)[list(points)].mean()
    scratch = make_scratch(num_devices, scenario.num_channels, scenario.num_servers)
    rng = np.random.default_rng(seed)
    latencies, makespans, energies = [], [], []
    for _ in range(starts):
        offsets = rng.random(num_devices) * task_ms
        first = physics.stage_work[np.arange(num_devices), 0, list(points)]
        stage_ends = np.zeros((num_devices, num_tasks, 3))
        on_air_s = np.zeros((num_devices, num_tasks))
        advance(
            0.0,
            math.inf,
            Devices(
                stage=np.full(num_devices, LOCAL),
                task=np.zeros(num_devices, dtype=np.int64),
                work=offsets + first,
                cut_at=np.zeros(num_devices),
            ),
            np.full(num_devices, num_tasks),
            all_there(),
            Decisions(partition, own, np.zeros_like(own), np.full(own.shape, power_w)),
            np.zeros(num_devices),  # no gain: the rate's floor is the link's rate
            physics,
            Records(stage_ends, on_air_s),
            scratch,
        )
        ends = np.concatenate([offsets[:, None], stage_ends[:, :, SERVER - 1]], axis=1)
        latencies.append(np.diff(ends, axis=1))
        makespans.append(ends.max() - offsets.min())
        local_j = np.take_along_axis(physics.local_energy_j, partition, axis=1)
        energies.append(power_w * on_air_s + local_j)
    return Prediction.of(
        np.concatenate(latencies, axis=None),
        makespan_ms=float(np.mean(makespans)),
        num_tasks=num_devices * num_tasks,
        local_share=float(np.mean(np.array(points) >= physics.full_local)),
        waiting_ms=0.0,
        energy_j=float(np.mean(energies)),
    )


def predict_policy(
    scenario: Scenario, policy: Policy, points: Sequence[int], num_tasks: int, distance_m: float
) -> Prediction:
    """What happens if a policy decides task windows, for all devices at once.

    Args:
        scenario: The testbed; but for the physics it must be the policy's own.
        policy: Decides.
        points: For each of the policy's points, its index in the scenario's table.
        num_tasks: Tasks of each device.
        distance_m: What the policy is told of every device.
    """
    worlds = TaskWindowMDP(scenario).make(1, num_tasks=num_tasks, distance_m=distance_m)
    own_channel = np.arange(scenario.num_devices)[None, :, None]
    latencies, waiting_ms, makespan_ms, energy_j, local_tasks = [], 0.0, 0.0, 0.0, 0.0
    num_all = scenario.num_devices * num_tasks
    terminated = False
    while not terminated:
        action = policy.decide(worlds.observation())
        step = worlds.step(
            {
                **action,
                "partition": np.asarray(points)[action["partition"]],
                "channel": np.broadcast_to(own_channel, action["channel"].shape),
                "server": np.zeros_like(action["server"]),
            }
        )
        ends = step.stage_ends[0, :, :, SERVER - 1]
        started = np.concatenate([np.zeros((len(ends), 1)), ends[:, :-1]], axis=1)
        latencies.append((ends - started)[step.played[0]])
        waiting_ms += float(step.waiting_ms[0]) * scenario.num_devices
        makespan_ms += float(step.latency_ms[0])
        energy_j += float(step.energy_j[0])
        local_tasks += float(step.point_tasks[0, -1])
        terminated = bool(step.terminated[0])
    return Prediction.of(
        np.concatenate(latencies),
        makespan_ms=makespan_ms,
        num_tasks=num_all,
        local_share=local_tasks / num_all,
        waiting_ms=waiting_ms / num_all,
        energy_j=energy_j / num_all,
    )


def best_points(scenario: Scenario, candidates: Sequence[int], power_w: float) -> list[int]:
    """One point for each device, such that the simulator predicts the least mean latency.

    It begins with the best point common to all and changes one device at a time for the better,
    until none is left to change.

    Args:
        scenario: The testbed.
        candidates: Points to choose from, indices into the scenario's table.
        power_w: Transmit power of all.
    """
    seen: dict[tuple[int, ...], float] = {}

    def cost(points: tuple[int, ...]) -> float:
        """A task's mean latency, ms.

        Args:
            points: Of each device.
        """
        key = tuple(sorted(points))  # the devices are alike
        if key not in seen:
            seen[key] = predict_fixed(
                scenario, key, _SEARCH_TASKS, power_w, starts=_SEARCH_STARTS
            ).mean_ms
        return seen[key]

    best = min(((point,) * scenario.num_devices for point in candidates), key=cost)
    while True:
        neighbours = {
            tuple(sorted((*best[:n], point, *best[n + 1 :])))
            for n in range(scenario.num_devices)
            for point in candidates
        }
        better = min(neighbours, key=cost)
        if cost(better) >= cost(best):
            return list(best)
        best = better


def alone_ms(scenario: Scenario) -> np.ndarray:
    """Latency of a task at each point if a device has the testbed for itself, ``(S,)``.

    Args:
        scenario: The testbed as the simulator sees it.
    """
    physics = scenario.physics
    radio = physics.radio
    local_ms, bits, server_ms = physics.stage_work[0, [0, 1, physics.servers.row[0]]]
    rate_bps = radio.bandwidth_hz[0] * radio.min_efficiency
    return local_ms + bits / rate_bps * radio.ms_per_s + server_ms
