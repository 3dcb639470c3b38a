"""Action and observation spaces of an MD, and the checks of what is played."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_mec.errors import MecError, unknown
from rllib_mec.network.scenario import Scenario

ACTION_KEYS = ("partition", "channel", "server", "power", "window")


def action_space(scenario: Scenario) -> spaces.Dict:
    """One MD's decisions for a window of up to W_max tasks (Eq. 7)."""
    slots = scenario.max_window

    def choice(size: int) -> spaces.MultiDiscrete:
        return spaces.MultiDiscrete(np.full(slots, size))

    return spaces.Dict(
        partition=choice(scenario.table.num_points),
        channel=choice(scenario.num_channels),
        server=choice(scenario.num_servers),
        power=spaces.Box(0.0, 1.0, (slots,), np.float32),
        window=spaces.Discrete(slots),
    )


def state_space(size: int) -> spaces.Box:
    """The global state S_k (Eq. 6): X_n/λ of all MDs, then d_n/d_max, ``(2N,)`` float32."""
    return spaces.Box(0.0, np.inf, (size,), np.float32)


def observation_space(scenario: Scenario, state_size: int) -> spaces.Box:
    """The global state, then the agent's own one-hot, float32."""
    return spaces.Box(0.0, np.inf, (state_size + scenario.num_devices,), np.float32)


def check_batch_actions(
    actions: Mapping[str, Any], scenario: Scenario, num_points: int, num_worlds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The arrays of :data:`ACTION_KEYS`, contiguous, of the right shape and within range.

    Raises:
        MecError: Names the key, what was given and what was expected.
    """
    slots = (num_worlds, scenario.num_devices, scenario.max_window)
    sizes = {
        "partition": num_points,
        "channel": scenario.num_channels,
        "server": scenario.num_servers,
        "window": scenario.max_window,
    }
    for key in actions:
        if key not in ACTION_KEYS:
            raise unknown("action key", key, ACTION_KEYS)
    arrays = []
    for key in ACTION_KEYS:
        if key not in actions:
            raise MecError(f"the action lacks {key!r}; expected keys {', '.join(ACTION_KEYS)}")
        values = _array(actions[key], f"action {key!r}")
        shape = slots[:2] if key == "window" else slots
        if values.shape != shape:
            raise MecError(f"action {key!r} must have shape {shape}, but has {values.shape}")
        if key == "power":
            # "not all within" rather than "some outside", so that NaN is refused too.
            if not ((values >= 0.0).all() and (values <= 1.0).all()):
                raise MecError(f"action 'power' must lie in [0, 1], but has {_worst(values, 0, 1)}")
            arrays.append(np.ascontiguousarray(values, dtype=np.float64))
            continue
        if not np.issubdtype(values.dtype, np.integer):
            raise MecError(f"action {key!r} must be of integers, but is of {values.dtype}")
        if values.min() < 0 or values.max() >= sizes[key]:
            raise MecError(
                f"action {key!r} must lie in 0..{sizes[key] - 1}, "
                f"but has {_worst(values, 0, sizes[key] - 1)}"
            )
        arrays.append(np.ascontiguousarray(values, dtype=np.int64))
    return tuple(arrays)  # type: ignore[return-value]


def check_agent_action(agent: str, action: Any, space: spaces.Dict) -> None:
    """Check one agent's action.

    Raises:
        MecError: Names the agent, the key, what was given and what was expected.
    """
    if not isinstance(action, Mapping):
        raise MecError(f"the action of {agent} must be a dict, but is {type(action).__name__}")
    for key in action:
        if key not in ACTION_KEYS:
            raise unknown(f"action key of {agent}", key, ACTION_KEYS)
    for key in ACTION_KEYS:
        if key not in action:
            raise MecError(f"the action of {agent} lacks {key!r}")
        value = _array(action[key], f"action {key!r} of {agent}")
        if value.shape != space[key].shape:
            raise MecError(
                f"action {key!r} of {agent} must have shape {space[key].shape}, "
                f"but has {value.shape}"
            )
        # Kinds are checked, not exact types: any integer, and float32 or float64 alike.
        is_box = isinstance(space[key], spaces.Box)
        if not is_box and not np.issubdtype(value.dtype, np.integer):
            raise MecError(f"action {key!r} of {agent} must be of integers, but is {value.dtype}")
        low, high = (0, 1) if is_box else (0, _num_choices(space[key]) - 1)
        if not ((value >= low) & (value <= high)).all():
            raise MecError(
                f"action {key!r} of {agent} must lie in [{low}, {high}], "
                f"but has {_worst(value, low, high)}"
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


def _num_choices(space: Any) -> int:
    return int(space.n) if isinstance(space, spaces.Discrete) else int(space.nvec[0])


def _worst(values: np.ndarray, low: float, high: float) -> Any:
    """The first value that is not within [low, high]."""
    return values[~((values >= low) & (values <= high))].flat[0]
