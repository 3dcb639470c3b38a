"""One episode of one world, step by step: what pictures of an episode are drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from rllib_mec.envs.episodes import Decide
from rllib_mec.envs.mdp import MDP
from rllib_mec.network.checks import whole_number
from rllib_mec.viz.gantt import WAITING, Block, blocks_of


@dataclasses.dataclass(frozen=True)
class RecordedStep:
    """A task window or time slot.

    Attributes:
        start_ms: When it began, since the episode's start.
        latency_ms: How long it took.
        queues: Tasks left, or at hand, of every MD when it began, ``(N,)`` int.
        window_size: Tasks that every MD finished in it, ``(N,)`` int.
        stage_ends: When the stages of its tasks ended, ``(N, tasks, 3)``, ms since its start; of a
            task that goes on after a slot, the slot's end; 0 where there is none.
        reward: Its reward.
        starts: When its tasks began, ``(N, tasks)``, ms since its start; ``None`` where each begins
            as the one before ends.
    """

    start_ms: float
    latency_ms: float
    queues: np.ndarray
    window_size: np.ndarray
    stage_ends: np.ndarray
    reward: float
    starts: np.ndarray | None = None

    @property
    def end_ms(self) -> float:
        """When it ended, since the episode's start."""
        return self.start_ms + self.latency_ms


@dataclasses.dataclass(frozen=True)
class Recording:
    """An episode, or its beginning.

    Attributes:
        mdp: What ran.
        steps: Its steps, at least one.
        energy_j: Energy of all MDs.
        is_whole: Whether it went on to the episode's end.
    """

    mdp: MDP
    steps: tuple[RecordedStep, ...]
    energy_j: float
    is_whole: bool

    @property
    def num_devices(self) -> int:
        """N."""
        return self.mdp.scenario.num_devices

    @property
    def latency_ms(self) -> float:
        """When the last step ended."""
        return self.steps[-1].end_ms

    @property
    def num_done(self) -> int:
        """Tasks finished."""
        return sum(int(step.window_size.sum()) for step in self.steps)

    @property
    def reward(self) -> float:
        """Mean reward of a step."""
        return float(np.mean([step.reward for step in self.steps]))

    def blocks(self) -> list[Block]:
        """All stretches of all MDs' time, in ms and tasks since the episode's start.

        A stage that goes on from one slot to the next is one.
        """
        # In time slots nobody waits for anybody: who has nothing to do has no tasks left.
        waits = self.mdp.waits_for_all
        done = np.zeros(self.num_devices, dtype=np.int64)
        found: list[list[Block]] = [[] for _ in range(self.num_devices)]
        for step in self.steps:
            tasks = (step.stage_ends[..., 2] > 0.0).sum(1)
            for block in blocks_of(step.stage_ends, tasks, step.starts):
                if block.stage == WAITING and not waits:
                    continue
                own = found[block.device]
                block = block._replace(
                    task=block.task + int(done[block.device]),
                    start_ms=block.start_ms + step.start_ms,
                    end_ms=block.end_ms + step.start_ms,
                )
                if own and own[-1][:3] == block[:3] and own[-1].end_ms == block.start_ms:
                    block = block._replace(start_ms=own.pop().start_ms)
                own.append(block)
            done += step.window_size
        return [block for own in found for block in own]

    def task_ends(self) -> tuple[np.ndarray, np.ndarray]:
        """MD and time of each finished task, both ``(tasks,)``, in ms since the start."""
        devices, ends = [], []
        for step in self.steps:
            records = np.arange(step.stage_ends.shape[1])
            rows, tasks = np.nonzero(records < step.window_size[:, None])
            devices.append(rows)
            ends.append(step.start_ms + step.stage_ends[rows, tasks, 2])
        return np.concatenate(devices), np.concatenate(ends)


def record_episode(
    decide: Decide,
    mdp: MDP,
    *,
    seed: int = 0,
    num_tasks: int | Sequence[int] | None = None,
    distance_m: float | Sequence[float] | None = None,
    max_steps: int | None = None,
) -> Recording:
    """Run one episode and keep what happened.

    Args:
        decide: The policy.
        mdp: What to run.
        seed: Seed of the world: that of episode ``i`` of an evaluation is the evaluation's plus i.
        num_tasks: Tasks of every MD, or of each; drawn if ``None``.
        distance_m: Distance of every MD to the base station, or of each; drawn if ``None``.
        max_steps: Stop after so many steps.

    Raises:
        MecError: An argument is out of its range.
    """
    if max_steps is not None:
        whole_number("max_steps", max_steps)
    worlds = mdp.make(1, seed, num_tasks=num_tasks, distance_m=distance_m)
    observation = worlds.reset()
    steps: list[RecordedStep] = []
    energy_j, is_over = 0.0, False
    while not is_over and len(steps) != max_steps:
        queues, start_ms = worlds.queues[0], float(worlds.clock_ms[0])
        step = worlds.step(decide(observation))
        observation, is_over = step.observation, bool(step.ended[0])
        energy_j += float(step.energy_j[0])
        steps.append(
            RecordedStep(
                start_ms=start_ms,
                latency_ms=float(step.elapsed_ms[0]),
                queues=queues,
                window_size=step.window_size[0],
                stage_ends=step.stage_ends[0],
                reward=float(step.reward[0]),
                starts=None if step.starts is None else step.starts[0],
            )
        )
    return Recording(mdp, tuple(steps), energy_j, is_over)
