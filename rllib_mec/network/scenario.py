"""A scenario: everything that defines the physics, with Table III as defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rllib_mec.errors import MecError, unknown
from rllib_mec.network.checks import (
    Count,
    LeftOpen,
    NonNegative,
    Number,
    Positive,
    refuse_in_one_line,
)

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


@refuse_in_one_line
@dataclass(frozen=True, config=ConfigDict(use_attribute_docstrings=True, extra="forbid"))
class Scenario:
    """A MEC network, its DNN and its radio; the defaults are Table III.

    Fields that are ``None`` take the value of the profile or of the DNN. The field names are also
    the environments' keyword arguments and the keys of RLlib's ``env_config``. The largest values
    lie far beyond what makes sense; they are what the arithmetic can bear.

    Raises:
        MecError: A value is of the wrong type or out of its range.
    """

    profile: Literal["paper", "si"] = "paper"
    """``"paper"`` counts a transmission of 1 s as 1 ms of latency, which alone explains the paper's
    tables; ``"si"`` takes seconds as seconds, for real deployments."""
    dnn: str = "resnet50"
    """Name of a torchvision model, of a DNN given to ``rllib_mec.register_dnn``, or
    ``pkg.module:factory`` of what returns the ``torch.nn.Module``."""
    dnn_input: tuple[Count, ...] | None = None
    """Shape of the DNN's input without the batch, e.g. ``[3, 64, 64]`` (default: the one that it
    was registered with, or torchvision's 3x224x224)."""
    partition: Literal["pareto", "operator", "vertical", "layer"] = "pareto"
    """Partition points on offer."""
    num_devices: Count = 3
    """N, the MDs."""
    num_servers: Count = 2
    """M, the MEC servers."""
    num_channels: Count = 2
    """C, the channels."""
    max_window: Count = 5
    """W_max, the most tasks of an MD in a window."""
    mean_tasks: Annotated[Positive, Field(le=1e5)] = 50.0
    """λ of the Poisson distribution of an MD's tasks, at least one each."""
    distance_range_m: tuple[Positive, Positive] = (1.0, 100.0)
    """Least and largest distance to the base station, in metres."""
    bandwidth_hz: Annotated[Positive, LeftOpen] = None  # type: ignore[assignment]
    """B_c, bandwidth of a channel (default: the profile's)."""
    noise_w: Positive = 1e-9
    """σ_c, noise power of a channel."""
    path_loss_exponent: Annotated[Positive, Field(le=20)] = 3.0
    """h."""
    reference_distance_m: Positive = 1.0
    """Distance at which the path loss is 1."""
    shadowing_std_db: Annotated[NonNegative, Field(le=100)] = 8.0
    """Standard deviation of the log-normal shadowing."""
    max_power_dbm: Annotated[Number, Field(le=200), LeftOpen] = None  # type: ignore[assignment]
    """P_limit (default: the profile's)."""
    power_scale: Literal["dbm", "linear"] = "dbm"
    """``"dbm"`` maps an action in [0, 1] to 0 dBm … P_limit in dB, ``"linear"`` to (0, P_limit] in
    W."""
    min_spectral_efficiency: Annotated[NonNegative, Field(le=100)] = 0.1523
    """The rate's floor in bit/s/Hz, the lowest CQI of 3GPP TS 36.213."""
    feature_bits: Annotated[Count, LeftOpen] = None  # type: ignore[assignment]
    """Bits of an element of a feature tensor (default: the profile's)."""
    energy_per_mmac_j: NonNegative = 1e-5
    """ζ, energy of a million MACs."""
    energy_weight: NonNegative = 50.0
    """β of Eq. (5)."""
    waiting_weight: NonNegative = 0.05
    """α of Eq. (5)."""
    server_latency_ms: Annotated[Positive, LeftOpen] = None  # type: ignore[assignment]
    """L0, a server's latency for the whole DNN (default: the DNN's, if the paper has it)."""
    local_slowdown: Positive = 5.0
    """How many times slower an MD is than a server."""
    server_model: Annotated[Literal["constant", "share"], LeftOpen] = None  # type: ignore[assignment]
    """``"constant"``: a server takes L0 whatever the cut (Eq. 2); ``"share"``: L0 times the share
    of MACs left to do (default: the profile's)."""
    remote_feature_share: Annotated[Positive, Field(le=1)] = 1.0
    """Share of the features at the cut that go to a server. On the others the MD meanwhile runs a
    copy of the rest of the DNN, and a task ends when both are done (AgileNN, with 0.5); 1: the
    server gets all of them."""
    device_profile: str | None = None
    """Absolute path of a JSON file of latencies measured on the MD (``rllib-mec partition
    --measure``), instead of MAC-proportional ones."""
    server_profile: str | None = None
    """The same of the server."""

    def __post_init__(self) -> None:
        """Fill in what was left open, and check what no single field shows."""
        for name, value in PROFILES[self.profile].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self._check_dnn()
        if self.power_scale == "dbm" and self.max_power_dbm <= 0:
            raise MecError(
                f"max_power_dbm must be positive on the dbm scale, but is {self.max_power_dbm:g}"
            )
        if self.distance_range_m[0] > self.distance_range_m[1]:
            raise MecError(
                f"distance_range_m must be 0 < least <= largest, but is {self.distance_range_m!r}"
            )
        for name in ("device_profile", "server_profile"):
            value = getattr(self, name)
            if value is not None and not Path(value).is_absolute():
                raise MecError(
                    f"{name} must be an absolute path, as Ray's workers run in another folder, "
                    f"but is {value!r}; did you mean {str(Path(value).absolute())!r}?"
                )
            if value is not None and not Path(value).is_file():
                raise MecError(f"{name}: no such file {value!r}")

    def _check_dnn(self) -> None:
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
        from rllib_mec.dnn import LatencyProfile, model_graph, partition_table

        # Where a profile was measured, it replaces the latency that is shared out by MACs.
        device_latency_ms = self.local_slowdown * self.server_latency_ms
        server_latency_ms = self.server_latency_ms
        return partition_table(
            model_graph(self.dnn, self.dnn_input),
            self.partition,
            feature_bits=self.feature_bits,
            device_latency_ms=(
                LatencyProfile.load(self.device_profile)
                if self.device_profile
                else device_latency_ms
            ),
            server_latency_ms=(
                LatencyProfile.load(self.server_profile)
                if self.server_profile
                else server_latency_ms
            ),
            server_model=self.server_model,
        )

    @property
    def usual_tasks(self) -> int:
        """Tasks of an MD in an episode of the paper's evaluation: λ, and at least one."""
        return max(1, round(self.mean_tasks))

    @property
    def transmission_ms_per_s(self) -> float:
        """Milliseconds of latency that a second of transmission counts as."""
        return 1.0 if self.profile == "paper" else 1000.0

    @property
    def max_power_w(self) -> float:
        """P_limit in W."""
        return 10.0 ** (self.max_power_dbm / 10.0) / 1000.0
