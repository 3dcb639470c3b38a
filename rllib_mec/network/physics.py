"""A scenario's numbers as the compiled kernels take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rllib_mec.network.scenario import Scenario


class Radio(NamedTuple):
    """What the rate of Eq. (1) depends on, besides powers and gains.

    Attributes:
        bandwidth_hz: B_c.
        noise_w: σ_c.
        min_efficiency: The rate's floor, bit/s/Hz.
        num_channels: C.
        ms_per_s: Milliseconds of latency that a second of transmission counts as.
    """

    bandwidth_hz: float
    noise_w: float
    min_efficiency: float
    num_channels: int
    ms_per_s: float


class Physics(NamedTuple):
    """What the engine needs to know of a scenario.

    Attributes:
        stage_work: Work at each partition point, ``(4, S)``: ms of CPU up to the cut, bits, ms of
            server, and ms of CPU beside the last two.
        local_energy_j: Energy of the MD's computing at each partition point, ``(S,)``.
        radio: The radio.
        num_servers: M.
        full_local: The partition point at which nothing is sent.
    """

    stage_work: np.ndarray
    local_energy_j: np.ndarray
    radio: Radio
    num_servers: int
    full_local: int

    @classmethod
    def of(cls, scenario: Scenario) -> Physics:
        """The numbers of a scenario.

        Args:
            scenario: Its DNN is traced on the first use.
        """
        table = scenario.table
        local_ms, local_mmacs = np.array([table.local_latency_ms, table.local_mmacs], dtype=float)
        bits, server_ms = np.array([table.bits, table.server_latency_ms], dtype=float)
        # Of what comes after the cut, the MD keeps this share to itself.
        remote = scenario.remote_feature_share
        kept_ms, kept_mmacs = ((1.0 - remote) * (v[-1] - v) for v in (local_ms, local_mmacs))
        if scenario.server_model == "share":
            server_ms = remote * server_ms
        return cls(
            stage_work=np.array([local_ms, remote * bits, server_ms, kept_ms]),
            local_energy_j=scenario.energy_per_mmac_j * (local_mmacs + kept_mmacs),
            radio=Radio(
                bandwidth_hz=scenario.bandwidth_hz,
                noise_w=scenario.noise_w,
                min_efficiency=scenario.min_spectral_efficiency,
                num_channels=scenario.num_channels,
                ms_per_s=scenario.transmission_ms_per_s,
            ),
            num_servers=scenario.num_servers,
            full_local=table.full_local,
        )

    @property
    def num_points(self) -> int:
        """S."""
        return len(self.local_energy_j)
