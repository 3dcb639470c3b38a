"""What every policy offers: decisions for a batch of observations."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from typing_extensions import Self

from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.task_window import as_mdp
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario


class Policy(abc.ABC):
    """Decides the next task window, or time slot, of every MD.

    Args:
        where: The MDP it decides in; a scenario stands for its task-window MDP.

    Attributes:
        name: How tables call it.
        mdp: The MDP.
        carries_over: Whether it decides in MDPs of any shape, not only of the one it was made for.
        hint: What an error adds that says it does not.
        randomized: Fields of its MDP that were drawn in training, and what from, as under
            ``randomize`` in ``env_config``.
    """

    name: str
    carries_over: bool = False
    hint: str = ""
    randomized: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, where: MDP | Scenario):
        """Keep the MDP."""
        self.mdp = as_mdp(where)

    report: Callable[[str, float], None] = staticmethod(lambda text, share: None)
    """Told what takes long, and the share of it that is done."""

    def expect_distances(  # noqa: B027 - most policies have nothing to do here
        self, distance_m: float | Sequence[float] | None
    ) -> None:
        """Told before an evaluation where the MDs will stay; most policies do not mind.

        Args:
            distance_m: Of every MD to the base station, or of each, ``(N,)``, m; ``None`` where
                distances are drawn in every step, which a policy takes for granted if not told.
        """

    @property
    def scenario(self) -> Scenario:
        """The scenario it decides for."""
        return self.mdp.scenario

    def on(self, mdp: MDP) -> Self:
        """This policy, to decide in another MDP.

        Args:
            mdp: The MDP.

        Raises:
            MecError: It is of another shape than this policy was made for.
        """
        for field, given in mdp.shape.items():
            own = self.mdp.shape[field]
            if own != given:
                raise MecError(
                    f"the policy {self.name!r} was made for {field}={own!r}, "
                    f"but the scenario has {field}={given!r}{self.hint}"
                )
        return self

    @abc.abstractmethod
    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Decide one step in each of B worlds.

        Args:
            observation: ``(B, mdp.observation_size)``: X_n/λ of all MDs, then d_n/d_max of all
                MDs; then what the MDP has besides.

        Returns:
            ``partition``, ``channel``, ``server`` (int) and ``power`` (float in [0, 1]), each
            ``(B, N, W_max)``, and ``window`` (int, value v means v + 1 tasks), ``(B, N)``.
        """

    def _same_for_all(
        self, observation: np.ndarray, *, partition: int, power: float | np.ndarray
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
