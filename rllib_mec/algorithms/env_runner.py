"""An RLlib EnvRunner that steps a batch of worlds with one forward pass for all of them."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Collection, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
from ray.rllib.core import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils import force_list
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, SAMPLE_TIMER, WEIGHTS_SEQ_NO

from rllib_mec.algorithms.acting import Actor, Decision
from rllib_mec.algorithms.columns import SCENARIO
from rllib_mec.algorithms.distributions import HybridActionLayout
from rllib_mec.algorithms.episodes import BulkEpisodes, LiveEpisodes, Spaces
from rllib_mec.algorithms.randomize import Pool
from rllib_mec.algorithms.recording import EpisodeRecorder
from rllib_mec.algorithms.sampler import Decide, Sampler
from rllib_mec.algorithms.sampling_metrics import SamplingMetrics
from rllib_mec.envs import laws
from rllib_mec.envs.episodes import evaluation_distance_m
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import state_space
from rllib_mec.envs.vector import VectorEnv

COMPONENT_WORLDS = "worlds"

EPISODE_CALLBACKS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")

EVALUATION_SEEDS_APART = 1_000_000
"""Between the evaluation worlds of two env runners, so that they never run the same episodes."""


class TaskWindowEnvRunner(EnvRunner, Checkpointable):
    """Samples task windows from ``config.num_envs_per_env_runner`` worlds at once.

    In training, :meth:`sample` returns what each world has done, as RLlib's episodes; those that
    are cut go on in the next call. In evaluation it runs whole episodes of the paper's protocol
    (the mean number of tasks, a fixed distance, shadowing on).

    Where scenarios are drawn (``env_config: {randomize: ...}``), each has worlds of its own here. A
    call in training plays one of them, whose turn it is by the number of updates of the weights.

    Callbacks and connectors work as in RLlib's ``SingleAgentEnvRunner``, to which all MDs together
    are one agent. Episodes are built in bulk, unless the user's ``on_episode_*`` callbacks or
    connectors are to see them grow.

    Args:
        config: The algorithm's config.
        **kwargs: ``worker_index`` and ``num_workers``, as RLlib passes them.
    """

    # Ray types these as what any env runner may have; here they are more, and never None.
    config: Any
    module: Any

    def __init__(self, *, config: Any, **kwargs: Any):
        """Make the worlds, the connectors and the module."""
        super().__init__(config=config, **kwargs)
        Checkpointable.__init__(self)
        self._weights_seq_no = 0
        self._num_evaluated = 0
        self._index: int = self.worker_index or 0
        if self._index:
            # Remote runners share the machine with the learner: two of them on two cores would
            # fight over threads, and an update takes several times as long.
            torch.set_num_threads(1)
        self._callbacks = [callbacks() for callbacks in force_list(config.callbacks_class)]
        self._sampling_metrics = SamplingMetrics(config)
        self._recorder = EpisodeRecorder.of(config, self._index)
        self.make_env()
        self.make_module()
        seed = self._seed if self._seed is not None else torch.seed() % (1 << 31)
        self._generator = torch.Generator().manual_seed(seed)
        module = self.module[DEFAULT_MODULE_ID]
        self._actor = Actor(module, self._pipelines, self._generator, self.metrics)

    def make_env(self) -> None:
        """Make the batch of worlds from ``config.env_config``, and the connectors around them."""
        config = self.config
        self.pool = Pool.of(config)
        self.mdp = self.pool.base
        self.scenario = self.mdp.scenario
        self._num_envs = config.num_envs_per_env_runner
        self._entropy = [0 if self._seed is None else self._seed, self._index]
        if self._seed is None:
            self._entropy = list(np.random.SeedSequence().generate_state(2))
        self.env = self._worlds(self.mdp)
        self._spaces = self._spaces_of(self.mdp)
        spaces = {INPUT_ENV_SPACES: self._spaces, INPUT_ENV_SINGLE_SPACES: self._spaces}
        # Under these names Ray's EnvRunnerGroup looks for them.
        self._env_to_module = config.build_env_to_module_connector(spaces=spaces)
        self._module_to_env = config.build_module_to_env_connector(spaces=spaces)
        plain = type(config)()
        acts = _differs(self._module_to_env, plain.build_module_to_env_connector(spaces=spaces))
        # Pieces after the module take apart what those before it have put together.
        sees = acts or _differs(
            self._env_to_module, plain.build_env_to_module_connector(spaces=spaces)
        )
        self._pipelines = (
            self._env_to_module if sees else None,
            self._module_to_env if acts else None,
        )
        context = EnvContext(
            config.env_config, worker_index=self._index, num_workers=self.num_workers
        )
        self._call_back("on_environment_created", env=self.env, env_context=context)
        self._samplers: dict[int, Sampler] = {}  # their episodes begin when there is a module

    def _worlds(self, mdp: MDP, *more_entropy: int) -> VectorEnv:
        """Worlds to train in."""
        # World b's seed is this plus b: spread the runners so far that they never share a world.
        seed = int(np.random.SeedSequence([*self._entropy, *more_entropy]).generate_state(1)[0])
        env = mdp.make(self._num_envs, seed)
        env.num_threads = self.config.num_threads_per_env_runner
        return env

    def _spaces_of(self, mdp: MDP) -> Spaces:
        layout = HybridActionLayout.of(mdp, per_task=self.config.decision_per_task)
        return Spaces(state_space(laws.size_of(mdp)), layout.joint_space())

    def make_module(self) -> None:
        """Make the joint module."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=False)
        self.module = spec.build()

    @property
    def layout(self) -> HybridActionLayout:
        """Sizes of the joint action where the module decides at present."""
        return self.module[DEFAULT_MODULE_ID].layout

    def training(self, scenario: int = 0) -> Sampler:
        """The worlds in training, with the episodes that run in them.

        Args:
            scenario: Index of the pool's.
        """
        if scenario not in self._samplers:
            mdp = self.pool.mdps[scenario]
            env = self.env if mdp is self.pool.base else self._worlds(mdp, 1 + scenario)
            self._samplers[scenario] = self._sampler(env)
        return self._samplers[scenario]

    @contextlib.contextmanager
    def _deciding_in(self, mdp: MDP) -> Iterator[None]:
        """Have the module decide in a scenario of the pool, and then in the config's own again."""
        if mdp is self.pool.base:
            yield
            return
        module = self.module[DEFAULT_MODULE_ID]
        module.bind(mdp)
        try:
            yield
        finally:
            module.bind(self.mdp)

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Spaces of the global state and of the joint action; and of what the module sees."""
        seen: Any = self._env_to_module.observation_space
        return {
            INPUT_ENV_SPACES: self._spaces,
            INPUT_ENV_SINGLE_SPACES: self._spaces,
            DEFAULT_MODULE_ID: (seen, self._spaces.action),
        }

    def sample(
        self,
        *,
        num_timesteps: float | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        **kwargs: Any,
    ) -> list[SingleAgentEpisode]:
        """Sample task windows.

        Args:
            num_timesteps: Windows to sample, rounded up to whole steps of all worlds, in evaluation
                to whole episodes. The default is ``config.get_rollout_fragment_length()`` steps of
                all worlds, or an episode of every world if ``batch_mode`` is
                ``complete_episodes``.
            num_episodes: Episodes of the evaluation protocol to run instead.
            explore: Whether to draw actions or to take the most likely one; ``config.explore`` by
                default.
            random_actions: Whether to decide uniformly at random, whatever the module says.
            force_reset: Whether to begin new episodes first.
            **kwargs: Unused.

        Returns:
            One episode for each world, or several where episodes ended.

        Raises:
            TrainingDiverged: The module's outputs are not finite.
        """
        config = self.config
        decide = functools.partial(
            self._actor.decide,
            explore=bool(config.explore if explore is None else explore),
            at_random=random_actions,
            iteration=self._weights_seq_no,
        )
        with self.metrics.log_time(SAMPLE_TIMER):
            if num_episodes is not None:
                samples = self._evaluate(num_episodes, decide)
            elif config.in_evaluation:
                samples = self._evaluate_for(num_timesteps or 1, decide)
            else:
                samples = self._train(num_timesteps, decide, force_reset=force_reset)
            self._call_back("on_sample_end", samples=samples)
        if self._recorder is not None:
            self._recorder.add(samples)
        self.metrics.log_value(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)
        num_steps = sum(map(len, samples))
        self.num_env_steps_sampled_lifetime += num_steps
        self._sampling_metrics.log_steps(self.metrics, num_steps)
        return samples

    def _train(
        self, num_timesteps: float | None, decide: Decide, *, force_reset: bool
    ) -> list[SingleAgentEpisode]:
        """Steps, or whole episodes, of the scenario whose turn it is."""
        turn = self.pool.turn(self._weights_seq_no)
        training = self.training(turn)

        def outputs(env: VectorEnv, decision: Decision) -> dict[str, np.ndarray]:
            more = self.credit(env, decision)
            if len(self.pool) > 1:
                more[SCENARIO] = np.full(env.num_envs, turn)
            return more

        with self._deciding_in(self.pool.mdps[turn]):
            if num_timesteps is None and self.config.batch_mode == "complete_episodes":
                return training.play_to_the_end(decide, outputs)
            if force_reset:
                training.begin()
            steps = (
                self.config.get_rollout_fragment_length(self._index)
                if num_timesteps is None
                else math.ceil(num_timesteps / self._num_envs)
            )
            return training.play(steps, decide, outputs)

    def credit(self, env: VectorEnv, decision: Decision) -> dict[str, np.ndarray]:
        """What else an episode keeps of a decision in training; nothing here.

        Args:
            env: The worlds, before they play the decision.
            decision: Of the module.

        Returns:
            Arrays ``(B, ...)`` by name.
        """
        return {}

    def _evaluate(
        self, num_episodes: int, decide: Decide, first: int = 0
    ) -> list[SingleAgentEpisode]:
        """Episodes of the evaluation protocol, always the same from the ``first`` one on."""
        runner = max(self._index, 1) - 1  # the only remote runner does what a local one would
        env = self.mdp.make(
            num_episodes,
            runner * EVALUATION_SEEDS_APART + first,
            num_tasks=self.mdp.usual_tasks,
            distance_m=evaluation_distance_m(self.scenario),
        )
        env.num_threads = self.config.num_threads_per_env_runner
        return self._sampler(env).play_to_the_end(decide, lambda env, decision: {})

    def _evaluate_for(self, num_timesteps: float, decide: Decide) -> list[SingleAgentEpisode]:
        """As many of these episodes as it takes for a number of steps.

        An evaluation of automatic duration calls again and again: with the same weights the next
        call goes on with other episodes, new weights begin anew.
        """
        samples: list[SingleAgentEpisode] = []
        while (left := num_timesteps - sum(map(len, samples))) > 0:
            # A step hardly does less than a task.
            guess = math.ceil(left / self.scenario.mean_tasks)
            samples += self._evaluate(guess, decide, first=self._num_evaluated)
            self._num_evaluated += guess
        return samples

    def _sampler(self, env: VectorEnv) -> Sampler:
        """VectorEnv to play, with live episodes where the user looks at them."""
        spaces = self._spaces if env.mdp is self.mdp else self._spaces_of(env.mdp)
        looked_at = any(self._has_callback(name) for name in EPISODE_CALLBACKS)
        if looked_at or any(self._pipelines):

            def notify(name: str, episode: Any, world: int, **kwargs: Any) -> None:
                module = self.module[DEFAULT_MODULE_ID]
                kwargs = {"env": env, "env_index": world, "rl_module": module, **kwargs}
                self._call_back(name, episode=episode, **kwargs)

            episodes: Any = LiveEpisodes(spaces, notify, self.config.episode_lookback_horizon)
        else:
            episodes = BulkEpisodes(spaces)
        return Sampler(env, episodes, self._sampling_metrics)

    def _has_callback(self, name: str) -> bool:
        """Whether the user has given a callback of this name, as a method or as a function."""
        methods = any(
            getattr(type(own), name) is not getattr(RLlibCallback, name) for own in self._callbacks
        )
        return methods or bool(getattr(self.config, f"callbacks_{name}"))

    def _call_back(self, name: str, **kwargs: Any) -> None:
        make_callback(
            name,
            callbacks_objects=self._callbacks,
            callbacks_functions=getattr(self.config, f"callbacks_{name}"),
            kwargs={"env_runner": self, "metrics_logger": self.metrics, **kwargs},
        )

    def get_metrics(self) -> dict[str, Any]:
        """Metrics of the windows and episodes since the last call."""
        self._sampling_metrics.log(self.metrics)
        return self.metrics.reduce()

    def stop(self) -> None:
        """Write what is left to record."""
        if self._recorder is not None:
            self._recorder.close()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The module, the connectors, the step count, and the worlds with their randomness.

        See the base class.
        """
        state: dict[str, Any] = {
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime
        }
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state()
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        for name, pipeline in self._connectors().items():
            if self._check_component(name, components, not_components):
                state[name] = pipeline.get_state()
        if self._check_component(COMPONENT_WORLDS, components, not_components):
            state[COMPONENT_WORLDS] = {
                "worker_index": self._index,
                "generator": self._generator.get_state().numpy(),
                "scenarios": {
                    i: {**sampler.get_state(), "shape": str(sampler.env.mdp.shape)}
                    for i, sampler in self._samplers.items()
                },
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state; worlds of another runner, number or shape are left alone.

        See the base class.
        """
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]
        for name, pipeline in self._connectors().items():
            if name in state:
                pipeline.set_state(state[name])
        if COMPONENT_RL_MODULE in state:
            module_state = state[COMPONENT_RL_MODULE]
            if isinstance(module_state, ray.ObjectRef):
                module_state = ray.get(module_state)
            # Always, also where the weights are older: a restored checkpoint must win.
            self.module.set_state(module_state)
            self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, 0)
            self._num_evaluated = 0
        worlds = state.get(COMPONENT_WORLDS)
        if worlds is None or worlds["worker_index"] != self._index:
            return
        for i, own in worlds["scenarios"].items():
            fits = i < len(self.pool) and own["shape"] == str(self.pool.mdps[i].shape)
            if fits and len(own["observation"]) == self._num_envs:
                self.training(i).set_state(own)
                self._generator.set_state(torch.from_numpy(worlds["generator"].copy()))

    def _connectors(self) -> dict[str, ConnectorPipelineV2]:
        return {
            COMPONENT_ENV_TO_MODULE_CONNECTOR: self._env_to_module,
            COMPONENT_MODULE_TO_ENV_CONNECTOR: self._module_to_env,
        }

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """What a copy is made from."""
        return (), {"config": self.config, "worker_index": self.worker_index}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """Module and connectors have places of their own in a checkpoint."""
        return [(COMPONENT_RL_MODULE, self.module), *self._connectors().items()]

    def assert_healthy(self) -> None:
        """Check that construction succeeded."""
        assert self.env is not None and self.module is not None


def _differs(pipeline: ConnectorPipelineV2, plain: ConnectorPipelineV2) -> bool:
    """Whether a pipeline has other pieces than ``plain``, which has RLlib's and our own alone."""
    kinds = [[type(piece) for piece in each.connectors] for each in (pipeline, plain)]
    return kinds[0] != kinds[1]
