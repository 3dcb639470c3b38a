"""A batch of worlds that is being played, and the episodes that come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_mec.algorithms.acting import Decision
from rllib_mec.algorithms.columns import PLAYED, TASK_REWARDS
from rllib_mec.algorithms.episodes import EpisodeCollector, LiveEpisodes, Transition
from rllib_mec.algorithms.sampling_metrics import SamplingMetrics
from rllib_mec.envs import laws
from rllib_mec.envs.episodes import EpisodeTally
from rllib_mec.envs.vector import VectorEnv, VectorStep

Decide = Callable[[np.ndarray, list[SingleAgentEpisode], dict[str, np.ndarray]], Decision]
"""Decides by what the worlds show, ``(B, O)``, their episodes, if they are live, and masks."""

Credit = Callable[[VectorEnv, Decision], dict[str, np.ndarray]]
"""What else an episode keeps of a decision, found before the worlds play it, ``(B, ...)``."""


class Sampler:
    """Plays a batch of worlds.

    Args:
        env: The worlds.
        episodes: Collects their steps.
        metrics: Gathers the paper's metrics.

    Attributes:
        env: The worlds.
        observation: What the next decision is made from, ``(B, O)``.
    """

    def __init__(self, env: VectorEnv, episodes: EpisodeCollector, metrics: SamplingMetrics):
        """Begin an episode in every world."""
        self.env = env
        self._episodes = episodes
        self._metrics = metrics
        self._num_steps = 0
        self.begin()

    def begin(self, *, once: bool = False) -> None:
        """Begin a new episode in every world, whatever runs there.

        Args:
            once: Whether each world plays this episode only.
        """
        self.observation = self.env.reset()
        self._once = once
        self._running = np.ones(self.env.num_envs, dtype=bool)
        self._tally = EpisodeTally(self.env.num_envs, self.env.num_devices, self.env.num_points)
        self._episodes.begin(self.observation, once=once)

    def play(self, num_steps: int, decide: Decide, credit: Credit) -> list[SingleAgentEpisode]:
        """Play some steps of all worlds.

        Args:
            num_steps: Steps of each world.
            decide: Decides.
            credit: Says what else to keep.

        Returns:
            The episodes, those of a world one after the other.
        """
        for _ in range(num_steps):
            self._step(decide, credit)
        return self._episodes.take()

    def play_to_the_end(self, decide: Decide, credit: Credit) -> list[SingleAgentEpisode]:
        """Play a new episode in every world to its end.

        Stopping at the first K that end would favour short ones.

        Args:
            decide: Decides.
            credit: Says what else to keep.

        Returns:
            The episodes, one for each world.
        """
        self.begin(once=True)
        while self._running.any():
            self._step(decide, credit)
        return self._episodes.take()

    def _step(self, decide: Decide, credit: Credit) -> None:
        live = self._episodes if isinstance(self._episodes, LiveEpisodes) else None
        masks = laws.mask_columns(self.env.mdp, self.env.state)
        decision = decide(self.observation, live.ongoing if live else [], masks)
        if live:
            live.start()
        more = credit(self.env, decision)
        step = self.env.step(decision.played)
        decided = step.played[..., : decision.dist.layout.num_decisions]
        self._episodes.add(
            Transition(
                actions=decision.actions,
                reward=step.reward,
                terminated=step.terminated,
                truncated=step.truncated,
                last_observation=self.env.led_to(step),
                next_observation=step.observation,
                outputs={
                    **decision.outputs,
                    **more,
                    PLAYED: decided.astype(np.float32),
                    TASK_REWARDS: step.task_rewards,
                    Columns.T: np.full(len(step.reward), self._num_steps),
                },
                infos=_infos(step),
            )
        )
        self.observation = step.observation
        self._num_steps += 1
        ended = self._tally.add(step)
        # In worlds that play one episode, what comes after it does not count.
        self._metrics.add(step, self._running, ended)
        if self._once:
            self._running &= ~step.ended

    def get_state(self) -> dict[str, Any]:
        """Everything that the worlds' future depends on, besides decisions."""
        return {
            "worlds": self.env.get_state(),
            "observation": self.observation.copy(),
            "tally": self._tally.get_state(),
            "num_steps": self._num_steps,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`get_state`; running episodes begin new chunks.

        Args:
            state: Of as many worlds.
        """
        self.env.set_state(state["worlds"])
        self.observation = state["observation"].copy()
        self._tally.set_state(state["tally"])
        self._num_steps = state["num_steps"]
        self._episodes.begin(self.observation)


def _infos(step: VectorStep) -> list[dict[str, Any]]:
    return [
        {"latency_ms": latency, "energy_j": energy, "waiting_ms": waiting, "window_size": size}
        for latency, energy, waiting, size in zip(
            step.latency_ms.tolist(),
            step.energy_j.tolist(),
            step.waiting_ms.tolist(),
            step.window_size.tolist(),
            strict=True,
        )
    ]
