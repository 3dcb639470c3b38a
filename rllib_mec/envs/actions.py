"""The action: its space, the one check of what is played, and what a power action means in W."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from rllib_mec.compiled import compiled
from rllib_mec.errors import MecError, unknown
from rllib_mec.network.radio import LN10_PER_DB
from rllib_mec.network.scenario import Scenario

_LEAST_LINEAR_ACTION = 1e-6  # a transmission at 0 W would never end


class Actions(NamedTuple):
    """Decisions of all MDs in B worlds for a window of up to W_max tasks (Eq. 7).

    Attributes:
        partition: Partition points, ``(B, N, W_max)`` int64.
        channel: Channels, likewise.
        server: MEC servers, likewise.
        power: Transmit powers in [0, 1], ``(B, N, W_max)``; see :func:`power_w`.
        window: Value v means v + 1 tasks, capped by the MD's queue, ``(B, N)`` int64.
    """

    partition: np.ndarray
    channel: np.ndarray
    server: np.ndarray
    power: np.ndarray
    window: np.ndarray


ACTION_KEYS = Actions._fields


def action_sizes(scenario: Scenario) -> dict[str, int]:
    """How many choices each discrete part of an action has.

    Args:
        scenario: The scenario.
    """
    return {
        "partition": scenario.num_points,
        "channel": scenario.num_channels,
        "server": scenario.num_servers,
        "window": scenario.max_window,
    }


def action_space(scenario: Scenario) -> spaces.Dict:
    """One MD's decisions for a window of up to W_max tasks (Eq. 7).

    Args:
        scenario: The scenario.
    """
    slots, sizes = scenario.max_window, action_sizes(scenario)
    per_task = {
        key: spaces.MultiDiscrete(np.full(slots, sizes[key]))
        for key in ("partition", "channel", "server")
    }
    power = spaces.Box(0.0, 1.0, (slots,), np.float32)
    return spaces.Dict({**per_task, "power": power, "window": spaces.Discrete(slots)})


def check_actions(
    actions: Any, scenario: Scenario, shape: Sequence[int], of: str = ""
) -> dict[str, np.ndarray]:
    """The arrays of :data:`ACTION_KEYS`, contiguous, of the right shape and within range.

    Kinds are checked, not exact types: any integer, and float32 or float64 alike.

    Args:
        actions: A mapping with the fields of :class:`Actions`.
        scenario: Gives the ranges.
        shape: Of ``window``; the others have W_max behind it.
        of: Whose action it is, for the error.

    Returns:
        The arrays, int64 and float64.

    Raises:
        MecError: Names the key, what was given and what was expected.
    """
    whose = f" of {of}" if of else ""
    if not isinstance(actions, Mapping):
        raise MecError(f"the action{whose} must be a dict, but is {type(actions).__name__}")
    for key in actions:
        if key not in ACTION_KEYS:
            raise unknown(f"action key{whose}", key, ACTION_KEYS)
    sizes = action_sizes(scenario)
    arrays = {}
    for key in ACTION_KEYS:
        label = f"action {key!r}{whose}"
        if key not in actions:
            raise MecError(
                f"the action{whose} lacks {key!r}; expected keys {', '.join(ACTION_KEYS)}"
            )
        values = _array(actions[key], label)
        expected = tuple(shape) if key == "window" else (*shape, scenario.max_window)
        if values.shape != expected:
            raise MecError(f"{label} must have shape {expected}, but has {values.shape}")
        is_power = key == "power"
        if not is_power and not np.issubdtype(values.dtype, np.integer):
            raise MecError(f"{label} must be of integers, but is of {values.dtype}")
        most = 1 if is_power else sizes[key] - 1
        # "not all within" rather than "some outside", so that NaN is refused too.
        is_within = (values >= 0) & (values <= most)
        if not is_within.all():
            raise MecError(f"{label} must lie in [0, {most}], but has {values[~is_within].flat[0]}")
        # One kind of array for the kernels, which are compiled anew for those that are read-only.
        arrays[key] = np.require(values, np.float64 if is_power else np.int64, ["C", "W"])
    return arrays


def played_points(partition: np.ndarray, scenario: Scenario) -> np.ndarray:
    """The points at which chosen ones are played: those that each MD has and its memory holds.

    Args:
        partition: Chosen points, ``(B, N, ...)`` int.
        scenario: Has them as its ``playable``.

    Returns:
        Of the same shape.
    """
    if scenario.has_point.all():
        return partition
    device = np.arange(scenario.num_devices).reshape(-1, *[1] * (partition.ndim - 2))
    return scenario.playable[device, partition]


def memory_remarks(scenario: Scenario) -> tuple[str, ...]:
    """Says what MDs play that cannot hold their whole DNN.

    Args:
        scenario: The scenario.
    """
    if all(device.memory_mb is None for device in scenario.mobile_devices):
        return ()
    short = np.flatnonzero(~scenario.runs_whole)
    last = {
        f"{scenario.mobile_devices[n].dnn} with {scenario.mobile_devices[n].memory_mb:g} MB": (
            f"point {scenario.playable[n, -1]} of {scenario.tables[n].full_local}"
        )
        for n in short
    }
    if not last:
        return ()
    return (
        f"{len(short)} of {scenario.num_devices} MDs cannot hold their whole DNN: what is decided "
        "to be full local, or a later cut, is cut at "
        + ", ".join(f"{point} ({what})" for what, point in last.items()),
    )


def _array(value: Any, label: str) -> np.ndarray:
    """``value`` as an array of numbers."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        array = np.empty(0, dtype=object)
    if not np.issubdtype(array.dtype, np.integer) and not np.issubdtype(array.dtype, np.floating):
        raise MecError(f"{label} must be an array of numbers, but is of {array.dtype}")
    return array


