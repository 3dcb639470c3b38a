"""What a scenario says of its devices, servers, channels and partition points, as ratios.

Times are shares of the latency of a local task, energies costs beside it (Eq. 5), so that a number
means the same in every scenario.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rllib_mec.envs.actions import w_of_dbm
from rllib_mec.envs.mdp import MDP
from rllib_mec.network.path_loss import mean_gains
from rllib_mec.network.radio import lone_rates_bps

TYPICAL_POWER_W = 0.01
"""Power at which transmissions are measured, as the best plans of the paper's scenario have it."""

_TABLE = 33  # distances at which the time on air is tabled


class ScenarioFeatures(NamedTuple):
    """What does not change in a scenario.

    Attributes:
        devices: Of each MD, ``(N, ...)``.
        servers: Of each server, ``(M, ...)``.
        channels: Of each channel, ``(C, ...)``.
        world: Of all together, ``(1, ...)``.
        points: Of each MD's partition points, ``(N, S, ...)``.
        airtime: Logarithms of time on air and energy of a full offload, ``(N, distances, 2)``, at
            equal steps of the logarithm of the distance; of a lone MD at a typical power.
        between_m: The least and the largest of these distances, m.
    """

    devices: np.ndarray
    servers: np.ndarray
    channels: np.ndarray
    world: np.ndarray
    points: np.ndarray
    airtime: np.ndarray
    between_m: tuple[float, float]

    @classmethod
    def of(cls, mdp: MDP) -> ScenarioFeatures:
        """Those of an MDP's scenario.

        Args:
            mdp: The MDP.
        """
        local_ms = mdp.scenario.local_ms
        between_m, airtime = _airtimes(mdp, local_ms)
        return cls(
            devices=_of_devices(mdp, local_ms),
            servers=_of_servers(mdp, local_ms),
            channels=_of_channels(mdp),
            world=_of_world(mdp),
            points=_of_points(mdp, local_ms),
            airtime=airtime,
            between_m=between_m,
        )


def _log(x: np.ndarray | float) -> np.ndarray:
    """Logarithm of a ratio, of moderate size."""
    return np.clip(np.log(np.maximum(x, 1e-6)), -8.0, 8.0) / 2.0


def _of_devices(mdp: MDP, local_ms: np.ndarray) -> np.ndarray:
    """``(N, ...)``."""
    scenario, physics = mdp.scenario, mdp.scenario.physics
    energy = scenario.energy_weight * scenario.local_j / local_ms
    urgency = local_ms / scenario.deadlines_ms
    comes = float(mdp.tasks_arrive)
    return np.stack(
        [
            _log(local_ms / np.exp(np.log(local_ms).mean())),
            _log(physics.stage_work[:, 2].max(1) / local_ms),
            np.log1p(energy),
            scenario.of_devices("max_power_dbm") / 30.0,
            scenario.of_devices("max_window") / scenario.max_window,
            scenario.runs_whole.astype(float),
            physics.stage_work[:, 0, -1] / local_ms,
            comes * scenario.of_devices("arrival_rate_hz") * local_ms / 1e3,
            comes * urgency,
        ],
        axis=1,
    )


def _of_servers(mdp: MDP, local_ms: np.ndarray) -> np.ndarray:
    """``(M, ...)``."""
    physics = mdp.scenario.physics
    speeds = physics.server_speeds
    own = [_log(speeds / speeds.mean()), physics.servers.delay_ms / local_ms.mean()]
    return np.concatenate([np.stack(own, axis=1), _index(len(speeds))], axis=1)


def _of_channels(mdp: MDP) -> np.ndarray:
    """``(C, ...)``."""
    radio = mdp.scenario.physics.radio
    own = [_log(v / np.exp(np.log(v).mean())) for v in (radio.bandwidth_hz, radio.noise_w)]
    return np.concatenate([np.stack(own, axis=1), _index(radio.num_channels)], axis=1)


def _index(number: int) -> np.ndarray:
    """What tells equal ones apart, ``(number, 3)``."""
    index = np.arange(number)
    turn = 2 * np.pi * index / number
    return np.stack([np.cos(turn), np.sin(turn), index / number], axis=1)


def _of_world(mdp: MDP) -> np.ndarray:
    """``(1, ...)``."""
    scenario = mdp.scenario
    numbers = scenario.num_devices, scenario.num_servers, scenario.num_channels
    few = np.clip(np.array(numbers)[:, None] - np.arange(1, 5), 0.0, 1.0).ravel()
    logs = np.log([*numbers, scenario.max_window, scenario.mean_tasks / 50.0]) / 4.0
    kind = [float(mdp.tasks_arrive), float(mdp.can_simulate), scenario.waiting_weight * 10.0]
    return np.concatenate([logs, few, kind])[None]


def _of_points(mdp: MDP, local_ms: np.ndarray) -> np.ndarray:
    """Of each MD's partition points, ``(N, S, ...)``."""
    scenario, physics = mdp.scenario, mdp.scenario.physics
    before, bits, server, beside = np.moveaxis(physics.stage_work[:, :4], 1, 0)
    scale = local_ms[:, None]
    most_bits = np.maximum(bits.max(1, keepdims=True), 1.0)
    energy = scenario.energy_weight * physics.local_energy_j / scale
    index = np.arange(scenario.num_points)[None]
    full_local = physics.full_local[:, None]
    return np.stack(
        [
            before / scale,
            beside / scale,
            server / scale,
            bits / most_bits,
            _log(bits / most_bits),
            np.log1p(energy),
            (bits <= 0).astype(float),
            np.broadcast_to(index == 0, bits.shape).astype(float),
            np.minimum(index, full_local) / np.maximum(full_local, 1),
        ],
        axis=-1,
    )


def _airtimes(mdp: MDP, local_ms: np.ndarray) -> tuple[tuple[float, float], np.ndarray]:
    """Logarithms of time on air and energy of a full offload, by distance.

    Returns:
        The least and largest distance, m, and ``(N, distances, 2)``, at equal steps of the
        logarithm of the distance; of a lone MD at a typical power and a mean channel.
    """
    scenario, physics = mdp.scenario, mdp.scenario.physics
    least, most = scenario.distance_range_m
    distances_m = np.geomspace(least, max(most, 1.000001 * least), _TABLE)
    gain = mean_gains(distances_m, scenario)
    radio = physics.radio
    power_w = np.minimum(TYPICAL_POWER_W, w_of_dbm(scenario.of_devices("max_power_dbm")))
    rates = lone_rates_bps(
        power_w[:, None] * gain,
        float(radio.bandwidth_hz.mean()),
        float(radio.noise_w.mean()),
        radio.min_efficiency,
    )
    seconds = physics.stage_work[:, 1].max(1)[:, None] / np.maximum(rates, 1.0)
    time = _log(seconds * radio.ms_per_s / local_ms[:, None])
    energy = _log(scenario.energy_weight * power_w[:, None] * seconds / local_ms[:, None])
    return (float(distances_m[0]), float(distances_m[-1])), np.stack([time, energy], axis=-1)
