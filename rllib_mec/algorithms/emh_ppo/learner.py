"""EMH-PPO's loss: PPO-clip per agent and task slot, and a per-task critic (Section IV-D)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO
from ray.rllib.utils.schedules.scheduler import Scheduler

from rllib_mec.algorithms.columns import PLAYED, TASK_LOGP, WINDOW_ADVANTAGES, WINDOW_LOGP
from rllib_mec.algorithms.distributions import HEADS, HybridActionDistribution

POLICY_LOSS = "policy_loss"
WINDOW_LOSS = "window_loss"
VF_LOSS = "vf_loss"
KL = "mean_kl"
CLIP_FRACTION = "clip_fraction"
ENTROPY_COEFF = "curr_entropy_coeff"
EXPLAINED_VARIANCE = "vf_explained_variance"


class EMHPPOTorchLearner(TorchLearner):
    """Updates the joint module of all MDs from a batch of task windows.

    The batch has, per window: ``obs`` ``(2N,)``; the heads' actions ``(N, W_max)`` (``window``
    ``(N,)``); ``task_logp`` ``(N, W_max)`` and ``window_logp`` ``(N,)`` at sampling time;
    ``played`` ``(N, W_max)``; ``advantages`` and ``value_targets`` ``(W_max,)``;
    ``window_advantages``.
    """

    # Ray types these as what any learner may have; here they are more, and never None.
    config: Any
    module: Any

    def build(self) -> None:
        """Build module, optimizer and the entropy schedule."""
        super().build()
        self._entropy_schedule = Scheduler(
            fixed_value_or_schedule=self.config.entropy_coeff,
            framework=self.framework,
            device=self._device,  # type: ignore[arg-type]  # annotated as str, used as device
        )

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """What a module must offer to be updated here."""
        return [ValueFunctionAPI]

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Adam over actor and critic (Table III), fused: one pass over all parameters a step."""
        params: Any = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(params, eps=1e-5, fused=True),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Make the minibatch order depend on seed and update only, so that runs resume exactly."""
        super().before_gradient_based_update(timesteps=timesteps)
        if self.config.seed is not None:
            np.random.seed([self.config.seed, self._weights_seq_no])  # RLlib shuffles with it

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss of Eq. (17), (19) and (20), with an entropy bonus.

        Every task slot of every MD has its own probability ratio, clipped by itself; slots that
        were not played are masked out. As in Eq. (19), the sum over MDs and slots is divided by
        W_max. The window head's ratio stands beside it, with the advantage of the whole window.
        """
        module = self.module[module_id].unwrapped()
        dist = HybridActionDistribution(fwd_out[Columns.ACTION_DIST_INPUTS], module.layout)
        max_window = module.layout.max_window
        played = batch[PLAYED]
        active = played[..., 0]  # an MD with an empty queue decides nothing

        advantages = batch[Columns.ADVANTAGES].unsqueeze(1)  # (B, 1, W_max)
        log_ratio = (dist.task_logp(batch) - batch[TASK_LOGP]) * played
        surrogate, clipped = _clipped_surrogate(log_ratio, advantages, config.clip_param)
        policy_loss = -(surrogate * played).sum((1, 2)).mean() / max_window

        window_log_ratio = (dist.window_logp(batch) - batch[WINDOW_LOGP]) * active
        window_surrogate, _ = _clipped_surrogate(
            window_log_ratio, batch[WINDOW_ADVANTAGES].unsqueeze(1), config.clip_param
        )
        window_loss = -(window_surrogate * active).sum(1).mean()

        entropies = dist.entropies()
        num_played = played.sum().clamp(min=1.0)
        entropy = {h: (entropies[h] * played).sum() / num_played for h in HEADS[:4]}
        entropy["window"] = (entropies["window"] * active).sum() / active.sum().clamp(min=1.0)
        # Of the same scale as the losses beside it: summed over MDs, averaged over slots.
        bonus = (
            sum((entropies[h] * played).sum((1, 2)).mean() / max_window for h in HEADS[:4])
            + config.window_entropy_factor * (entropies["window"] * active).sum(1).mean()
        )

        values = module.compute_values(batch)
        targets = batch[Columns.VALUE_TARGETS]
        vf_loss = 0.5 * (values - targets).square().mean()

        self.metrics.log_dict(
            {
                POLICY_LOSS: policy_loss.detach(),
                WINDOW_LOSS: window_loss.detach(),
                VF_LOSS: vf_loss.detach(),
                # Schulman's estimator k3: never negative.
                KL: ((log_ratio.exp() - 1 - log_ratio) * played).sum().detach() / num_played,
                CLIP_FRACTION: (clipped * played).sum() / num_played,
                EXPLAINED_VARIANCE: 1
                - (targets - values.detach()).var() / targets.var().clamp(min=1e-8),
                **{f"entropy_{head}": value.detach() for head, value in entropy.items()},
            },
            key=module_id,
            reduce="mean",
        )
        coeff = self._entropy_schedule.get_current_value()
        return policy_loss + window_loss + config.vf_loss_coeff * vf_loss - coeff * bonus

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Move the learning rate and the entropy coefficient along their schedules."""
        super().after_gradient_based_update(timesteps=timesteps)
        coeff = self._entropy_schedule.update(
            timestep=timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        )
        for module_id in self.module.keys():
            self.metrics.log_value((module_id, ENTROPY_COEFF), coeff, window=1)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state, also one older than this learner's weights.

        RLlib keeps the newer weights of the two; a restored checkpoint must win.
        """
        self._weights_seq_no = min(self._weights_seq_no, state.get(WEIGHTS_SEQ_NO, 0) - 1)
        super().set_state(state)


def _clipped_surrogate(
    log_ratio: torch.Tensor, advantages: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. (17) without the expectation, and where the clipping binds."""
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio * advantages, bounded * advantages), (ratio != bounded).float()
