"""Sampling with credit for each MD: what its decisions were worth, by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.policy.sample_batch import SampleBatch

from rllib_mec.algorithms.acting import Decision
from rllib_mec.algorithms.columns import CREDIT
from rllib_mec.algorithms.distributions import TASK_HEADS
from rllib_mec.algorithms.emh_ppo.imitation import Tell, demonstrate
from rllib_mec.algorithms.emh_ppo.teachers import teacher_of
from rllib_mec.algorithms.env_runner import TaskWindowEnvRunner


class EMHPPOEnvRunner(TaskWindowEnvRunner):
    """Compares each MD's decisions with others it might have drawn, under the same shadowing.

    All MDs get the same reward, most of whose spread is the shadowing. How the tasks of a window
    are done changes nothing after the window, so that the advantage of an MD's decisions about
    them is exactly how much better the window went than with decisions drawn anew for this MD.
    """

    def demonstrate(
        self, lesson: int, scenarios: Sequence[int], tell: Tell
    ) -> dict[int, SampleBatch]:
        """Let the teacher of a lesson decide in some of the scenarios.

        What it shows depends on the scenario and the lesson alone, not on who asks for it.

        Args:
            lesson: Counted from 0.
            scenarios: Indices of the pool's.
            tell: Is told the share of them that is done.

        Returns:
            Index -> :func:`~rllib_mec.algorithms.emh_ppo.imitation.demonstrate`'s windows.
        """
        config, pool = self.config, self.pool
        number = -(-config.demonstrations // (len(pool) * config.lessons))
        shown = {}
        for place, index in enumerate(scenarios):
            module = self.module[DEFAULT_MODULE_ID]
            teacher = teacher_of(config, pool.mdps[index], module, lesson)
            scale = pool.reward_scales[index]
            shown[index] = demonstrate(
                *(teacher, number, config, scale, lesson),
                tell=lambda share, place=place: tell((place + share) / len(scenarios)),
            )
        return shown

    def credit(self, env: Any, decision: Decision) -> dict[str, np.ndarray]:
        """The counterfactual advantage of each MD's task decisions, ``(B, N)``.

        Args:
            env: The worlds, before they play the decision.
            decision: What is about to be played.

        Returns:
            It, under its name; nothing if ``counterfactuals`` is 0.
        """
        samples = self.config.counterfactuals
        if not samples:
            return {}

        def reward(actions: dict[str, np.ndarray]) -> np.ndarray:
            """What the window would give, as it is learned from, ``(B,)``.

            Args:
                actions: As ``simulate`` takes them.
            """
            return env.simulate(actions).reward / scale

        scale = self.pool.reward_scales[self.pool.turn(self._weights_seq_no)]
        actions = decision.played
        credit = np.zeros(actions["window"].shape, dtype=np.float32)
        own = reward(actions)
        for _ in range(samples):
            drawn = self.layout.playable(decision.dist.sample(generator=self._generator))
            for n in range(self.layout.num_devices):
                changed = {head: actions[head].copy() for head in TASK_HEADS}
                for head in TASK_HEADS:
                    changed[head][:, n] = drawn[head][:, n]
                others = reward({**changed, "window": actions["window"]})
                credit[:, n] += (own - others) / samples
        return {CREDIT: credit}
