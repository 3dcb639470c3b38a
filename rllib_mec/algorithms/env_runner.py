"""An RLlib EnvRunner that steps a batch of worlds with one forward pass for all of them."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.core import (
    COMPONENT_RL_MODULE,
    DEFAULT_AGENT_ID,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
    SAMPLE_TIMER,
    WEIGHTS_SEQ_NO,
)

from rllib_mec.algorithms.columns import HEAD_LOGP, PLAYED
from rllib_mec.algorithms.distributions import HEADS, HybridActionDistribution, HybridActionLayout
from rllib_mec.algorithms.gae import per_task_gae
from rllib_mec.envs.actions import state_space
from rllib_mec.envs.episodes import (
    EVALUATION_DISTANCE_M,
    EpisodeMetrics,
    EpisodeTally,
    run_episodes,
)
from rllib_mec.registry import make_mdp

COMPONENT_WORLDS = "worlds"

AVERAGE_REWARD_RATE = 0.1
"""Step size of the running mean of the rewards, per sampled batch."""

EPISODE_METRICS = ("reward", "latency_ms", "energy_j", "waiting_ms", "window_size", "local_share")
"""Names under which the paper's metrics stand in a result's ``env_runners`` and in TensorBoard."""


class TaskWindowEnvRunner(EnvRunner, Checkpointable):
    """Samples task windows from ``config.num_envs_per_env_runner`` worlds at once.

    In training, :meth:`sample` returns one batch of windows with their per-task advantages and
    value targets; episodes go on from one call to the next. In evaluation it runs whole episodes
    of the paper's protocol (the mean number of tasks, a fixed distance, shadowing on).

    Args:
        config: The algorithm's config.
        **kwargs: ``worker_index`` and ``num_workers``, as RLlib passes them.
    """

    # Ray types these as what any env runner may have; here they are more, and never None.
    config: Any
    module: Any

    def __init__(self, *, config: Any, **kwargs: Any):
        """Make the worlds and the module."""
        super().__init__(config=config, **kwargs)
        Checkpointable.__init__(self)
        self._weights_seq_no = 0
        self._index: int = self.worker_index or 0
        if self._index:
            # Remote runners share the machine with the learner: two of them on two cores would
            # fight over threads, and an update takes several times as long.
            torch.set_num_threads(1)
        self.make_env()
        self.make_module()
        seed = self._seed if self._seed is not None else torch.seed() % (1 << 31)
        self._generator = torch.Generator().manual_seed(seed)

    def make_env(self) -> None:
        """Make the batch of worlds from ``config.env_config``."""
        self.mdp = make_mdp(self.config.env, self.config.env_config)
        self.scenario = self.mdp.scenario
        self._num_worlds = self.config.num_envs_per_env_runner
        entropy = [0 if self._seed is None else self._seed, self._index]
        if self._seed is None:
            entropy = list(np.random.SeedSequence().generate_state(2))
        # World b's seed is this plus b: spread the runners so far that they never share a world.
        self._world_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        self.env = self.mdp.make(self._num_worlds, self._world_seed)
        self._observation = self.env.reset()
        self._tally = EpisodeTally(self._num_worlds, self.scenario.num_devices)
        self._ended: list[EpisodeMetrics] = []
        self._average_share: float | None = None
        self.layout = HybridActionLayout(
            num_devices=self.scenario.num_devices,
            max_window=self.scenario.max_window,
            num_points=self.env.num_points,
            num_channels=self.scenario.num_channels,
            num_servers=self.scenario.num_servers,
            num_decisions=self.scenario.max_window if self.config.decision_per_task else 1,
        )

    def make_module(self) -> None:
        """Make the joint module, critic included: advantages are computed here."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=False)
        self.module = spec.build()

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Spaces of the global state and of the joint action."""
        observation = state_space(self.mdp.observation_size)
        spaces = (observation, self.layout.joint_space())
        return {INPUT_ENV_SPACES: spaces, DEFAULT_MODULE_ID: spaces}

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        **kwargs: Any,
    ) -> list[MultiAgentBatch]:
        """Sample task windows.

        Args:
            num_timesteps: Windows to sample, rounded up to whole steps of all worlds. The default
                is ``config.get_rollout_fragment_length()`` steps of all worlds.
            num_episodes: In evaluation, the episodes to run instead.
            explore: Whether to draw actions or to take the most likely one; ``config.explore`` by
                default.
            random_actions: Unused: an untrained module is random enough.
            force_reset: Whether to begin new episodes first.
            **kwargs: Unused.

        Returns:
            One batch, in a list: RLlib flattens what the runners return, and a bare batch would be
            taken apart. In evaluation the batch is empty and has only its number of steps.
        """
        explore = bool(self.config.explore if explore is None else explore)
        with self.metrics.log_time(SAMPLE_TIMER):
            if num_episodes is not None:
                batch = self._sample_episodes(num_episodes, explore)
            else:
                if force_reset:
                    self._observation = self.env.reset()
                    self._tally = EpisodeTally(self._num_worlds, self.scenario.num_devices)
                steps = (
                    self.config.get_rollout_fragment_length(self._index)
                    if num_timesteps is None
                    else -(-num_timesteps // self._num_worlds)
                )
                batch = self._sample_windows(steps, explore)
        self.metrics.log_value(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)
        self._log_steps(batch.env_steps())
        return [batch]

    def _sample_episodes(self, num_episodes: int, explore: bool) -> MultiAgentBatch:
        """Episodes of the evaluation protocol, always the same channels."""

        def decide(observation: np.ndarray) -> dict[str, np.ndarray]:
            return self._act(torch.from_numpy(observation), explore)[0]

        metrics = run_episodes(
            decide,
            self.mdp,
            num_episodes,
            seed=self._index,
            num_tasks=round(self.scenario.mean_tasks),
            distance_m=EVALUATION_DISTANCE_M,
        )
        self._ended.append(metrics)
        return MultiAgentBatch({}, env_steps=int(metrics.num_windows.sum()))

    def _sample_windows(self, num_steps: int, explore: bool) -> MultiAgentBatch:
        """``num_steps`` windows of every world, with advantages (Eq. 18)."""
        config = self.config
        columns: dict[str, list[torch.Tensor]] = {}
        observations, rewards, terminated = [], [], []
        for _ in range(num_steps):
            observation = torch.from_numpy(self._observation)
            played_actions, row = self._act(observation, explore)
            row.update(self.credit(observation, played_actions))
            step = self.env.step(played_actions)
            decided = step.played[..., : self.layout.num_decisions]
            row[PLAYED] = torch.from_numpy(decided.astype(np.float32))
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
            observations.append(observation)
            rewards.append(step.task_rewards / config.reward_scale)
            terminated.append(step.terminated)
            self._observation = step.observation
            ended = self._tally.add(step)
            if len(ended):
                self._ended.append(ended)

        stacked = torch.stack([*observations, torch.from_numpy(self._observation)])
        with torch.no_grad():
            values = self.module[DEFAULT_MODULE_ID].compute_values({Columns.OBS: stacked}).numpy()
        streams = np.stack(rewards)
        if config.average_reward:
            streams = streams - self._average_reward_shares(streams)
        if values.shape[-1] == 1:  # a critic of whole windows
            streams = streams.sum(axis=-1, keepdims=True)
        advantages, targets = self.estimate_advantages(streams, values, np.stack(terminated))
        data = {name: torch.cat(parts).numpy() for name, parts in columns.items()}
        data[Columns.OBS] = stacked[:-1].flatten(0, 1).numpy()
        data[Columns.ADVANTAGES] = advantages.reshape(-1, advantages.shape[-1])
        data[Columns.VALUE_TARGETS] = targets.reshape(-1, targets.shape[-1])
        batch = SampleBatch(data)
        return MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=batch.count)

    def _average_reward_shares(self, streams: np.ndarray) -> float:
        """What to take off each share of a reward, so that windows earn what is above average."""
        mean = float(streams.mean())
        if self._average_share is None:
            self._average_share = mean
        self._average_share += AVERAGE_REWARD_RATE * (mean - self._average_share)
        return self._average_share

    def credit(
        self, observation: torch.Tensor, actions: dict[str, np.ndarray]
    ) -> dict[str, torch.Tensor]:
        """More columns of the batch, found before the worlds play ``actions``; none here."""
        return {}

    def estimate_advantages(
        self, rewards: np.ndarray, values: np.ndarray, terminated: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Advantages and value targets of the sampled windows (Eq. 18).

        Args:
            rewards: ``(T, B, V)``, V being the critic's outputs.
            values: ``(T + 1, B, V)``.
            terminated: ``(T, B)``.

        Returns:
            Both ``(T, B, V)``, float32.
        """
        return per_task_gae(rewards, values, terminated, self.config.gamma, self.config.lambda_)

    @torch.no_grad()
    def _act(
        self, observation: torch.Tensor, explore: bool
    ) -> tuple[dict[str, np.ndarray], dict[str, torch.Tensor]]:
        """Actions to play, and the same as drawn with their log-probabilities, to learn from."""
        module = self.module[DEFAULT_MODULE_ID]
        outputs = module.forward_exploration({Columns.OBS: observation})
        dist = HybridActionDistribution(outputs[Columns.ACTION_DIST_INPUTS], self.layout)
        drawn = dist.sample(generator=self._generator) if explore else dist.mode()
        logp = {HEAD_LOGP[head]: value for head, value in dist.head_logp(drawn).items()}
        return self.layout.playable(drawn), {**{head: drawn[head] for head in HEADS}, **logp}

    def _log_steps(self, num_steps: int) -> None:
        """Step counts; without the first, RLlib would sample for ever."""
        self.num_env_steps_sampled_lifetime += num_steps
        log = self.metrics.log_value
        log(NUM_ENV_STEPS_SAMPLED, num_steps, reduce="sum")
        log((NUM_AGENT_STEPS_SAMPLED, DEFAULT_AGENT_ID), num_steps, reduce="sum")
        log((NUM_MODULE_STEPS_SAMPLED, DEFAULT_MODULE_ID), num_steps, reduce="sum")
        log = functools.partial(self.metrics.log_value, value=num_steps, reduce="lifetime_sum")
        log(NUM_ENV_STEPS_SAMPLED_LIFETIME, with_throughput=True)
        log((NUM_AGENT_STEPS_SAMPLED_LIFETIME, DEFAULT_AGENT_ID))
        log((NUM_MODULE_STEPS_SAMPLED_LIFETIME, DEFAULT_MODULE_ID))

    def get_metrics(self) -> dict[str, Any]:
        """Metrics of the episodes that ended since the last call."""
        if self._ended:
            ended = EpisodeMetrics.concatenate(self._ended)
            self._ended = []
            log = self.metrics.log_value
            log(NUM_EPISODES, len(ended), reduce="sum")
            log(NUM_EPISODES_LIFETIME, len(ended), reduce="lifetime_sum")
            smoothed = self.config.metrics_num_episodes_for_smoothing
            window: int = len(ended) if self.config.in_evaluation else smoothed
            for name in EPISODE_METRICS:
                for value in getattr(ended, name)[-window:]:
                    log(name, float(value), window=window)
            for value, length in zip(
                ended.episode_return[-window:], ended.num_windows[-window:], strict=True
            ):
                log(EPISODE_RETURN_MEAN, float(value), window=window)
                log(EPISODE_LEN_MEAN, float(length), window=window)
                log(EPISODE_RETURN_MIN, float(value), reduce="min", window=window)
                log(EPISODE_RETURN_MAX, float(value), reduce="max", window=window)
        return self.metrics.reduce()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The module, the step count, and the worlds with their randomness."""
        state: dict[str, Any] = {
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime
        }
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state()
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        if self._check_component(COMPONENT_WORLDS, components, not_components):
            state[COMPONENT_WORLDS] = {
                "worker_index": self._index,
                "worlds": self.env.get_state(),
                "observation": self._observation.copy(),
                "tally": self._tally.get_state(),
                "average_share": self._average_share,
                "generator": self._generator.get_state().numpy(),
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state; worlds of another runner or of another number are left alone."""
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]
        if COMPONENT_RL_MODULE in state:
            module_state = state[COMPONENT_RL_MODULE]
            if isinstance(module_state, ray.ObjectRef):
                module_state = ray.get(module_state)
            # Always, also where the weights are older: a restored checkpoint must win.
            self.module.set_state(module_state)
            self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, 0)
        worlds = state.get(COMPONENT_WORLDS)
        if (
            worlds is not None
            and worlds["worker_index"] == (self._index)
            and len(worlds["observation"]) == self._num_worlds
        ):
            self.env.set_state(worlds["worlds"])
            self._observation = worlds["observation"].copy()
            self._tally.set_state(worlds["tally"])
            self._average_share = worlds["average_share"]
            self._generator.set_state(torch.from_numpy(worlds["generator"].copy()))

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """What a copy is made from."""
        return (), {"config": self.config, "worker_index": self.worker_index}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The module has a place of its own in a checkpoint."""
        return [(COMPONENT_RL_MODULE, self.module)]

    def assert_healthy(self) -> None:
        """Check that construction succeeded."""
        assert self.env is not None and self.module is not None
