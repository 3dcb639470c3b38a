"""Sampling with credit for each MD: what its decisions were worth, by simulation."""

from __future__ import annotations

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from rllib_mec.algorithms.columns import CREDIT
from rllib_mec.algorithms.distributions import TASK_HEADS, HybridActionDistribution
from rllib_mec.algorithms.env_runner import TaskWindowEnvRunner
from rllib_mec.envs.vector_windows import VectorTaskWindow


class EMHPPOEnvRunner(TaskWindowEnvRunner):
    """Compares each MD's decisions with others it might have drawn, under the same shadowing.

    All MDs get the same reward, most of whose spread is the shadowing. How the tasks of a window
    are done changes nothing after the window, so that the advantage of an MD's decisions about
    them is exactly how much better the window went than with decisions drawn anew for this MD.
    """

    @torch.no_grad()
    def credit(
        self, observation: torch.Tensor, actions: dict[str, np.ndarray]
    ) -> dict[str, torch.Tensor]:
        """The counterfactual advantage of each MD's task decisions, ``(B, N)``.

        Args:
            observation: ``(B, 2N)``.
            actions: What is about to be played.
        """
        samples = self.config.counterfactuals
        if not samples:
            return {}
        outputs = self.module[DEFAULT_MODULE_ID].forward_exploration({Columns.OBS: observation})
        dist = HybridActionDistribution(outputs[Columns.ACTION_DIST_INPUTS], self.layout)
        credit = np.zeros(actions["window"].shape, dtype=np.float32)
        own = self._reward(actions)
        for _ in range(samples):
            drawn = self.layout.playable(dist.sample(generator=self._generator))
            for n in range(self.layout.num_devices):
                changed = {head: actions[head].copy() for head in TASK_HEADS}
                for head in TASK_HEADS:
                    changed[head][:, n] = drawn[head][:, n]
                others = self._reward({**changed, "window": actions["window"]})
                credit[:, n] += (own - others) / samples
        return {CREDIT: torch.from_numpy(credit)}

    def _reward(self, actions: dict[str, np.ndarray]) -> np.ndarray:
        """What the present window would give, ``(B,)``, as the learner sees it."""
        assert isinstance(self.env, VectorTaskWindow)  # the config has checked it
        return self.env.simulate(actions).reward / self.config.reward_scale
