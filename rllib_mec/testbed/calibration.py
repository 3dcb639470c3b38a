"""From measurements on a testbed to the scenario that the simulator needs to predict it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rllib_mec.dnn import CODECS, LatencyProfile, PartitionPoint
from rllib_mec.network.scenario import Scenario

_HOPELESS_NOISE_W = 1e12  # below the floor of the rate, which then is the link's, at any power


class Probe(NamedTuple):
    """Medians over the tasks of one device alone.

    Attributes:
        point: Where they were cut.
        local_ms: Latency of the head and of coding what is sent.
        away_ms: From there to the result.
        server_ms: Of it, in the server.
    """

    point: PartitionPoint
    local_ms: float
    away_ms: float
    server_ms: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What was measured before a run.

    Attributes:
        device: Latency of the operators on a device.
        server: Likewise on the server, when it has nothing else to do.
        codec: How tensors are coded.
        request_ms: Latency that a request adds, whatever it carries: HTTP, the server's processes.
        goodput_mbps: Rate at which a request's tensors get through, coding and decoding included.
    """

    device: LatencyProfile
    server: LatencyProfile
    codec: str
    request_ms: float
    goodput_mbps: float

    @classmethod
    def solve(
        cls,
        profile: LatencyProfile,
        codec: str,
        *,
        local: Probe,
        large: Probe,
        small: Probe,
        bandwidth_mbps: float,
    ) -> Calibration:
        """Find the numbers that explain the probes.

        The profile says how the operators share the latency; how long they take together is what
        the probes say, for a DNN that runs now and then is slower than one that runs all the time.
        Then ``coding + away = bits / goodput + request + tail`` at the two points that send, where
        coding little takes no time.

        Args:
            profile: Latency of the operators at full speed.
            codec: How tensors are coded.
            local: A probe of full local inference.
            large: A probe that sends much.
            small: One that sends little.
            bandwidth_mbps: The link's nominal rate, which the goodput cannot exceed.
        """
        both_ms = profile.total_ms + _latency(profile, small.point.head_operators)
        device = profile.scaled((local.local_ms + small.local_ms) / both_ms)
        server = profile.scaled(large.server_ms / _latency(profile, large.point.tail_operators))
        coding_ms = max(0.0, large.local_ms - _latency(device, large.point.head_operators))
        small_ms = small.away_ms - _latency(server, small.point.tail_operators)
        more_ms = coding_ms + large.away_ms - large.server_ms - small_ms
        bits, more_bits = (p.point.bits(CODECS[codec].bits) for p in (small, large))
        ms_per_bit = 1e-3 / bandwidth_mbps
        if more_bits > bits:  # a DNN may have but one point that sends
            ms_per_bit = max(ms_per_bit, more_ms / (more_bits - bits))
        return cls(
            device=device,
            server=server,
            codec=codec,
            request_ms=max(0.0, small_ms - bits * ms_per_bit),
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
        own = self.server.latency_ms
        server = dataclasses.replace(self.server, latency_ms=(*own[:-1], own[-1] + self.request_ms))
        files = (folder / "device.json").absolute(), (folder / "server.json").absolute()
        self.device.save(files[0])
        server.save(files[1])
        like = like or Scenario(profile="si", dnn=self.device.dnn, server_latency_ms=1.0)
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
                "local_slowdown": self.device.total_ms / self.server.total_ms,
                "device_profile": str(files[0]),
                "server_profile": str(files[1]),
            }
        )


def _latency(profile: LatencyProfile, operators: Iterable[str]) -> float:
    latency = dict(zip(profile.operators, profile.latency_ms, strict=True))
    return sum(latency[name] for name in operators)
