"""The learner's connectors: from episodes to a batch with per-task advantages (Eq. 18)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from rllib_mec.algorithms.columns import CREDIT, SCENARIO, TASK_REWARDS, WINDOW_ADVANTAGES
from rllib_mec.algorithms.gae import per_task_gae
from rllib_mec.algorithms.joint_ppo.scenario_turns import Turn

ROWS = "rows"
"""Key of :class:`Rows` in the connectors' shared data."""

AVERAGE_REWARD_RATE = 0.1
"""Step size of the running mean of the rewards, per batch."""

SAME_REWARD = 1e-6
"""A reward this close to the sum of its tasks' shares, relatively, is the environment's own."""


class Rows(NamedTuple):
    """Where the rows of a train batch come from.

    They stand in the order in which they were sampled: the first step of all worlds first.

    Attributes:
        order: Of the batch's rows among those of all episodes one after the other, ``(R,)``.
        episode: Each row's episode, ``(R,)``.
        before_end: How many steps of its episode follow a row, counted from 1, ``(R,)``.
    """

    order: np.ndarray
    episode: np.ndarray
    before_end: np.ndarray

    @classmethod
    def of(cls, episodes: list[SingleAgentEpisode]) -> Rows:
        """Sort the steps of all episodes.

        Args:
            episodes: With the sampling step ``t`` of each step among their outputs.
        """
        lengths = np.array([len(episode) for episode in episodes])
        sampled = np.concatenate(
            [_data(episode.extra_model_outputs[Columns.T]) for episode in episodes]
        )
        order = np.argsort(sampled, kind="stable")
        before_end = np.repeat(lengths.cumsum(), lengths) - np.arange(lengths.sum())
        return cls(order, np.repeat(np.arange(len(episodes)), lengths)[order], before_end[order])

    def select(self, parts: list[np.ndarray]) -> np.ndarray:
        """Rows of the batch from the episodes' arrays, one of each.

        Args:
            parts: Steps of each episode, ``(T, ...)``.
        """
        return np.concatenate(parts)[self.order]


