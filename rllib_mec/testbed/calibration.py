"""From measurements on a testbed to the scenario that the simulator needs to predict it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rllib_mec.dnn import CODECS, PartitionPoint, Profile
from rllib_mec.simulator.scenario import Scenario

_HOPELESS_NOISE_W = 1e12  # below the floor of the rate, which then is the link's, at any power


class Probe(NamedTuple):
    """A measurement of one device alone.

    Attributes:
        point: Where its tasks were cut.
        total_ms: Median latency of a task.
    """

    point: PartitionPoint
    total_ms: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What was measured before a run.

    Attributes:
        profile: Latency of the operators on this machine at full speed.
        slowdown: How many times slower devices are.
        codec: How tensors are coded.
        request_ms: Latency that a request adds, whatever it carries: HTTP, queues, the server's
            processes.
        goodput_mbps: Rate at which a request's tensors get through, coding and decoding included.
    """

    profile: Profile
    slowdown: float
    codec: str
    request_ms: float
    goodput_mbps: float

    @classmethod
    def solve(
        cls,
        profile: Profile,
        slowdown: float,
        codec: str,
        large: Probe,
        small: Probe,
        bandwidth_mbps: float,
    ) -> Calibration:
        """Find the two numbers that explain two probes, given the profile.

        ``total = slowdown * head + bits / goodput + request + tail`` at both points.

        Args:
            profile: As measured; it is scaled to the latency of the whole DNN, since operators that
                are timed one by one take longer than together.
            slowdown: How many times slower devices are.
            codec: How tensors are coded.
            large: A probe that sends much.
            small: One that sends little.
            bandwidth_mbps: The link's nominal rate, which the goodput cannot exceed.
        """
        profile = profile.scaled(profile.whole_ms / profile.total_ms)
        spare_ms, bits = [], []
        for probe in (large, small):
            head_ms = slowdown * _latency(profile, probe.point.head_operators)
            tail_ms = _latency(profile, probe.point.tail_operators)
            spare_ms.append(probe.total_ms - head_ms - tail_ms)
            bits.append(probe.point.bits(CODECS[codec].bits))
        ms_per_bit = (spare_ms[0] - spare_ms[1]) / (bits[0] - bits[1])
        ms_per_bit = max(ms_per_bit, 1e-3 / bandwidth_mbps)
        return cls(
            profile=profile,
            slowdown=slowdown,
            codec=codec,
            request_ms=max(0.0, spare_ms[1] - bits[1] * ms_per_bit),
            goodput_mbps=1e-3 / ms_per_bit,
        )

    def scenario(self, num_devices: int, folder: Path, like: Scenario | None = None) -> Scenario:
        """The testbed as a scenario: one server, and a link of its own for each device.

        The request's latency is work of the server, at the DNN's last operator, which every tail
        has. All rates are at their floor, which is set to the goodput, whatever power is chosen.

        Args:
            num_devices: N.
            folder: Where to write the two profiles, ``device.json`` and ``server.json``.
            like: Where the other fields come from, such as a policy's scenario.
        """
        last = self.profile.latency_ms[-1] + self.request_ms
        server = dataclasses.replace(self.profile, latency_ms=(*self.profile.latency_ms[:-1], last))
        files = (folder / "device.json").absolute(), (folder / "server.json").absolute()
        self.profile.scaled(self.slowdown).save(files[0])
        server.save(files[1])
        like = like or Scenario(profile="si", dnn=self.profile.dnn, server_latency_ms=1.0)
        return Scenario.from_dict(
            {
                **like.to_dict(),
                "profile": "si",
                "partition": "operator",
                "num_devices": num_devices,
                "num_servers": 1,
                "num_channels": num_devices,
                "shadowing_std_db": 0.0,
                "bandwidth_hz": self.goodput_mbps * 1e6,
                "min_spectral_efficiency": 1.0,
                "noise_w": _HOPELESS_NOISE_W,
                "feature_bits": CODECS[self.codec].bits,
                "server_model": "share",
                "server_latency_ms": server.total_ms,
                "local_slowdown": self.slowdown,
                "device_profile": str(files[0]),
                "server_profile": str(files[1]),
            }
        )


def _latency(profile: Profile, operators: Iterable[str]) -> float:
    latency = dict(zip(profile.operators, profile.latency_ms, strict=True))
    return sum(latency[name] for name in operators)
