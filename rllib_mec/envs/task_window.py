"""``mec_task_window_v0``: the task-aware MDP of Section IV-A as a PettingZoo ``ParallelEnv``."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_mec.envs.spaces import (
    ACTION_KEYS,
    action_space,
    check_agent_action,
    observation_space,
    state_space,
)
from rllib_mec.envs.vector import VectorStep, VectorTaskWindow
from rllib_mec.errors import MecError, unknown
from rllib_mec.simulator.scenario import Scenario


class TaskWindowEnv(ParallelEnv):
    r"""Mobile devices that share channels and MEC servers, one task window a step.

    Every mobile device (MD) has a queue of DNN inference tasks. In a step each MD decides how many
    of its tasks to run next and, for each, where to cut the DNN, over which channel and at which
    power to send the tensor, and which MEC server finishes it. All MDs begin together; the step
    ends when the slowest is done. The episode ends when all queues are empty.

    | Import | ``from rllib_mec.envs import task_window_v0`` |
    |---|---|
    | Actions | hybrid: discrete and continuous |
    | Parallel API | yes |
    | Agents | ``md_0`` … ``md_{N-1}`` |
    | Action space | ``Dict``, see below |
    | Observation space | ``Box(0, inf, (3N,), float32)`` |
    | State space | ``Box(0, inf, (2N,), float32)`` |

    ### Usage

    .. code-block:: python

        from rllib_mec.envs import task_window_v0

        env = task_window_v0.parallel_env(num_devices=3)
        observations, infos = env.reset(seed=42)
        while env.agents:
            actions = {agent: env.action_space(agent).sample() for agent in env.agents}
            observations, rewards, terminations, truncations, infos = env.step(actions)
        env.close()

    ### Observation

    | Index | Meaning | Unit |
    |---|---|---|
    | 0 … N-1 | X_n/λ, tasks left of each MD over the mean number of tasks | 1 |
    | N … 2N-1 | d_n/d_max, distance of each MD to the base station over the largest | 1 |
    | 2N … 3N-1 | the agent's own one-hot | 1 |

    ### Action (one MD, up to W_max tasks)

    | Key | Space | Meaning |
    |---|---|---|
    | ``partition`` | ``MultiDiscrete([S] * W_max)`` | 0 sends the input, S-1 is full local |
    | ``channel`` | ``MultiDiscrete([C] * W_max)`` | wireless channel |
    | ``server`` | ``MultiDiscrete([M] * W_max)`` | MEC server |
    | ``power`` | ``Box(0, 1, (W_max,), float32)`` | transmit power, see ``power_scale`` |
    | ``window`` | ``Discrete(W_max)`` | value v: the next v+1 tasks, or what is left of the queue |

    ### Reward

    Every agent gets r_k of Eq. (8): minus (latency of the window in ms, plus α times the mean
    waiting time, plus β/N times the energy of all MDs in J) over the mean window size W_k.

    ### Infos

    Every agent's info has the window's ``latency_ms``, ``energy_j`` (of all MDs) and
    ``waiting_ms``, and its own ``window_size``, the tasks it did.

    ### Arguments

    The fields of :class:`~rllib_mec.simulator.scenario.Scenario` with their defaults (Table III),
    and ``render_mode``: ``"ansi"`` or ``"rgb_array"``, the last window as a Gantt chart (Fig. 4).
    ``reset`` takes ``options={"num_tasks": 50, "distance_m": 50.0}`` to fix either for the episode.

    ### Version history

    * v0: initial version.
    """

    metadata = {  # noqa: RUF012 - PettingZoo's convention
        "name": "mec_task_window_v0",
        "render_modes": ["ansi", "rgb_array"],
        "is_parallelizable": True,
        "render_fps": 2,
    }

    def __init__(self, *, render_mode: str | None = None, **scenario: Any):
        """Make the environment.

        Args:
            render_mode: ``"ansi"``, ``"rgb_array"`` or ``None``.
            **scenario: Fields of the scenario.

        Raises:
            MecError: An argument is unknown or bad.
        """
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown("render_mode", render_mode, self.metadata["render_modes"])
        self.scenario = Scenario.from_dict(scenario)
        self.render_mode = render_mode
        num_devices = self.scenario.num_devices
        self.possible_agents = [f"md_{n}" for n in range(num_devices)]
        self.agents: list[str] = []
        self.observation_spaces: dict[str, Any] = {
            agent: observation_space(self.scenario) for agent in self.possible_agents
        }
        self.action_spaces: dict[str, Any] = {
            agent: action_space(self.scenario) for agent in self.possible_agents
        }
        self.state_space = state_space(self.scenario)
        self._identities = np.eye(num_devices, dtype=np.float32)
        self._worlds: VectorTaskWindow | None = None
        self._fixed: tuple[int | None, float | None] = (None, None)
        self._state = np.zeros(2 * num_devices, dtype=np.float32)
        self._last_step: VectorStep | None = None

    def observation_space(self, agent: str) -> spaces.Box:
        """The agent's observation space, always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Dict:
        """The agent's action space, always the same object."""
        return self.action_spaces[agent]

    def state(self) -> np.ndarray:
        """The global state S_k of Eq. (6), ``(2N,)`` float32."""
        return self._state.copy()

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
        """Begin an episode.

        Args:
            seed: Seed of this and the following episodes; ``None`` goes on with the last one's, or
                draws one.
            options: ``num_tasks`` fixes the tasks of every MD, ``distance_m`` the distances; other
                keys are ignored, as PettingZoo's test suite demands.

        Returns:
            Observations and infos of all agents.

        Raises:
            MecError: An option is bad.
        """
        options = options or {}
        fixed = (options.get("num_tasks"), options.get("distance_m"))
        worlds = self._worlds
        if worlds is None or fixed != self._fixed:
            worlds = VectorTaskWindow(self.scenario, 1, num_tasks=fixed[0], distance_m=fixed[1])
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
        self.agents = list(self.possible_agents)
        self._last_step = None
        self._state = observation[0]
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, np.ndarray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict]
    ]:
        """Play one task window.

        Args:
            actions: An action of every live agent.

        Returns:
            Observations, rewards, terminations, truncations and infos of all agents.

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
            check_agent_action(agent, actions[agent], self.action_spaces[agent])
        batch = {
            key: np.stack([np.asarray(actions[agent][key]) for agent in self.agents])[None]
            for key in ACTION_KEYS
        }
        step = self._worlds.step(batch)
        over = bool(step.terminated[0])
        agents = self.agents
        self._last_step = step
        # The batch has begun the next episode already; this one ends with empty queues.
        self._state = step.observation[0].copy()
        if over:
            self._state[: len(agents)] = 0.0
        observations = self._observations()
        shared = {
            "latency_ms": float(step.latency_ms[0]),
            "energy_j": float(step.energy_j[0]),
            "waiting_ms": float(step.waiting_ms[0]),
        }
        infos = {
            agent: {**shared, "window_size": int(step.window_size[0, n])}
            for n, agent in enumerate(agents)
        }
        if over:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, float(step.reward[0])),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, False),
            infos,
        )

    def render(self) -> str | np.ndarray | None:
        """The last window as a Gantt chart.

        Returns:
            Text in mode ``"ansi"``, an image ``(H, W, 3)`` uint8 in mode ``"rgb_array"``; an empty
            chart before the first step; ``None`` without a render mode.
        """
        if self.render_mode is None:
            return None
        from rllib_mec.envs.render import gantt_image, gantt_text

        num_devices, slots = self.scenario.num_devices, self.scenario.max_window
        if self._last_step is None:
            ends = np.zeros((num_devices, slots, 3))
            sizes = np.zeros(num_devices, dtype=int)
        else:
            ends, sizes = self._last_step.stage_ends[0], self._last_step.window_size[0]
        draw = gantt_text if self.render_mode == "ansi" else gantt_image
        return draw(ends, sizes)

    def close(self) -> None:
        """Nothing to release."""

    def _observations(self) -> dict[str, np.ndarray]:
        return {
            agent: np.concatenate([self._state, self._identities[n]])
            for n, agent in enumerate(self.agents)
        }
