"""What a batch of worlds did, as RLlib's episodes: one for each world and fragment."""

from __future__ import annotations

import abc
import uuid
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer


class Notify(Protocol):
    """Calls the user's callbacks."""

    def __call__(self, name: str, episode: SingleAgentEpisode, world: int, **kwargs: Any) -> None:
        """Call back.

        Args:
            name: Of the callback.
            episode: It is about.
            world: The index of its world.
            **kwargs: What else the callback gets.
        """


class Transition(NamedTuple):
    """One step of B worlds.

    Attributes:
        actions: As drawn, arrays ``(B, N, D)``, ``window`` ``(B, N)``.
        reward: ``(B,)``.
        terminated: Whether the episode ended since all is done, ``(B,)`` bool.
        truncated: Whether it was cut by its horizon, ``(B,)`` bool.
        last_observation: After the step and before a new episode begins, ``(B, O)``.
        next_observation: What the next decision is made from, ``(B, O)``.
        outputs: What else is known of the step, arrays ``(B, ...)`` by name.
        infos: One for each world.
    """

    actions: dict[str, np.ndarray]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    last_observation: np.ndarray
    next_observation: np.ndarray
    outputs: dict[str, np.ndarray]
    infos: list[dict[str, Any]]


class Spaces(NamedTuple):
    """Spaces of the episodes' observations and actions."""

    observation: gym.Space
    action: gym.Space


class EpisodeCollector(abc.ABC):
    """Turns the steps of B worlds into episodes.

    A world that ends an episode begins the next at once, and an episode that is cut by the end of
    a fragment goes on in the next one under the same ``id_``, as in RLlib's own env runners.
    """

    @abc.abstractmethod
    def begin(self, observation: np.ndarray, *, once: bool = False) -> None:
        """Begin a new episode in every world.

        Args:
            observation: The first observations, ``(B, O)``.
            once: Whether each world plays this episode only; what it does afterwards is left out.
        """

    @abc.abstractmethod
    def add(self, transition: Transition) -> None:
        """Add a step of all worlds.

        Args:
            transition: What the worlds showed, did and got.
        """

    @abc.abstractmethod
    def take(self) -> list[SingleAgentEpisode]:
        """Hand over what has been added since the last call.

        Returns:
            The episodes, those of a world one after the other, with arrays inside.
        """


class BulkEpisodes(EpisodeCollector):
    """Stacks the steps first and cuts them into episodes afterwards, which costs milliseconds.

    Args:
        spaces: Of the episodes.
    """

    def __init__(self, spaces: Spaces):
        """Start without episodes."""
        self._spaces = spaces

    def begin(self, observation: np.ndarray, *, once: bool = False) -> None:
        """Begin a new episode in every world; see the base class."""
        self._once = once
        self._first = observation
        self._transitions: list[Transition] = []
        self._ids = [uuid.uuid4().hex for _ in observation]
        self._ages = np.zeros(len(observation), dtype=int)
        self._infos: list[dict[str, Any]] = [{} for _ in observation]

    def add(self, transition: Transition) -> None:
        """Add a step of all worlds; see the base class."""
        self._transitions.append(transition)

    def take(self) -> list[SingleAgentEpisode]:
        """Hand over the episodes; see the base class."""
        steps = self._transitions
        observations = np.stack([self._first, *(step.next_observation for step in steps)])
        stacks = _Stacks(
            observations=observations,
            last=np.stack([step.last_observation for step in steps]),
            rewards=np.stack([step.reward for step in steps]),
            actions=_stack([step.actions for step in steps]),
            outputs=_stack([step.outputs for step in steps]),
            infos=[step.infos for step in steps],
        )
        terminated = np.stack([step.terminated for step in steps])
        ended = terminated | np.stack([step.truncated for step in steps])
        episodes = []
        for world in range(len(self._ids)):
            start = 0
            for stop in (np.flatnonzero(ended[:, world]) + 1).tolist():
                is_terminated = bool(terminated[stop - 1, world])
                episodes.append(self._episode(stacks, world, start, stop, is_terminated))
                self._ids[world], self._ages[world] = uuid.uuid4().hex, 0
                start = stop
                if self._once:
                    break
            if start < len(steps) and not self._once:
                episodes.append(self._episode(stacks, world, start, len(steps)))
                self._ages[world] += len(steps) - start
        self._first, self._transitions = observations[-1], []
        self._infos = steps[-1].infos
        return episodes

    def _episode(
        self,
        stacks: _Stacks,
        world: int,
        start: int,
        stop: int,
        is_terminated: bool | None = None,
    ) -> SingleAgentEpisode:
        """What a world did in the steps from ``start`` to ``stop``, and how it ended, if it did."""
        rows = (slice(start, stop), world)
        seen = stacks.observations[start : stop + 1, world]
        if is_terminated is not None:  # what follows in the stack is of the next episode
            seen = np.concatenate([seen[:-1], stacks.last[stop - 1 : stop, world]])
        actions: Any = {head: values[rows] for head, values in stacks.actions.items()}
        info = self._infos[world] if self._ages[world] else {}  # of the step before
        return SingleAgentEpisode(
            id_=self._ids[world],
            observations=InfiniteLookbackBuffer(seen),
            observation_space=self._spaces.observation,
            actions=InfiniteLookbackBuffer(actions),
            action_space=self._spaces.action,
            rewards=InfiniteLookbackBuffer(stacks.rewards[rows]),
            infos=[info, *(infos[world] for infos in stacks.infos[start:stop])],
            terminated=is_terminated is True,
            truncated=is_terminated is False,
            extra_model_outputs={
                name: InfiniteLookbackBuffer(values[rows])
                for name, values in stacks.outputs.items()
            },
            t_started=int(self._ages[world]),
            len_lookback_buffer=0,
        )


