"""The update of a joint module: clipped policy terms, critic, entropy bonus (Section IV-D)."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO
from ray.rllib.utils.schedules.scheduler import Scheduler

from rllib_mec.algorithms.columns import HEAD_LOGP, PLAYED
from rllib_mec.algorithms.distributions import TASK_HEADS, HybridActionDistribution

POLICY_LOSS = "policy_loss"
VF_LOSS = "vf_loss"
KL = "mean_kl"
CLIP_FRACTION = "clip_fraction"
ENTROPY_COEFF = "curr_entropy_coeff"
EXPLAINED_VARIANCE = "vf_explained_variance"


class ClippedTerm(NamedTuple):
    """A part of the policy's loss whose probability ratios are clipped by themselves (Eq. 17).

    Attributes:
        name: Under which its loss is logged.
        log_ratio: Logarithm of new over old probability, ``(B, ...)``.
        advantages: Broadcasts to ``log_ratio``.
        mask: 1 where something was decided, 0 elsewhere; shaped as ``log_ratio``.
        weight: Factor of the sum over all but the first dimension.
    """

    name: str
    log_ratio: torch.Tensor
    advantages: torch.Tensor
    mask: torch.Tensor
    weight: float = 1.0


class JointPPOTorchLearner(TorchLearner):
    """Updates the joint module of all MDs from a batch of task windows.

    The batch has, per window: ``obs`` ``(2N,)``; the heads' actions ``(N, D)`` (``window``
    ``(N,)``) and, at sampling time, their log-probabilities; ``played`` ``(N, D)``: which decisions
    were about any task; ``advantages`` and ``value_targets`` ``(V,)``; ``window_advantages``.
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

    @abc.abstractmethod
    def policy_terms(
        self, log_ratio: dict[str, torch.Tensor], played: torch.Tensor, batch: dict[str, Any]
    ) -> list[ClippedTerm]:
        """What the policy's loss consists of: which decisions share a ratio and an advantage.

        Args:
            log_ratio: Of each head, ``(B, N, D)``, ``window`` ``(B, N)``; 0 where nothing was
                decided.
            played: 1 where a decision was about any task, ``(B, N, D)``. An MD decides nothing at
                all where ``played[..., 0]`` is 0: its queue is empty.
            batch: The whole minibatch.

        Returns:
            The terms; the first one's ratios are those of the logged KL divergence.
        """

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss: the policy's terms of Eq. (17), the critic's of Eq. (20), an entropy bonus."""
        module = self.module[module_id].unwrapped()
        dist = HybridActionDistribution(fwd_out[Columns.ACTION_DIST_INPUTS], module.layout)
        played = batch[PLAYED]
        active = played[..., 0]

        log_ratio = {
            head: (logp - batch[HEAD_LOGP[head]]) * (active if head == "window" else played)
            for head, logp in dist.head_logp(batch).items()
        }
        terms = self.policy_terms(log_ratio, played, batch)
        policy_losses = {term.name: _clipped_loss(term, config.clip_param) for term in terms}

        entropies = dist.entropies()
        num_played = played.sum().clamp(min=1.0)
        entropy = {h: (entropies[h] * played).sum() / num_played for h in TASK_HEADS}
        entropy["window"] = (entropies["window"] * active).sum() / active.sum().clamp(min=1.0)
        # Of the same scale as the losses beside it: summed over MDs, averaged over decisions.
        bonus = (entropies["window"] * active).sum(1).mean() + sum(
            (entropies[h] * played).sum((1, 2)).mean() / played.shape[-1] for h in TASK_HEADS
        )

        values = module.compute_values(batch)
        targets = batch[Columns.VALUE_TARGETS]
        vf_loss = 0.5 * (values - targets).square().mean()

        kl, clip_fraction = _distance_from_old(terms[0], config.clip_param)
        self.metrics.log_dict(
            {
                **{name: loss.detach() for name, loss in policy_losses.items()},
                VF_LOSS: vf_loss.detach(),
                KL: kl,
                CLIP_FRACTION: clip_fraction,
                EXPLAINED_VARIANCE: 1
                - (targets - values.detach()).var() / targets.var().clamp(min=1e-8),
                **{f"entropy_{head}": value.detach() for head, value in entropy.items()},
            },
            key=module_id,
            reduce="mean",
        )
        coeff = self._entropy_schedule.get_current_value()
        policy_loss: Any = sum(policy_losses.values())
        return policy_loss + config.vf_loss_coeff * vf_loss - coeff * bonus

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


def _clipped_loss(term: ClippedTerm, clip: float) -> torch.Tensor:
    """Minus Eq. (17), summed over what was decided in a window, averaged over windows."""
    ratio = term.log_ratio.exp()
    surrogate = torch.minimum(
        ratio * term.advantages, ratio.clamp(1 - clip, 1 + clip) * term.advantages
    )
    total = (surrogate * term.mask).sum() / len(surrogate)
    return -term.weight * total


@torch.no_grad()
def _distance_from_old(term: ClippedTerm, clip: float) -> tuple[torch.Tensor, torch.Tensor]:
    """KL divergence of the old policy from the new one, and the share of clipped ratios."""
    count = term.mask.sum().clamp(min=1.0)
    ratio = term.log_ratio.exp()
    # Schulman's estimator k3: never negative.
    kl = ((ratio - 1 - term.log_ratio) * term.mask).sum() / count
    return kl, (((ratio - 1).abs() > clip) * term.mask).sum() / count
