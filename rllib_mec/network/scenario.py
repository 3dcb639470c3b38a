"""A scenario: everything that defines the physics, with Table III as defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mec.errors import MecError, unknown
from rllib_mec.network.checks import non_negative_number, number, positive_number, whole_number

if TYPE_CHECKING:
    from rllib_mec.dnn import PartitionTable

PROFILES: dict[str, dict[str, Any]] = {
    "paper": {
        "bandwidth_hz": 1e6,
        "max_power_dbm": 30.0,
        "feature_bits": 32,
        "server_model": "constant",
    },
    "si": {
        "bandwidth_hz": 20e6,
        "max_power_dbm": 23.0,
        "feature_bits": 8,
        "server_model": "share",
    },
}
"""Defaults of the fields in which the two physics profiles differ."""

SERVER_LATENCY_MS = {"resnet50": 8.603, "googlenet": 5.11, "mobilenet_v2": 4.10}
"""L0 of the paper's DNNs: ResNet-50's from Table IV, the others inferred from Table V at N = 1."""

SHAPE_FIELDS = (
    "num_devices",
    "num_servers",
    "num_channels",
    "max_window",
    "dnn",
    "dnn_input",
    "partition",
)
"""Fields on which the shapes of observations, actions and networks depend."""

_CHOICES = {
    "profile": tuple(PROFILES),
    "partition": ("pareto", "operator", "vertical", "layer"),
    "power_scale": ("dbm", "linear"),
    "server_model": ("constant", "share"),
}
_COUNTS = ("num_devices", "num_servers", "num_channels", "max_window", "feature_bits")
_POSITIVE = (
    "mean_tasks",
    "bandwidth_hz",
    "noise_w",
    "path_loss_exponent",
    "reference_distance_m",
    "server_latency_ms",
    "local_slowdown",
    "remote_feature_share",
)
_LARGEST = {
    "mean_tasks": 1e5,  # the table of the Poisson distribution
    "shadowing_std_db": 100.0,  # beyond, gains leave the range of floats
    "min_spectral_efficiency": 100.0,
    "path_loss_exponent": 20.0,
    "max_power_dbm": 200.0,
    "remote_feature_share": 1.0,  # all of them
}
"""But for the last, far beyond what makes sense, though still what the arithmetic can bear."""
_NON_NEGATIVE = (
    "shadowing_std_db",
    "min_spectral_efficiency",
    "energy_per_mmac_j",
    "energy_weight",
    "waiting_weight",
)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A MEC network, its DNN and its radio; the defaults are Table III.

    Fields that are ``None`` take the value of the profile or of the DNN. The field names are also
    the environments' keyword arguments and the keys of RLlib's ``env_config``.

    Attributes:
        profile: ``"paper"`` counts a transmission of 1 s as 1 ms of latency, which alone explains
            the paper's tables; ``"si"`` takes seconds as seconds, for real deployments.
        dnn: Name of a torchvision model, of a DNN given to ``rllib_mec.register_dnn``, or
            ``pkg.module:factory`` of what returns the ``torch.nn.Module``.
        dnn_input: Shape of the DNN's input without the batch, e.g. ``[3, 64, 64]``; ``None`` for
            the one that it was registered with, or torchvision's 3x224x224.
        partition: Partition points on offer: ``"pareto"``, ``"operator"``, ``"vertical"`` or
            ``"layer"``.
        num_devices: N, the MDs.
        num_servers: M, the MEC servers.
        num_channels: C, the channels.
        max_window: W_max, the most tasks of an MD in a window.
        mean_tasks: λ of the Poisson distribution of an MD's tasks, at least one each.
        distance_range_m: Least and largest distance to the base station, in metres.
        bandwidth_hz: B_c, bandwidth of a channel.
        noise_w: σ_c, noise power of a channel.
        path_loss_exponent: h.
        reference_distance_m: Distance at which the path loss is 1.
        shadowing_std_db: Standard deviation of the log-normal shadowing.
        max_power_dbm: P_limit.
        power_scale: ``"dbm"`` maps an action in [0, 1] to 0 dBm … P_limit in dB, ``"linear"`` to
            (0, P_limit] in W.
        min_spectral_efficiency: The rate's floor in bit/s/Hz, the lowest CQI of 3GPP TS 36.213.
        feature_bits: Bits of an element of a feature tensor.
        energy_per_mmac_j: ζ, energy of a million MACs.
        energy_weight: β of Eq. (5).
        waiting_weight: α of Eq. (5).
        server_latency_ms: L0, a server's latency for the whole DNN.
        local_slowdown: How many times slower an MD is than a server.
        server_model: ``"constant"``: a server takes L0 whatever the cut (Eq. 2); ``"share"``: L0
            times the share of MACs left to do.
        remote_feature_share: Share of the features at the cut that go to a server. On the others
            the MD meanwhile runs a copy of the rest of the DNN, and a task ends when both are done
            (AgileNN, with 0.5); 1: the server gets all of them.
        device_profile: Absolute path of a JSON file of latencies measured on the MD (``rllib-mec
            partition --measure``), instead of MAC-proportional ones.
        server_profile: The same of the server.

    Raises:
        MecError: A value is of the wrong type or out of its range.
    """

    profile: str = "paper"
    dnn: str = "resnet50"
    dnn_input: tuple[int, ...] | None = None
    partition: str = "pareto"
    num_devices: int = 3
    num_servers: int = 2
    num_channels: int = 2
    max_window: int = 5
    mean_tasks: float = 50.0
    distance_range_m: tuple[float, float] = (1.0, 100.0)
    bandwidth_hz: float = None  # type: ignore[assignment]  # the profile's
    noise_w: float = 1e-9
    path_loss_exponent: float = 3.0
    reference_distance_m: float = 1.0
    shadowing_std_db: float = 8.0
    max_power_dbm: float = None  # type: ignore[assignment]  # the profile's
    power_scale: str = "dbm"
    min_spectral_efficiency: float = 0.1523
    feature_bits: int = None  # type: ignore[assignment]  # the profile's
    energy_per_mmac_j: float = 1e-5
    energy_weight: float = 50.0
    waiting_weight: float = 0.05
    server_latency_ms: float = None  # type: ignore[assignment]  # the DNN's
    local_slowdown: float = 5.0
    server_model: str = None  # type: ignore[assignment]  # the profile's
    remote_feature_share: float = 1.0
    device_profile: str | None = None
    server_profile: str | None = None

    def __post_init__(self) -> None:
        """Fill in the profile's values and check all of them."""
        self._check_choice("profile")
        for name, value in PROFILES[self.profile].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self._check_dnn()
        for name in _CHOICES:
            self._check_choice(name)
        checks = (
            *((name, whole_number) for name in _COUNTS),
            *((name, positive_number) for name in _POSITIVE),
            *((name, non_negative_number) for name in _NON_NEGATIVE),
            ("max_power_dbm", number),
        )
        for name, check in checks:
            object.__setattr__(self, name, check(name, getattr(self, name)))
        for name, largest in _LARGEST.items():
            if getattr(self, name) > largest:
                raise MecError(f"{name} must be at most {largest:g}, but is {getattr(self, name)}")
        if self.power_scale == "dbm" and self.max_power_dbm <= 0:
            raise MecError(
                f"max_power_dbm must be positive on the dbm scale, but is {self.max_power_dbm:g}"
            )
        self._check_distances()
        for name in ("device_profile", "server_profile"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise MecError(f"{name} must be the path of a JSON file, but is {value!r}")
            if value is not None and not Path(value).is_absolute():
                raise MecError(
                    f"{name} must be an absolute path, as Ray's workers run in another folder, "
                    f"but is {value!r}; did you mean {str(Path(value).absolute())!r}?"
                )
            if value is not None and not Path(value).is_file():
                raise MecError(f"{name}: no such file {value!r}")

    def _check_choice(self, name: str) -> None:
        value = getattr(self, name)
        if value not in _CHOICES[name]:
            raise unknown(name, value, _CHOICES[name])

    def _check_dnn(self) -> None:
        if not isinstance(self.dnn, str):
            raise MecError(f"dnn must be the name of a DNN, but is {self.dnn!r}")
        if self.dnn_input is not None:
            from rllib_mec.dnn.models import input_shape

            object.__setattr__(self, "dnn_input", input_shape("dnn_input", self.dnn_input))
        if self.dnn not in SERVER_LATENCY_MS or self.dnn_input is not None:
            from rllib_mec.dnn.models import check_dnn

            check_dnn(self.dnn, self.dnn_input)
            if self.server_latency_ms is None:
                raise MecError(
                    f"server_latency_ms of {self.dnn} is not known: give it in ms (the latency of "
                    f"the whole DNN on a server); known for {', '.join(SERVER_LATENCY_MS)}"
                )
        elif self.server_latency_ms is None:
            object.__setattr__(self, "server_latency_ms", SERVER_LATENCY_MS[self.dnn])

    def _check_distances(self) -> None:
        value = self.distance_range_m
        try:
            low, high = (number("distance_range_m", v) for v in value)
        except (TypeError, ValueError):
            raise MecError(
                f"distance_range_m must be two numbers in metres, but is {value!r}"
            ) from None
        if not 0 < low <= high:
            raise MecError(f"distance_range_m must be 0 < least <= largest, but is {value!r}")
        object.__setattr__(self, "distance_range_m", (low, high))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scenario:
        """Make a scenario from its fields.

        Args:
            values: Field names and values; what is missing keeps its default.

        Raises:
            MecError: A key is unknown, with the nearest field suggested, or a value is bad.
        """
        if not isinstance(values, Mapping):
            raise MecError(f"a scenario must be a mapping of its fields, but is {values!r}")
        names = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise unknown("scenario field", key, names)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields; :meth:`from_dict` makes the same scenario of them."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> Scenario:
        """This scenario with some fields changed.

        The others keep their value, but for values that came with the profile or the DNN: those
        follow a change of it.

        Args:
            **changes: Fields and their new values.

        Raises:
            MecError: As :meth:`from_dict`.
        """
        values = self.to_dict()
        came_with = dict(PROFILES[self.profile]) if "profile" in changes else {}
        if "dnn" in changes:
            came_with |= {
                "server_latency_ms": SERVER_LATENCY_MS.get(self.dnn),
                "dnn_input": self.dnn_input,
            }
        for name, value in came_with.items():
            if values[name] == value:
                values[name] = None
        return self.from_dict({**values, **changes})

    @cached_property
    def table(self) -> PartitionTable:
        """Partition points of the DNN, with their latencies."""
        from rllib_mec.dnn import Profile, model_graph, partition_table

        # Where a profile was measured, it replaces the latency that is shared out by MACs.
        device_latency_ms = self.local_slowdown * self.server_latency_ms
        server_latency_ms = self.server_latency_ms
        return partition_table(
            model_graph(self.dnn, self.dnn_input),
            self.partition,
            feature_bits=self.feature_bits,
            device_latency_ms=(
                Profile.load(self.device_profile) if self.device_profile else device_latency_ms
            ),
            server_latency_ms=(
                Profile.load(self.server_profile) if self.server_profile else server_latency_ms
            ),
            server_model=self.server_model,
        )

    @property
    def transmission_ms_per_s(self) -> float:
        """Milliseconds of latency that a second of transmission counts as."""
        return 1.0 if self.profile == "paper" else 1000.0

    @property
    def max_power_w(self) -> float:
        """P_limit in W."""
        return 10.0 ** (self.max_power_dbm / 10.0) / 1000.0
