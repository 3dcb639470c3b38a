"""A scenario's numbers as the compiled kernels take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from rllib_mec.dnn import PartitionTable
    from rllib_mec.network.scenario import Scenario


SERVER_ROW = 2
"""Row of :attr:`Physics.stage_work` for the server that ``server_latency_ms`` speaks of."""


class Radio(NamedTuple):
    """What the rate of Eq. (1) depends on, besides powers and gains.

    Attributes:
        bandwidth_hz: B_c of each channel, ``(C,)``.
        noise_w: σ_c of each channel, ``(C,)``.
        min_efficiency: The rate's floor, bit/s/Hz.
        ms_per_s: Milliseconds of latency that a second of transmission counts as.
    """

    bandwidth_hz: np.ndarray
    noise_w: np.ndarray
    min_efficiency: float
    ms_per_s: float

    @property
    def num_channels(self) -> int:
        """C."""
        return len(self.bandwidth_hz)


class Servers(NamedTuple):
    """The MEC servers.

    Attributes:
        speed: Work per ms of each, ``(M,)``; 1 is the server that latencies are given for.
        delay_ms: What each one's result takes to be back, whatever it has to do, ``(M,)``.
        row: Which row of :attr:`Physics.stage_work` has its work, ``(M,)`` int: the third, or one
            behind the fourth where it has a profile of its own.
    """

    speed: np.ndarray
    delay_ms: np.ndarray
    row: np.ndarray


class Physics(NamedTuple):
    """What the engine needs to know of a scenario.

    Attributes:
        stage_work: Work of each MD at each partition point, ``(N, 4 + P, S)``: ms of CPU up to the
            cut, bits, ms of a server of speed 1, and ms of CPU beside the last two; then ms of each
            of the P kinds of servers with a profile of their own. Of a choice that an MD cannot
            play, that of what is played instead; see ``Scenario.playable``.
        local_energy_j: Energy of the MD's computing at each partition point, ``(N, S)``.
        full_local: The first point of each MD at which nothing is sent, ``(N,)``; S if none is.
        radio: The radio.
        servers: The servers.
    """

    stage_work: np.ndarray
    local_energy_j: np.ndarray
    full_local: np.ndarray
    radio: Radio
    servers: Servers

    @classmethod
    def of(cls, scenario: Scenario) -> Physics:
        """The numbers of a scenario, which keeps them as its ``physics``.

        Args:
            scenario: Its DNNs are traced on the first use.
        """
        devices, of_each = scenario.mobile_devices, {}
        for device, table, own in zip(devices, scenario.tables, scenario.playable, strict=True):
            if device not in of_each:
                work, mmacs = _work_of(table, scenario)
                of_each[device] = work[:, own], device.energy_per_mmac_j * mmacs[own]
        channels, servers = scenario.radio_channels, scenario.mec_servers
        own_profiles = scenario.server_profiles
        return cls(
            stage_work=np.array([of_each[device][0] for device in devices]),
            local_energy_j=np.array([of_each[device][1] for device in devices]),
            full_local=np.where(
                scenario.runs_whole,
                [table.full_local for table in scenario.tables],
                scenario.num_points,
            ),
            radio=Radio(
                bandwidth_hz=np.array([channel.bandwidth_hz for channel in channels]),
                noise_w=np.array([channel.noise_w for channel in channels]),
                min_efficiency=scenario.min_spectral_efficiency,
                ms_per_s=scenario.transmission_ms_per_s,
            ),
            servers=Servers(
                speed=np.array([server.speed for server in servers]),
                delay_ms=np.array([server.latency_ms for server in servers]),
                row=np.array(
                    [
                        4 + own_profiles.index(server.server_profile)
                        if server.server_profile in own_profiles
                        else SERVER_ROW
                        for server in servers
                    ]
                ),
            ),
        )

    @property
    def server_speeds(self) -> np.ndarray:
        """How fast each server is with whole DNNs, as a mean over those of the MDs, ``(M,)``."""
        whole_ms = self.stage_work[:, :, 0]
        as_fast = whole_ms[:, [SERVER_ROW]] / whole_ms[:, self.servers.row]
        return self.servers.speed * as_fast.mean(0)

    @property
    def num_points(self) -> int:
        """S, of the MD that has most."""
        return self.local_energy_j.shape[1]


def _work_of(table: PartitionTable, scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Work at each point, ``(4 + P, S)``, and million MACs done on the MD."""
    local_ms, local_mmacs = np.array([table.local_latency_ms, table.local_mmacs], dtype=float)
    bits, server_ms = np.array([table.bits, table.server_latency_ms], dtype=float)
    other_ms = table.other_servers_ms
    # Of what comes after the cut, the MD keeps this share to itself.
    remote = scenario.remote_feature_share
    kept_ms, kept_mmacs = ((1.0 - remote) * (v[-1] - v) for v in (local_ms, local_mmacs))
    if scenario.server_model == "share":
        server_ms, other_ms = remote * server_ms, remote * other_ms
    work = np.array([local_ms, remote * bits, server_ms, kept_ms, *other_ms])
    return work, local_mmacs + kept_mmacs
