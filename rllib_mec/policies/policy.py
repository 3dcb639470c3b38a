"""What every policy offers: decisions for a batch of observations."""

from __future__ import annotations

import abc

import numpy as np

from rllib_mec.simulator.scenario import Scenario


class Policy(abc.ABC):
    """Decides the next task window of every MD.

    Args:
        scenario: The scenario it decides for.

    Attributes:
        name: How tables call it.
    """

    name: str

    def __init__(self, scenario: Scenario):
        """Keep the scenario."""
        self.scenario = scenario

    @abc.abstractmethod
    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Decide one task window in each of B worlds.

        Args:
            observation: ``(B, 2N)``: X_n/λ of all MDs, then d_n/d_max of all MDs.

        Returns:
            ``partition``, ``channel``, ``server`` (int) and ``power`` (float in [0, 1]), each
            ``(B, N, W_max)``, and ``window`` (int, value v means v + 1 tasks), ``(B, N)``.
        """

    def _same_for_all(
        self, observation: np.ndarray, *, partition: int, power: float
    ) -> dict[str, np.ndarray]:
        """One point and power for all tasks, MDs dealt to channels and servers in turn."""
        scenario = self.scenario
        shape = (len(observation), scenario.num_devices, scenario.max_window)
        device = np.arange(scenario.num_devices)[None, :, None]
        return {
            "partition": np.full(shape, partition),
            "channel": np.broadcast_to(device % scenario.num_channels, shape).copy(),
            "server": np.broadcast_to(device % scenario.num_servers, shape).copy(),
            "power": np.full(shape, power),
            "window": np.full(shape[:2], scenario.max_window - 1),
        }