class LiveEpisodes(EpisodeCollector):
    """Lets every episode grow step by step, for callbacks and connectors that look at it meanwhile.

    Args:
        spaces: Of the episodes.
        notify: Calls the user's ``on_episode_*`` callbacks.
        lookback: Steps of the past that an episode keeps when it is cut.

    Attributes:
        ongoing: The episode that each world is in, or has ended if it plays only one.
    """

    def __init__(self, spaces: Spaces, notify: Notify, lookback: int):
        """Start without episodes."""
        self._spaces = spaces
        self._notify = notify
        self._lookback = lookback
        self.ongoing: list[SingleAgentEpisode] = []

    def begin(self, observation: np.ndarray, *, once: bool = False) -> None:
        """Begin a new episode in every world; see the base class."""
        self._once = once
        self._ended: list[list[SingleAgentEpisode]] = [[] for _ in observation]
        self._chunks: list[list[SingleAgentEpisode]] = [[] for _ in observation]
        self._to_start: list[int] = []
        self.ongoing = [self._new_episode(world, seen) for world, seen in enumerate(observation)]

    def start(self) -> None:
        """Call ``on_episode_start`` for new episodes, whose first observation is now as it stays.

        The connectors have seen it by then.
        """
        for world in self._to_start:
            self._notify("on_episode_start", self.ongoing[world], world)
        self._to_start = []

    def add(self, transition: Transition) -> None:
        """Add a step of all worlds; see the base class."""
        for world, episode in enumerate(self.ongoing):
            if episode.is_done:  # it was to be the only one
                continue
            terminated = bool(transition.terminated[world])
            truncated = bool(transition.truncated[world])
            done = terminated or truncated
            after = transition.last_observation if done else transition.next_observation
            episode.add_env_step(
                observation=after[world],
                action={head: values[world] for head, values in transition.actions.items()},
                reward=transition.reward[world],
                infos=transition.infos[world],
                terminated=terminated,
                truncated=truncated,
                extra_model_outputs={k: v[world] for k, v in transition.outputs.items()},
            )
            self._notify("on_episode_step", episode, world)
            if done:
                chunks = self._chunks[world]
                self._notify("on_episode_end", episode, world, prev_episode_chunks=chunks)
                self._chunks[world] = []
                self._ended[world].append(episode)
                if not self._once:
                    first = transition.next_observation[world]
                    self.ongoing[world] = self._new_episode(world, first)

    def take(self) -> list[SingleAgentEpisode]:
        """Hand over the episodes; see the base class."""
        going_on = [
            episode if episode.is_done else episode.cut(len_lookback_buffer=self._lookback)
            for episode in self.ongoing
        ]
        episodes = []
        for ended, chunks, last in zip(self._ended, self._chunks, self.ongoing, strict=True):
            cut = [last] if len(last) and not last.is_done else []
            chunks += cut
            episodes += [episode.to_numpy() for episode in (*ended, *cut)]
        self.ongoing = going_on
        self._ended = [[] for _ in going_on]
        return episodes

    def _new_episode(self, world: int, observation: np.ndarray) -> SingleAgentEpisode:
        episode = SingleAgentEpisode(
            observation_space=self._spaces.observation, action_space=self._spaces.action
        )
        self._notify("on_episode_created", episode, world)
        episode.add_env_reset(observation)
        self._to_start.append(world)
        return episode


class _Stacks(NamedTuple):
    """Steps of all worlds one upon the other, ``(T, B, ...)``; one more of the observations."""

    observations: np.ndarray
    last: np.ndarray
    rewards: np.ndarray
    actions: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    infos: list[list[dict[str, Any]]]


def _stack(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
