"""EMH-PPO's loss: PPO-clip per agent and task slot, beside one for the window sizes (Eq. 19)."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import POLICY_LOSS_KEY
from ray.rllib.policy.sample_batch import SampleBatch

from rllib_mec.algorithms.columns import CREDIT, WINDOW_ADVANTAGES
from rllib_mec.algorithms.distributions import TASK_HEADS
from rllib_mec.algorithms.emh_ppo.imitation import Tell, imitate
from rllib_mec.algorithms.joint_ppo.learner import (
    ClippedTerm,
    JointPPOTorchLearner,
)
from rllib_mec.algorithms.randomize import Pool, is_randomized

WINDOW_LOSS = "window_loss"


class EMHPPOTorchLearner(JointPPOTorchLearner):
    """Every task slot of every MD has its own probability ratio and its own advantage."""

    def imitate(self, *demonstrations: SampleBatch, tell: Tell) -> None:
        """Warm start the module; every learner does the same, so that they stay equal.

        Args:
            *demonstrations: Of :func:`~rllib_mec.algorithms.emh_ppo.imitation.demonstrate`, in each
                scenario that is trained on.
            tell: Is told the share of the work that is done.
        """
        config = self.config
        imitate(
            self.module[DEFAULT_MODULE_ID].unwrapped(),
            *demonstrations,
            mdps=Pool.of(config).mdps if is_randomized(config) else (),
            num_epochs=config.imitation_epochs,
            seed=config.seed or 0,
            tell=tell,
        )

    def policy_terms(
        self, log_ratio: dict[str, torch.Tensor], played: torch.Tensor, batch: dict[str, Any]
    ) -> list[ClippedTerm]:
        """Eq. (19), and the window head with the advantage of the whole window.

        See the base class.
        """
        if CREDIT in batch:
            advantages = batch[CREDIT].unsqueeze(2).expand_as(played)
        else:
            advantages = batch[Columns.ADVANTAGES].unsqueeze(1)
        task = ClippedTerm(
            POLICY_LOSS_KEY,
            torch.stack([log_ratio[head] for head in TASK_HEADS]).sum(0),
            advantages,
            played,
            weight=1.0 / played.shape[-1],
        )
        window = ClippedTerm(
            WINDOW_LOSS,
            log_ratio["window"],
            batch[WINDOW_ADVANTAGES].unsqueeze(1),
            played[..., 0],
        )
        return [task, window]
