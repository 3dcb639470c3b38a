"""The learner's part in training on drawn scenarios: its module is where the episodes were."""

from __future__ import annotations

from typing import Any, NamedTuple

from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_mec.algorithms.columns import SCENARIO
from rllib_mec.algorithms.randomize import Pool


class Turn(NamedTuple):
    """What a train batch was sampled in.

    Attributes:
        scenario: Index of a :class:`Pool`.
        reward_scale: What its rewards are divided by.
    """

    scenario: int
    reward_scale: float


class GoToScenario(ConnectorV2):
    """Binds the learner's module to the scenario that the episodes are of, before all else.

    Args:
        config: The algorithm's config.
    """

    def __init__(self, *, config: Any):
        """Draw what the env runners have drawn."""
        super().__init__()
        self._pool = Pool.of(config)

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: list[SingleAgentEpisode],
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Bind the module; see RLlib's base class.

        Args:
            rl_module: The learner's.
            batch: Unchanged.
            episodes: All of one scenario.
            shared_data: Gets the :class:`Turn` under ``scenario``.
            **kwargs: Unused.

        Returns:
            The batch.
        """
        assert shared_data is not None
        index = int(episodes[0].extra_model_outputs[SCENARIO][-1])
        rl_module[DEFAULT_MODULE_ID].unwrapped().bind(self._pool.mdps[index])
        shared_data[SCENARIO] = Turn(index, self._pool.reward_scales[index])
        return batch
