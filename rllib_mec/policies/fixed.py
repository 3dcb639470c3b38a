"""Policies that look at nothing: local only, full offload, random."""

from __future__ import annotations

import numpy as np

from rllib_mec.envs.actions import action_of_w
from rllib_mec.envs.actions import power_w as transmit_power_w
from rllib_mec.envs.mdp import MDP
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies.policy import Policy


class LocalOnly(Policy):
    """Every task runs fully on its MD."""

    name = "local only"

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Choose the last partition point, s = S; see the base class."""
        return self._same_for_all(observation, partition=self.scenario.full_local, power=0.0)


class FullOffload(Policy):
    """Every task's input is sent, at a fixed power; MDs are dealt to channels and servers in turn.

    Args:
        where: See :class:`Policy`.
        power_w: Transmit power of every MD.

    Raises:
        MecError: The power is not in the scenario's range.
    """

    name = "full offload"

    def __init__(self, where: MDP | Scenario, power_w: float = 0.02):
        """Turn the power into an action."""
        super().__init__(where)
        self._power = action_of_w(power_w, self.scenario)
        if not ((self._power >= 0.0) & (self._power <= 1.0)).all():
            ends = np.ones((2, self.scenario.num_devices, 1)) * [[[0.0]], [[1.0]]]
            least, most = transmit_power_w(ends, self.scenario).min(axis=(1, 2))
            raise MecError(f"power_w must lie in [{least:g}, {most:g}], but is {power_w!r}")

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Choose the first partition point, s = 1; see the base class."""
        return self._same_for_all(observation, partition=0, power=self._power)


class RandomPolicy(Policy):
    """Every decision is drawn uniformly.

    Args:
        where: See :class:`Policy`.
        seed: Seed of the draws.
    """

    name = "random"

    def __init__(self, where: MDP | Scenario, seed: int = 0):
        """Seed the draws."""
        super().__init__(where)
        self._rng = np.random.default_rng(seed)

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Draw everything; see the base class."""
        scenario = self.scenario
        shape = (len(observation), scenario.num_devices, scenario.max_window)
        draw = self._rng.integers
        return {
            "partition": draw(scenario.num_points, size=shape),
            "channel": draw(scenario.num_channels, size=shape),
            "server": draw(scenario.num_servers, size=shape),
            "power": self._rng.random(shape),
            "window": draw(scenario.max_window, size=shape[:2]),
        }
