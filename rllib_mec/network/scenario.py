"""A scenario: everything that defines the physics, with Table III as defaults."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rllib_mec.errors import MecError, unknown
from rllib_mec.network.checks import (
    OPEN,
    Count,
    Height,
    LeftOpen,
    Metres,
    NetworkCount,
    NonNegative,
    Number,
    Pause,
    Positive,
    Quantity,
    QuantityOrZero,
    Speed,
    refuse_in_one_line,
)
from rllib_mec.network.consistency import check_together
from rllib_mec.network.defaults import (
    INDEPENDENT,
    PROFILES,
    SERVER_LATENCY_MS,
    WALKING_MPS,
    server_latency_of,
)
from rllib_mec.network.groups import ChannelGroup, DeviceGroup, Group, ServerGroup, each, groups_of
from rllib_mec.network.mobility import UNIFORM, check_mobility
from rllib_mec.network.path_loss import PAPER, PAPERS_STD_DB, check_path_loss
from rllib_mec.network.physics import Physics

if TYPE_CHECKING:
    from rllib_mec.dnn import PartitionTable

_COUNTS = {
    "num_devices": ("devices", 3),
    "num_servers": ("servers", 2),
    "num_channels": ("channels", 2),
}
"""Number -> the groups that say it too, and its default."""

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
    num_devices: Annotated[NetworkCount, LeftOpen] = OPEN
    """N, the MDs (default: those of ``devices``, or 3)."""
    num_servers: Annotated[NetworkCount, LeftOpen] = OPEN
    """M, the MEC servers (default: those of ``servers``, or 2)."""
    num_channels: Annotated[NetworkCount, LeftOpen] = OPEN
    """C, the channels (default: those of ``channels``, or 2)."""
    devices: Annotated[tuple[DeviceGroup, ...] | None, groups_of(DeviceGroup, "devices")] = None
    """Groups of equal MDs, or their number."""
    servers: Annotated[tuple[ServerGroup, ...] | None, groups_of(ServerGroup, "servers")] = None
    """Groups of equal MEC servers, or their number."""
    channels: Annotated[tuple[ChannelGroup, ...] | None, groups_of(ChannelGroup, "channels")] = None
    """Groups of equal channels, or their number."""
    max_window: NetworkCount = 5
    """W_max, the most tasks of an MD in a window."""
    mean_tasks: Annotated[Quantity, Field(le=1e5)] = 50.0
    """λ of the Poisson distribution of an MD's tasks, at least one each."""
    arrival_rate_hz: Annotated[NonNegative, Field(le=1e6)] = 20.0
    """Tasks that come to an MD a second, where they arrive (``mec_task_stream_v0``)."""
    deadline_ms: Annotated[Quantity, LeftOpen] = OPEN
    """What a task may take from when it comes, there too (default: as long as it likes)."""
    distance_range_m: tuple[Metres, Metres] = (1.0, 100.0)
    """Least and largest distance to the base station, in metres."""
    mobility: str = UNIFORM
    """How MDs move: ``"uniform"`` draws their distances anew in every step, as the paper does;
    ``"random_waypoint"`` and ``"gauss_markov"`` have them walk on the ring between the distances;
    or the absolute path of a CSV file ``time_s,device,x_m,y_m``, the base station at (0, 0), of
    which an episode plays from anywhere on, and after its end from its beginning."""
    speed_range_mps: tuple[Speed, Speed] = (WALKING_MPS, WALKING_MPS)
    """Least and largest speed between random waypoints (default: 3 km/h, the pedestrian's of TR
    38.901). The least is above 0, or MDs would get slower for ever."""
    pause_range_s: tuple[Pause, Pause] = (0.0, 0.0)
    """Shortest and longest pause at a random waypoint."""
    mean_speed_mps: Speed = WALKING_MPS
    """Mean speed of Gauss–Markov."""
    velocity_memory: Annotated[NonNegative, Field(lt=1)] = 0.75
    """Correlation of a Gauss–Markov velocity with that of an interval before (default: as in Camp,
    Boleng and Davies 2002)."""
    velocity_interval_s: Annotated[Number, Field(ge=0.01, le=1e6)] = 1.0
    """Time for which a Gauss–Markov velocity stays as it is."""
    bandwidth_hz: Annotated[Quantity, LeftOpen] = OPEN
    """B_c, bandwidth of a channel (default: the profile's)."""
    noise_w: Quantity = 1e-9
    """σ_c, noise power of a channel."""
    path_loss: Literal[
        "paper", "uma", "umi_street_canyon", "inf_sl", "inf_dl", "inf_sh", "inf_dh"
    ] = PAPER
    """``"paper"`` is (d̂/d)^h; the others are those of 3GPP TR 38.901, absolute, in an urban macro
    or micro cell or a factory (sparse or dense clutter, low or high base station), with a line of
    sight or without. Distances are on the ground there. ``noise_w`` should then be the thermal
    noise of the bandwidth, e.g. 1e-13."""
    path_loss_exponent: Annotated[Positive, Field(le=20)] = 3.0
    """h of the paper's path loss."""
    reference_distance_m: Metres = 1.0
    """d̂, the distance at which the paper's path loss is 1."""
    carrier_frequency_hz: Annotated[Number, Field(ge=0.5e9, le=100e9)] = 3.5e9
    """Of a path loss of 3GPP."""
    base_station_height_m: Annotated[Height, LeftOpen] = OPEN
    """Of a path loss of 3GPP (default: 25 in ``uma``, 10 in ``umi_street_canyon``, 8 in ``inf_sh``
    and ``inf_dh``, else 1.5)."""
    device_height_m: Height = 1.5
    """Of a path loss of 3GPP."""
    clutter_size_m: Annotated[Height, LeftOpen] = OPEN
    """Of a thing in a factory of 3GPP (default: 10 in sparse clutter, 2 in dense)."""
    clutter_density: Annotated[Positive, Field(lt=1), LeftOpen] = OPEN
    """Share of its floor that is covered (default: 0.2 and 0.6)."""
    clutter_height_m: Annotated[Height, LeftOpen] = OPEN
    """Of a thing there, if the base station stands high (default: 2 and 6)."""
    shadowing: Literal["independent", "correlated"] = INDEPENDENT
    """``"independent"`` draws shadowing, and whether there is a line of sight, anew in every step;
    ``"correlated"`` makes them functions of the place, the same for all MDs of an episode, that
    decay as exp(−Δ/d) (Gudmundson)."""
    shadowing_std_db: Annotated[NonNegative, Field(le=100), LeftOpen] = OPEN
    """Standard deviation of the log-normal shadowing (default: 8 with the paper's path loss; else
    those of TR 38.901 with a line of sight and without, which a value here replaces both)."""
    decorrelation_distance_m: Annotated[Metres, LeftOpen] = OPEN
    """d of correlated shadowing and line of sight (default: TR 38.901's, with a line of sight and
    without; 13 with the paper's path loss)."""
    max_power_dbm: Annotated[Number, Field(ge=-200, le=200), LeftOpen] = OPEN
    """P_limit (default: the profile's)."""
    power_scale: Literal["dbm", "linear"] = "dbm"
    """``"dbm"`` maps an action in [0, 1] to 0 dBm … P_limit in dB, ``"linear"`` to (0, P_limit] in
    W."""
    min_spectral_efficiency: Annotated[NonNegative, Field(le=100)] = 0.1523
    """The rate's floor in bit/s/Hz, the lowest CQI of 3GPP TS 36.213."""
    feature_bits: Annotated[Count, LeftOpen] = OPEN
    """Bits of an element of a feature tensor (default: the profile's)."""
    energy_per_mmac_j: QuantityOrZero = 1e-5
    """ζ, energy of a million MACs."""
    energy_weight: QuantityOrZero = 50.0
    """β of Eq. (5)."""
    waiting_weight: QuantityOrZero = 0.05
    """α of Eq. (5)."""
    server_latency_ms: Annotated[Quantity, LeftOpen] = OPEN
    """L0, a server's latency for the whole DNN (default: the DNN's, if the paper has it)."""
    local_slowdown: Quantity = 5.0
    """How many times slower an MD is than a server."""
    server_model: Annotated[Literal["constant", "share"], LeftOpen] = OPEN
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
    memory_mb: Annotated[Quantity, LeftOpen] = OPEN
    """Megabytes (1e6) that an MD has for its DNN (default: as many as it takes). A cut whose head
    takes more is played as the nearest one before it that fits; see
    :func:`rllib_mec.dnn.memory.head_memory_bytes`. With a ``remote_feature_share`` below 1 an MD
    holds the whole DNN, whatever the cut."""

    def __post_init__(self) -> None:
        """Fill in what was left open, and check what no single field shows."""
        for name, value in PROFILES[self.profile].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self._count_groups()
        self._check_dnn()
        if self.path_loss == PAPER and self.shadowing_std_db is None:
            object.__setattr__(self, "shadowing_std_db", PAPERS_STD_DB)
        check_together(self)
        check_mobility(self)
        check_path_loss(self)

    def _count_groups(self) -> None:
        """Fill in how many there are; groups that say nothing else than that are left out."""
        for name, (groups_name, default) in _COUNTS.items():
            number, groups = getattr(self, name), getattr(self, groups_name)
            if groups is None:
                object.__setattr__(self, name, default if number is None else number)
                continue
            total = sum(group.count for group in groups)
            if number not in (None, total):
                raise MecError(
                    f"{name} is {number}, but {groups_name} has {total}: give one of them"
                )
            object.__setattr__(self, name, total)
            if all(group.to_dict() == {"count": group.count} for group in groups):
                object.__setattr__(self, groups_name, None)

    def _check_dnn(self) -> None:
        latency_ms = server_latency_of("", self.dnn, self.dnn_input, self.server_latency_ms)
        object.__setattr__(self, "server_latency_ms", latency_ms)

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
        """All fields, of groups those set; :meth:`from_dict` makes the same scenario of them."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, _ in _COUNTS.values():
            if fields[name] is not None:
                fields[name] = tuple(group.to_dict() for group in fields[name])
        return fields

    def replace(self, **changes: Any) -> Scenario:
        """This scenario with some fields changed.

        The others keep their value, but for values that came with the profile, the DNN or groups:
        those follow a change of them.

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
        if "path_loss" in changes and self.path_loss == PAPER:
            came_with["shadowing_std_db"] = PAPERS_STD_DB
        came_with |= {
            name: values[name] for name, (groups, _) in _COUNTS.items() if groups in changes
        }
        for name, value in came_with.items():
            if values[name] == value:
                values[name] = None
        return self.from_dict({**values, **changes})

    @cached_property
    def mobile_devices(self) -> tuple[DeviceGroup, ...]:
        """The N MDs one by one, with nothing left open."""
        groups = self.devices or (DeviceGroup(count=self.num_devices),)
        return each(tuple(self._with_dnn(i, group) for i, group in enumerate(groups)), self)

    def _with_dnn(self, index: int, group: DeviceGroup) -> DeviceGroup:
        """A group that has a DNN of its own with that DNN's latency on a server."""
        if group.dnn is None and group.dnn_input is None:
            return group
        dnn = self.dnn if group.dnn is None else group.dnn
        latency_ms = server_latency_of(
            f"devices[{index}].", dnn, group.dnn_input, group.server_latency_ms
        )
        return dataclasses.replace(group, dnn=dnn, server_latency_ms=latency_ms)

    @cached_property
    def mec_servers(self) -> tuple[ServerGroup, ...]:
        """The M MEC servers one by one, with nothing left open."""
        return each(self.servers or (ServerGroup(count=self.num_servers),), self)

    @cached_property
    def radio_channels(self) -> tuple[ChannelGroup, ...]:
        """The C channels one by one, with nothing left open."""
        return each(self.channels or (ChannelGroup(count=self.num_channels),), self)

    @property
    def members(self) -> dict[str, tuple[Group, ...]]:
        """``devices``, ``servers`` and ``channels`` one by one."""
        return {
            "devices": self.mobile_devices,
            "servers": self.mec_servers,
            "channels": self.radio_channels,
        }

    @cached_property
    def unlike(self) -> frozenset[str]:
        """Which of :attr:`members` are not all equal."""
        return frozenset(name for name, each_of in self.members.items() if len(set(each_of)) > 1)

    @cached_property
    def physics(self) -> Physics:
        """Its numbers as the compiled kernels take them."""
        return Physics.of(self)

    @cached_property
    def tables(self) -> tuple[PartitionTable, ...]:
        """Partition points of every MD's DNN, with their latencies, N of them."""
        made = {device: self._table_of(device) for device in dict.fromkeys(self.mobile_devices)}
        return tuple(made[device] for device in self.mobile_devices)

    @cached_property
    def playable(self) -> np.ndarray:
        """The partition point that each choice means, of those that each MD has, ``(N, S)`` int.

        Beyond its DNN's last one that is full local; where the head takes more than its memory, the
        nearest one before it that fits. All else that knows of points has them by this table.

        Raises:
            MecError: An MD's memory does not even hold what it sends.
        """
        index = np.arange(self.num_points)
        rows = []
        for n, (device, table) in enumerate(zip(self.mobile_devices, self.tables, strict=True)):
            own = np.minimum(index, table.full_local)
            if device.memory_mb is not None:
                needed_mb = table.head_memory_bytes / 1e6
                if self.remote_feature_share < 1.0:
                    needed_mb = np.full_like(needed_mb, needed_mb[-1])
                fits = needed_mb <= device.memory_mb
                if not fits[0]:
                    self._refuse_memory(n, needed_mb[0])
                own = np.maximum.accumulate(np.where(fits, index[: len(fits)], 0))[own]
            rows.append(own)
        return np.array(rows)

    @cached_property
    def has_point(self) -> np.ndarray:
        """Whether a choice is a partition point that an MD has and can hold, ``(N, S)`` bool."""
        return self.playable == np.arange(self.num_points)

    def _refuse_memory(self, n: int, least_mb: float) -> NoReturn:
        device = self.mobile_devices[n]
        what = f"the input of {device.dnn}"
        if self.remote_feature_share < 1.0:
            what = (
                f"all of {device.dnn}, of which an MD runs a copy with a remote_feature_share of "
                f"{self.remote_feature_share:g}"
            )
        raise MecError(
            f"{self._path_of('memory_mb', device.memory_mb)} must be at least "
            f"{math.ceil(least_mb * 1e3) / 1e3:.10g} to hold {what}, but is {device.memory_mb:g}"
        )

    @cached_property
    def local_ms(self) -> np.ndarray:
        """Latency of every MD's whole DNN on it, even if its memory cannot hold it, ``(N,)``."""
        return np.array([table.local_latency_ms[-1] for table in self.tables])

    @cached_property
    def local_j(self) -> np.ndarray:
        """Energy of that, ``(N,)``, J."""
        whole_mmacs = np.array([table.local_mmacs[-1] for table in self.tables])
        return self.of_devices("energy_per_mmac_j") * whole_mmacs

    @cached_property
    def runs_whole(self) -> np.ndarray:
        """Whether every MD can run its whole DNN, ``(N,)`` bool."""
        return self.playable[:, -1] == [table.full_local for table in self.tables]

    @property
    def table(self) -> PartitionTable:
        """Partition points of the MDs' DNN, if they all have the same ones, on equal devices.

        Raises:
            MecError: They differ: see :attr:`tables`.
        """
        if "devices" in self.unlike:
            raise MecError("the devices of this scenario differ: each has a table of its own")
        return self.tables[0]

    @cached_property
    def server_profiles(self) -> tuple[str, ...]:
        """Profiles that servers have of their own, each once."""
        own = dict.fromkeys(server.server_profile for server in self.mec_servers)
        return tuple(path for path in own if path not in (None, self.server_profile))

    def _table_of(self, device: DeviceGroup) -> PartitionTable:
        from rllib_mec.dnn import LatencyProfile, model_graph, partition_table

        graph = model_graph(device.dnn, device.dnn_input)

        def latency_ms(field: str, profile: str | None, otherwise: float) -> LatencyProfile | float:
            """As measured, or to be shared out by MACs."""
            if profile is None:
                return otherwise
            try:
                measured = LatencyProfile.load(profile)
                measured.for_graph(graph)
            except MecError as error:
                raise MecError(f"{self._path_of(field, profile)}: {error}") from None
            return measured

        def on_server(profile: str | None) -> LatencyProfile | float:
            return latency_ms("server_profile", profile, device.server_latency_ms)

        return partition_table(
            graph,
            self.partition,
            feature_bits=self.feature_bits,
            device_latency_ms=latency_ms(
                "device_profile",
                device.device_profile,
                device.local_slowdown * device.server_latency_ms,
            ),
            server_latency_ms=on_server(self.server_profile),
            server_model=self.server_model,
            other_servers_ms=[on_server(profile) for profile in self.server_profiles],
        )

    def _path_of(self, field: str, value: object) -> str:
        """Where a field was given that value: in the scenario itself, or in a group."""
        if getattr(self, field) == value:
            return field
        groups = {"devices": self.devices, "servers": self.servers}
        return next(
            f"{name}[{i}].{field}"
            for name, given in groups.items()
            for i, group in enumerate(given or ())
            if getattr(group, field, None) == value
        )

    @cached_property
    def num_points(self) -> int:
        """S, the partition points of the DNN that has most."""
        return max(table.num_points for table in self.tables)

    @property
    def full_local(self) -> int:
        """The partition point at which nothing is sent, whatever DNN an MD has."""
        return self.num_points - 1

    def of_devices(self, field: str) -> np.ndarray:
        """A number of every MD, ``(N,)``.

        Args:
            field: Of :class:`~rllib_mec.network.groups.DeviceGroup`.
        """
        if field not in self._numbers:
            self._numbers[field] = np.array([getattr(d, field) for d in self.mobile_devices])
        return self._numbers[field]

    @cached_property
    def _numbers(self) -> dict[str, np.ndarray]:
        """What :meth:`of_devices` has been asked for."""
        return {}

    @cached_property
    def deadlines_ms(self) -> np.ndarray:
        """What a task of every MD may take, ``(N,)``; ``inf`` where it has no deadline."""
        given = self.of_devices("deadline_ms")
        return np.array([np.inf if value is None else value for value in given])

    @property
    def dnns(self) -> tuple[str, ...]:
        """The DNNs of the MDs, each once."""
        return tuple(dict.fromkeys(device.dnn for device in self.mobile_devices))

    @property
    def caption(self) -> str:
        """What a table says of it."""
        unlike = (("devices", self.devices), ("servers", self.servers), ("channels", self.channels))
        groups = [
            f"{name} {' + '.join(f'{g.count} {g.name}' if g.name else f'{g.count}' for g in given)}"
            for name, given in unlike
            if given is not None and len(given) > 1
        ]
        return ", ".join(
            [
                " and ".join(self.dnns),
                f"N={self.num_devices}, M={self.num_servers}, C={self.num_channels}",
                *groups,
                f"profile {self.profile!r}",
            ]
        )

    @property
    def usual_tasks(self) -> int | tuple[int, ...]:
        """Tasks of an MD in an episode of the paper's evaluation: λ, and at least one.

        One number where all MDs have the same, else one per MD.
        """
        usual = [max(1, round(device.mean_tasks)) for device in self.mobile_devices]
        return usual[0] if len(set(usual)) == 1 else tuple(usual)

    @property
    def transmission_ms_per_s(self) -> float:
        """Milliseconds of latency that a second of transmission counts as."""
        return 1.0 if self.profile == "paper" else 1000.0