def power_w(action: np.ndarray, scenario: Scenario) -> np.ndarray:
    """Transmit power of actions.

    Args:
        action: In [0, 1], ``(..., N, W)``; where all MDs have the same limit, of any shape.
        scenario: Gives scale and limits.

    Returns:
        Power in W: on the ``dbm`` scale between 1 mW (0 dBm) and P_limit, on the ``linear`` scale
        in (0, P_limit]; never 0 W.
    """
    action = np.asarray(action, dtype=float)
    watts = np.empty(action.size)
    limits_dbm = np.broadcast_to(_limits_dbm(scenario), action.shape).flatten()
    _watts(action.ravel(), limits_dbm, scenario.power_scale == "dbm", watts)
    return watts.reshape(action.shape)


def _limits_dbm(scenario: Scenario) -> np.ndarray:
    """P_limit: one number where all MDs have the same, else one per MD, ``(N, 1)``."""
    limits_dbm = scenario.of_devices("max_power_dbm")
    return limits_dbm[:, None] if np.ptp(limits_dbm) else limits_dbm[0]


@compiled
def _watts(action, limits_dbm, is_dbm, watts):
    for i in range(len(action)):
        if is_dbm:
            watts[i] = math.exp(action[i] * limits_dbm[i] * LN10_PER_DB) / 1000.0
        else:
            limit_w = math.exp(limits_dbm[i] * LN10_PER_DB) / 1000.0
            watts[i] = max(action[i], _LEAST_LINEAR_ACTION) * limit_w


def action_of_dbm(power_dbm: np.ndarray, scenario: Scenario) -> np.ndarray:
    """The actions that give transmit powers, the inverse of :func:`power_w`.

    Args:
        power_dbm: In dBm, ``(..., N, W)``; where all MDs have the same limit, of any shape.
        scenario: Gives scale and limits.

    Returns:
        The actions; outside [0, 1] where the power is out of an MD's range.
    """
    if scenario.power_scale == "dbm":
        return power_dbm / _limits_dbm(scenario)
    return 10.0 ** ((power_dbm - _limits_dbm(scenario)) / 10.0)


def action_of_w(power: float, scenario: Scenario) -> np.ndarray:
    """The actions that give a transmit power; see :func:`action_of_dbm`.

    Args:
        power: In W.
        scenario: Gives scale and limits.

    Returns:
        One number where all MDs have the same limit, else one per MD, ``(N, 1)``.
    """
    if scenario.power_scale == "dbm":
        return 10.0 * math.log10(max(power, 1e-300) * 1000.0) / _limits_dbm(scenario)
    return power / w_of_dbm(_limits_dbm(scenario))


def w_of_dbm(power_dbm: np.ndarray) -> np.ndarray:
    """Powers in W.

    Args:
        power_dbm: In dBm, any shape.
    """
    return 10.0 ** (power_dbm / 10.0) / 1000.0
