"""What the PettingZoo environments have in common: a batch of one world, one agent per MD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import parallel_to_aec

from rllib_mec.envs import laws
from rllib_mec.envs.action_views import action_view
from rllib_mec.envs.actions import ACTION_KEYS
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import State, for_agent, observation_space, state_space
from rllib_mec.envs.vector import VectorEnv, VectorStep, per_device
from rllib_mec.errors import MecError, unknown

_OPTIONS = {"num_tasks": True, "distance_m": False}
"""What an episode's options may fix, and whether it is in whole numbers."""


class MecParallelEnv(ParallelEnv):
    """A :class:`~rllib_mec.envs.vector.VectorEnv` of one world as a PettingZoo ``ParallelEnv``.

    A subclass sets ``mdp_class``.

    Args:
        render_mode: One of ``metadata["render_modes"]``, or ``None``.
        actions: How agents see their decisions; see :mod:`rllib_mec.envs.action_views`.
        power_levels: An argument of the view.
        fixed_partition: An argument of the view.
        observe_mask: An argument of the view.
        **mdp: Fields of the MDP and of its scenario.

    Raises:
        MecError: An argument is unknown or bad.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["human", "ansi", "rgb_array"],
        "is_parallelizable": True,
        "render_fps": 2,
    }
    mdp_class: ClassVar[type[MDP]]

    def __init_subclass__(cls) -> None:
        """Name the environment after its MDP."""
        super().__init_subclass__()
        if "mdp_class" in vars(cls):
            cls.metadata = {**cls.metadata, "name": cls.mdp_class.env_id}

    def __init__(
        self,
        *,
        render_mode: str | None = None,
        actions: str = "dict",
        power_levels: int | None = None,
        fixed_partition: int | None = None,
        observe_mask: bool = False,
        **mdp: Any,
    ):
        """Make the spaces; the world is made by the first :meth:`reset`."""
        self.check_render_mode(render_mode)
        self.mdp = self.mdp_class.from_dict(mdp)
        self.scenario = scenario = self.mdp.scenario
        self.view = action_view(scenario, actions, power_levels, fixed_partition, observe_mask)
        self.render_mode = render_mode
        num_devices = scenario.num_devices
        state_size = laws.size_of(self.mdp)
        self.possible_agents = [f"md_{n}" for n in range(num_devices)]
        self.agents: list[str] = []
        self.observation_spaces: dict[str, Any] = {
            agent: self.view.seen_space(observation_space(state_size, num_devices))
            for agent in self.possible_agents
        }
        self.action_spaces: dict[str, Any] = {
            agent: self.view.make_space() for agent in self.possible_agents
        }
        self.state_space = state_space(state_size)
        self._worlds: VectorEnv | None = None
        self._fixed: dict[str, Any] = {}
        self._state = np.zeros(state_size, dtype=np.float32)
        self._last_step: VectorStep | None = None

    @classmethod
    def check_render_mode(cls, render_mode: Any) -> None:
        """Check how episodes are to be drawn.

        Args:
            render_mode: What was given for it.

        Raises:
            MecError: There is no such mode.
        """
        modes = cls.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise unknown("render_mode", render_mode, modes)

    def observation_space(self, agent: str) -> spaces.Space:
        """The agent's observation space, always the same object.

        Args:
            agent: ``md_0`` to ``md_{N-1}``.
        """
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """The agent's action space, always the same object.

        Args:
            agent: ``md_0`` to ``md_{N-1}``.
        """
        return self.action_spaces[agent]

    def state(self) -> np.ndarray:
        """The global state S_k of Eq. (6), float32."""
        return self._state.copy()

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict]]:
        """Begin an episode.

        Args:
            seed: Seed of this and the following episodes; ``None`` goes on with the last one's, or
                draws one.
            options: ``num_tasks`` fixes the tasks of every MD, ``distance_m`` the distances, each
                by one number or one per MD; ``options`` is ignored, as PettingZoo's test suite
                demands.

        Returns:
            Observations and infos of all agents.

        Raises:
            MecError: An option is unknown or bad.
        """
        fixed = self._fixed_by({} if options is None else options)
        worlds = self._worlds
        if worlds is None or fixed != self._fixed:
            worlds = self.mdp.make(1, **fixed)
            if self._worlds is not None:  # other options, but the same streams of episodes
                worlds.set_state(self._worlds.get_state())
            elif seed is None:
                seed = int(np.random.SeedSequence().generate_state(1)[0])
        if seed is not None:
            observation = worlds.reset(seed)
        elif worlds is self._worlds and not self.agents:
            observation = worlds.observation()  # the batch has begun this episode by itself
        else:
            observation = worlds.reset()
        self._worlds, self._fixed = worlds, fixed
        # In an episode to which nobody comes, all hear that it ends.
        self.agents = self._joined() or list(self.possible_agents)
        self._last_step = None
        self._state = observation[0]
        masks = self._masks(worlds.state)
        infos = {agent: {"action_mask": masks[agent]} for agent in self.agents}
        return self._observations(self.agents, masks), infos

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict]]:
        """Play one step.

        Args:
            actions: An action of every live agent.

        Returns:
            Observations, rewards, terminations, truncations and infos of the agents that acted and,
            with a reward of 0, of those that have joined; one that has left is terminated.

        Raises:
            MecError: There is no running episode, or an action is missing or outside its space.
        """
        if not self.agents or self._worlds is None:
            raise MecError("no episode is running: call reset() before step()")
        for agent in actions:
            if agent not in self.agents:
                raise unknown("agent", agent, self.agents)
        for agent in self.agents:
            if agent not in actions:
                raise MecError(f"no action for {agent}; expected one of every live agent")
            self.view.check(agent, actions[agent], self.action_spaces[agent])
        decided = {agent: self.view.decode(actions[agent]) for agent in self.agents}
        idle = next(iter(decided.values()))  # of those that are not there, nothing is played
        each = [decided.get(agent, idle) for agent in self.possible_agents]
        batch = {key: np.stack([own[key] for own in each])[None] for key in ACTION_KEYS}
        step = self._worlds.step(batch)
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        acted = self.agents
        joined = acted if terminated or truncated else self._joined()
        agents = [agent for agent in self.possible_agents if agent in {*acted, *joined}]
        self._last_step = step
        self._state = self._worlds.led_to(step)[0]
        shared = {
            "latency_ms": float(step.latency_ms[0]),
            "energy_j": float(step.energy_j[0]),
            "waiting_ms": float(step.waiting_ms[0]),
        }
        sizes = dict(zip(self.possible_agents, step.window_size[0].tolist(), strict=True))
        self.agents = [] if terminated or truncated else joined
        state = self._worlds.state
        if not self.agents:  # the state is of the next episode
            state = state._replace(queues=np.zeros_like(state.queues))
        masks = self._masks(state)
        if self.render_mode == "human":
            self.render()
        return (
            self._observations(agents, masks),
            {agent: float(step.reward[0]) if agent in acted else 0.0 for agent in agents},
            {agent: terminated or agent not in joined for agent in agents},
            dict.fromkeys(agents, truncated),
            {
                agent: {**shared, "window_size": sizes[agent], "action_mask": masks[agent]}
                for agent in agents
            },
        )

    def _joined(self) -> list[str]:
        """The agents that are there."""
        assert self._worlds is not None
        joined = self._worlds.joined[0]
        return [agent for n, agent in enumerate(self.possible_agents) if joined[n]]

    def render(self) -> str | np.ndarray | None:
        """The last step as a Gantt chart.

        Returns:
            Text in mode ``"ansi"``, an image ``(H, W, 3)`` uint8 in mode ``"rgb_array"``; an empty
            chart before the first step; ``None`` without a render mode and in mode ``"human"``,
            which prints the text, after each step by itself.
        """
        if self.render_mode is None:
            return None
        from rllib_mec.viz.gantt import gantt_image, gantt_text

        draw = gantt_image if self.render_mode == "rgb_array" else gantt_text
        if self._last_step is None:
            ends, starts = np.zeros((self.scenario.num_devices, 1, 3)), None
        else:
            ends, every = self._last_step.stage_ends[0], self._last_step.starts
            starts = None if every is None else every[0]
        drawn = draw(ends, (ends[..., 2] > 0.0).sum(1), self.mdp.step_name, starts)
        if self.render_mode != "human":
            return drawn
        print(drawn)
        return None

    def close(self) -> None:
        """Nothing to release."""

    def _fixed_by(self, options: Any) -> dict[str, Any]:
        """What options fix, as :meth:`MDP.make` takes it."""
        if not isinstance(options, Mapping):
            raise MecError(
                "options must be a mapping such as {'num_tasks': 50, 'distance_m': 50.0}, "
                f"but is {options!r}"
            )
        for key in options:
            if key not in (*_OPTIONS, "options"):
                raise unknown("option", key, _OPTIONS)
        fixed = {
            name: per_device(name, options.get(name), self.scenario.num_devices, whole=whole)
            for name, whole in _OPTIONS.items()
        }
        return {name: values.tolist() for name, values in fixed.items() if values is not None}

    def _masks(self, state: State) -> dict[str, Any]:
        """Which choices make sense to each agent, as its action space samples by it."""
        masks = laws.action_mask(self.mdp, state)
        own = {name: mask[0].astype(np.int8) for name, mask in masks.items()}
        return {
            agent: self.view.mask({name: mask[n] for name, mask in own.items()})
            for n, agent in enumerate(self.possible_agents)
        }

    def _observations(self, agents: list[str], masks: Mapping[str, Any]) -> dict[str, Any]:
        num_devices = len(self.possible_agents)
        return {
            agent: self.view.seen(for_agent(self._state, n, num_devices), masks[agent])
            for n, agent in enumerate(self.possible_agents)
            if agent in agents
        }


def aec_constructor(parallel_env: type[MecParallelEnv]) -> Callable[..., AECEnv]:
    """What makes an environment with PettingZoo's agent-environment-cycle API.

    Args:
        parallel_env: The environment; its arguments are those of the constructor.
    """

    def make(**kwargs: Any) -> AECEnv:
        """Make the environment.

        Args:
            **kwargs: Of the parallel environment.
        """
        return parallel_to_aec(parallel_env(**kwargs))  # enforces the order of calls by itself

    return make
