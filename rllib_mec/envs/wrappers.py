"""What other libraries need to take our PettingZoo environments."""

from __future__ import annotations

from typing import Any

from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper


class WithoutInfos(BaseParallelWrapper):
    """An environment whose infos are empty.

    TorchRL makes a tensor of each info, and needs the same ones in every step: a mask of unlike
    choices is none, and a reset has no latency.

    Args:
        env: The environment.
    """

    def __init__(self, env: ParallelEnv):
        """Wrap ``env``."""
        super().__init__(env)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict]]:
        """Begin an episode.

        Args:
            seed: As the environment's.
            options: As the environment's.
        """
        observations, infos = super().reset(seed=seed, options=options)
        return observations, {agent: {} for agent in infos}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict[str, dict]]:
        """Play one step.

        Args:
            actions: As the environment's.
        """
        *others, infos = super().step(actions)
        observations, rewards, terminations, truncations = others
        return observations, rewards, terminations, truncations, {agent: {} for agent in infos}
