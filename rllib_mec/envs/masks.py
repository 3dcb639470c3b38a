"""Which choices make sense where B worlds are: the law, and the form in which it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rllib_mec.envs.actions import action_sizes

if TYPE_CHECKING:
    from rllib_mec.envs.observation import State
    from rllib_mec.network.scenario import Scenario

CHOICES = ("partition", "channel", "server", "window")
"""Decisions that are choices; a power is none."""

MASKS = {name: f"{name}_mask" for name in CHOICES}
"""Decision -> what episodes and train batches call its mask."""


def mask_shapes(num_envs: int, scenario: Scenario) -> dict[str, tuple[int, int, int]]:
    """Shapes of the masks, by decision: worlds, MDs, choices.

    Args:
        num_envs: B.
        scenario: Says how many choices there are.
    """
    sizes = action_sizes(scenario)
    return {name: (num_envs, scenario.num_devices, size) for name, size in sizes.items()}


def action_mask(state: State, scenario: Scenario) -> dict[str, np.ndarray]:
    """The choices that mean something of their own; others are played as one of them.

    Not so a partition point beyond the MD's DNN, or whose head its memory does not hold; nor a
    window beyond the MD's ``max_window`` or its queue, of which an empty one leaves the first.
    A server that is down is none, unless all are. Where tasks arrive, an MD that is not ready when
    the step begins takes those that come during it, so that its window is not bound by its queue.

    Args:
        state: Of B worlds.
        scenario: The scenario.

    Returns:
        ``partition`` ``(B, N, S)``, ``channel`` ``(B, N, C)``, ``server`` ``(B, N, M)`` and
        ``window`` ``(B, N, W_max)``, all bool and each row with some choice.
    """
    masks = {
        name: np.ones(shape, dtype=np.bool_)
        for name, shape in mask_shapes(len(state.queues), scenario).items()
    }
    masks["partition"][:] = scenario.has_point
    largest = scenario.of_devices("max_window")
    most = np.minimum(state.queues, largest)
    if state.coming is not None:
        if state.coming.present is not None:
            up = state.coming.present.servers_up
            masks["server"] &= (up | ~up.any(1, keepdims=True))[:, None]
        waits = state.queues > 0
        if state.flight is not None:
            waits &= state.flight.stage == 0
        most = np.where(waits, most, largest)
    masks["window"] &= np.arange(scenario.max_window) < np.maximum(most, 1)[..., None]
    return masks