class AddColumnsFromEpisodes(ConnectorV2):
    """Makes the batch's columns from the episodes: observations, actions, rewards, outputs.

    Columns that connectors before it have added for each episode join them.

    Args:
        with_dist_inputs: Whether the policy's whole distribution is needed, for the exact KL
            divergence.
    """

    def __init__(self, *, with_dist_inputs: bool = False):
        """Keep the settings."""
        super().__init__()
        self._left_out = {Columns.T, SCENARIO}
        if not with_dist_inputs:
            self._left_out.add(Columns.ACTION_DIST_INPUTS)

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: list[SingleAgentEpisode],
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Make the batch; see RLlib's base class.

        Args:
            rl_module: The learner's.
            batch: Columns as ``{name: {(episode id,): [items]}}``.
            episodes: All of them.
            shared_data: Gets the :class:`Rows`.
            **kwargs: Unused.

        Returns:
            Columns of the joint module.
        """
        assert shared_data is not None
        rows = shared_data[ROWS] = Rows.of(episodes)
        columns = {
            name: np.concatenate([np.stack(items) for items in column.values()])[rows.order]
            for name, column in batch.items()
        }
        columns[Columns.OBS] = rows.select([_data(e.observations)[:-1] for e in episodes])
        columns[Columns.REWARDS] = rows.select([_data(e.rewards) for e in episodes])
        actions = [_data(episode.actions) for episode in episodes]
        for head in actions[0]:
            columns[head] = rows.select([action[head] for action in actions])
        outputs = [episode.extra_model_outputs for episode in episodes]
        for name in outputs[0]:
            if name not in self._left_out:
                columns[name] = rows.select([_data(output[name]) for output in outputs])
        return {DEFAULT_MODULE_ID: columns}


class PerTaskAdvantages(ConnectorV2):
    """Generalised advantage estimation, each task slot a reward stream of its own (Eq. 18).

    It stands in the place of RLlib's ``GeneralAdvantageEstimation``. A reward that a callback or a
    connector has changed is shared equally by the task slots, beside their own shares.

    Args:
        config: The algorithm's config.
    """

    def __init__(self, *, config: Any):
        """Keep the config."""
        super().__init__()
        self.config = config
        self.average_shares: dict[int, float] = {}  # of each scenario

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: list[SingleAgentEpisode],
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Add ``advantages`` and ``value_targets``, ``(R, V)``, V being the critic's outputs.

        Args:
            rl_module: The learner's.
            batch: With the joint module's columns.
            episodes: All of them.
            shared_data: With the :class:`Rows`, and the turn of a scenario if several are drawn.
            **kwargs: Unused.

        Returns:
            The batch.
        """
        assert shared_data is not None
        rows: Rows = shared_data[ROWS]
        turn = shared_data.get(SCENARIO, Turn(0, self.config.reward_scale))
        columns = batch[DEFAULT_MODULE_ID]
        cut = np.array([not episode.is_terminated for episode in episodes])
        last = [
            _data(e.observations)[-1:] for e, is_cut in zip(episodes, cut, strict=True) if is_cut
        ]
        values = self._values(rl_module, np.concatenate([columns[Columns.OBS], *last]))
        streams = self._streams(columns.pop(TASK_REWARDS), columns.pop(Columns.REWARDS), turn)
        if values.shape[-1] == 1:  # a critic of whole windows
            streams = streams.sum(axis=-1, keepdims=True)

        # Episodes side by side, (T, F, V), all ending with the last row; what is before they begin
        # has no influence on them.
        num_steps, width = int(rows.before_end.max()), values.shape[-1]
        at = (num_steps - rows.before_end, rows.episode)
        rewards = np.zeros((num_steps, len(episodes), width))
        rewards[at] = streams
        side_by_side = np.zeros((num_steps + 1, len(episodes), width), dtype=values.dtype)
        side_by_side[at] = values[: len(streams)]
        side_by_side[-1, cut] = values[len(streams) :]
        terminated = np.zeros((num_steps, len(episodes)), dtype=bool)
        terminated[-1] = ~cut
        advantages, targets = self.estimate(rewards, side_by_side, terminated)
        columns[Columns.ADVANTAGES] = advantages[at]
        columns[Columns.VALUE_TARGETS] = targets[at]
        return batch

    def estimate(
        self, rewards: np.ndarray, values: np.ndarray, terminated: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Advantages and value targets of episodes side by side.

        Args:
            rewards: ``(T, F, V)``.
            values: ``(T + 1, F, V)``.
            terminated: ``(T, F)``.

        Returns:
            Both ``(T, F, V)``, float32.
        """
        return per_task_gae(rewards, values, terminated, self.config.gamma, self.lambda_)

    @property
    def lambda_(self) -> float:
        """GAE's λ; 1 where advantages are whole returns."""
        config = self.config
        return config.lambda_ if config.use_gae and config.use_critic else 1.0

    def _values(self, rl_module: Any, observation: np.ndarray) -> np.ndarray:
        module = rl_module[DEFAULT_MODULE_ID].unwrapped()
        device = next(module.parameters()).device
        with torch.no_grad():
            values = module.compute_values({Columns.OBS: torch.from_numpy(observation).to(device)})
        values = values.cpu().numpy()
        return values if self.config.use_critic else np.zeros_like(values)

    def _streams(self, shares: np.ndarray, rewards: np.ndarray, turn: Turn) -> np.ndarray:
        """Each task slot's rewards ``(R, W_max)``, scaled, and from their mean if so configured."""
        changed = rewards - shares.sum(axis=-1)
        changed[np.abs(changed) <= SAME_REWARD * np.abs(rewards)] = 0.0
        streams = (shares + changed[:, None] / shares.shape[1]) / turn.reward_scale
        if not self.config.average_reward:
            return streams
        # What is taken off each share, so that windows earn what is above average.
        mean = float(streams.mean())
        average = self.average_shares.get(turn.scenario, mean)
        average += AVERAGE_REWARD_RATE * (mean - average)
        self.average_shares[turn.scenario] = average
        return streams - average

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The running means of the rewards; see the base class."""
        return {"average_shares": self.average_shares}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`get_state`; see the base class."""
        self.average_shares = dict(state["average_shares"])


class StandardiseAdvantages(ConnectorV2):
    """Zero mean and unit variance over the batch, of each task slot and of whole windows.

    Args:
        per_task: Whether each task slot keeps its own advantage, or all slots get that of the whole
            window.
    """

    def __init__(self, *, per_task: bool):
        """Keep the settings."""
        super().__init__()
        self._per_task = per_task

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: list[Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Standardise ``advantages`` ``(R, V)`` and add ``window_advantages`` ``(R,)``.

        Args:
            rl_module: The learner's.
            batch: With the joint module's columns.
            episodes: Unused.
            **kwargs: Unused.

        Returns:
            The batch.
        """
        columns = batch[DEFAULT_MODULE_ID]
        tasks = columns[Columns.ADVANTAGES]
        window = columns[WINDOW_ADVANTAGES] = _standardise(tasks.sum(axis=1))
        columns[Columns.ADVANTAGES] = (
            _standardise(tasks)
            if self._per_task
            else np.broadcast_to(window[:, None], tasks.shape).copy()
        )
        if CREDIT in columns:  # its mean is 0 by itself
            columns[CREDIT] = columns[CREDIT] / (columns[CREDIT].std() + 1e-6)
        return batch


def _standardise(values: np.ndarray) -> np.ndarray:
    return ((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)).astype(np.float32)


def _data(buffer: InfiniteLookbackBuffer) -> Any:
    """What an episode holds, without what it only looks back on: an array, or arrays by head."""
    data: Any = buffer.data
    if not buffer.lookback:
        return data
    if isinstance(data, dict):
        return {name: values[buffer.lookback :] for name, values in data.items()}
    return data[buffer.lookback :]
