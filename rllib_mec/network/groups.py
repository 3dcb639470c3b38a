"""Unlike devices, servers and channels: groups of equal ones, as a scenario's fields take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from rllib_mec.errors import MecError, unknown
from rllib_mec.network.checks import (
    OPEN,
    Count,
    LeftOpen,
    NetworkCount,
    Number,
    Quantity,
    QuantityOrZero,
    checked,
    refuse_in_one_line,
)

_CONFIG = ConfigDict(use_attribute_docstrings=True, extra="forbid")


@dataclass(frozen=True, config=_CONFIG)
class Group:
    """Equal parts of a network."""

    count: NetworkCount
    """How many."""
    name: str | None = dataclasses.field(default=None, compare=False)
    """What to call them; equal ones stay equal under other names."""

    def to_dict(self) -> dict[str, Any]:
        """What is set, as a scenario's field takes it."""
        fields = dataclasses.fields(self)
        given = {field.name: getattr(self, field.name) for field in fields}
        return {f.name: given[f.name] for f in fields if given[f.name] != f.default}


@refuse_in_one_line
@dataclass(frozen=True, config=_CONFIG)
class DeviceGroup(Group):
    """Equal mobile devices; what is left open is as the scenario has it.

    Raises:
        MecError: A value is of the wrong type or out of its range.
    """

    dnn: Annotated[str, LeftOpen] = OPEN
    """Their DNN; they have its partition points, up to their own full local."""
    dnn_input: Annotated[tuple[Count, ...], LeftOpen] = OPEN
    """Shape of its input without the batch."""
    server_latency_ms: Annotated[Quantity, LeftOpen] = OPEN
    """L0, the latency of their whole DNN on a server of speed 1 (default: the paper's for a DNN
    that it has)."""
    local_slowdown: Annotated[Quantity, LeftOpen] = OPEN
    """How many times slower than a server of speed 1 they are."""
    device_profile: Annotated[str, LeftOpen] = OPEN
    """Absolute path of a JSON file of latencies measured on them."""
    memory_mb: Annotated[Quantity, LeftOpen] = OPEN
    """Megabytes (1e6) that they have for their DNN."""
    max_power_dbm: Annotated[Number, Field(ge=-200, le=200), LeftOpen] = OPEN
    """P_limit."""
    energy_per_mmac_j: Annotated[QuantityOrZero, LeftOpen] = OPEN
    """ζ, energy of a million MACs."""
    mean_tasks: Annotated[Quantity, Field(le=1e5), LeftOpen] = OPEN
    """λ of the Poisson distribution of their tasks."""
    max_window: Annotated[NetworkCount, LeftOpen] = OPEN
    """The most tasks in a window of theirs, at most the scenario's; a larger choice means this."""
    arrival_rate_hz: Annotated[QuantityOrZero, Field(le=1e6), LeftOpen] = OPEN
    """Tasks that come to one of them a second."""
    deadline_ms: Annotated[Quantity, LeftOpen] = OPEN
    """What a task of theirs may take from when it comes."""


@refuse_in_one_line
@dataclass(frozen=True, config=_CONFIG)
class ServerGroup(Group):
    """Equal MEC servers; without a profile of their own they have the scenario's.

    Raises:
        MecError: A value is of the wrong type or out of its range.
    """

    speed: Quantity = 1.0
    """How many times as fast as the server that ``server_latency_ms`` speaks of."""
    server_profile: Annotated[str, LeftOpen] = OPEN
    """Absolute path of a JSON file of latencies measured on them, instead of a speed."""
    latency_ms: QuantityOrZero = 0.0
    """What the way there and back takes besides the radio, as to a server that stands elsewhere."""


@refuse_in_one_line
@dataclass(frozen=True, config=_CONFIG)
class ChannelGroup(Group):
    """Equal channels; what is left open is as the scenario has it.

    Raises:
        MecError: A value is of the wrong type or out of its range.
    """

    bandwidth_hz: Annotated[Quantity, LeftOpen] = OPEN
    """B_c."""
    noise_w: Annotated[Quantity, LeftOpen] = OPEN
    """σ_c, noise power."""


_Group = TypeVar("_Group", bound=Group)


def groups_of(kind: type[_Group], field: str) -> BeforeValidator:
    """What makes groups of a number or of a list of mappings.

    Args:
        kind: The class of the groups.
        field: The scenario's field, for errors: ``devices`` gives ``devices[1].count``.
    """

    def _groups(value: Any) -> Any:
        if value is None or (
            value and isinstance(value, tuple) and all(isinstance(v, kind) for v in value)
        ):
            return value
        if not isinstance(value, list | tuple):
            if isinstance(value, Mapping):
                raise MecError(f"{field} must be a number or a list of groups, but is {value!r}")
            return (kind(count=checked(field, value, NetworkCount)),)
        if not value:
            raise MecError(f"{field} must have at least one group, like {{count: 3}}")
        return tuple(_group(kind, f"{field}[{i}]", each) for i, each in enumerate(value))

    return BeforeValidator(_groups, json_schema_input_type=int | list[kind] | None)


def _group(kind: type[_Group], path: str, given: Any) -> _Group:
    if isinstance(given, kind):
        return given
    if not isinstance(given, Mapping):
        raise MecError(f"{path} must be a group like {{count: 3}}, but is {given!r}")
    names = [field.name for field in dataclasses.fields(kind)]
    for key in given:
        if key not in names:
            raise unknown(f"field of {path}", key, names)
    if "count" not in given:
        raise MecError(f"{path}.count is missing: a group says how many it has, like {{count: 3}}")
    try:
        return kind(**given)
    except MecError as error:
        raise MecError(f"{path}.{error}") from None


def each(groups: tuple[_Group, ...], defaults: object) -> tuple[_Group, ...]:
    """The members of all groups, one by one, with nothing left open.

    Args:
        groups: The groups.
        defaults: Has what is left open as attributes.
    """
    members = []
    for group in groups:
        open_fields = {
            field.name: getattr(defaults, field.name)
            for field in dataclasses.fields(group)
            if field.name != "name" and getattr(group, field.name) is None
        }
        members += [dataclasses.replace(group, count=1, **open_fields)] * group.count
    return tuple(members)
