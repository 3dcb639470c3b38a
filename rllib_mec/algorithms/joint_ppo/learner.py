"""The update of a joint module: clipped policy terms, critic, entropy bonus (Section IV-D)."""

from __future__ import annotations

import abc
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import torch
from ray.rllib.algorithms.ppo.ppo import (
    LEARNER_RESULTS_KL_KEY,
    LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY,
    LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY,
)
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.learner import AddOneTsToEpisodesAndTruncate, GeneralAdvantageEstimation
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import VF_LOSS_KEY
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from rllib_mec.algorithms.columns import PLAYED, TASK_LOGP, WINDOW_LOGP
from rllib_mec.algorithms.distributions import TASK_HEADS, HybridActionDistribution
from rllib_mec.algorithms.diverged import TrainingDiverged

CLIP_FRACTION = "clip_fraction"
COMPONENT_CONNECTOR = "learner_connector"
GRADIENTS_NORM = "gradients_default_optimizer_global_norm"
KL_COEFFS = "kl_coeffs"


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


class JointPPOTorchLearner(PPOTorchLearner):
    """Updates the joint module of all MDs from episodes of task windows.

    It is PPO's learner with another loss, and with one advantage for each task slot: see
    :meth:`~rllib_mec.algorithms.joint_ppo.JointPPOConfig.build_learner_connector` for how the batch
    is made, which has, per window,
    ``obs`` ``(2N,)``; the heads' actions ``(N, D)`` (``window`` ``(N,)``); their log-probabilities
    at sampling time, ``task_logp`` ``(N, D, 4)`` and ``window_logp`` ``(N,)``; ``played``
    ``(N, D)``: which decisions were about any task; ``advantages`` and ``value_targets`` ``(V,)``;
    ``window_advantages``.
    """

    # Ray types these as what any learner may have; here they are more, and never None.
    config: Any
    module: Any
    _learner_connector: Any

    def build(self) -> None:
        """Build module, optimizer, schedules and the connectors from episodes to batch."""
        super().build()
        if self.config.add_default_connectors_to_learner_pipeline:
            # Ours are in the pipeline already: they know of task slots.
            for piece in (AddOneTsToEpisodesAndTruncate, GeneralAdvantageEstimation):
                self._learner_connector.remove(piece)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Adam over actor and critic (Table III), fused: one pass over all parameters a step.

        See the base class.
        """
        params: Any = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(params, eps=1e-5, fused=True),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Make the minibatch order depend on seed and update only, so that runs resume exactly.

        See the base class.
        """
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
        """The loss: the policy's terms of Eq. (17), the critic's of Eq. (20), an entropy bonus.

        See the base class.
        """
        module = self.module[module_id].unwrapped()
        dist = HybridActionDistribution(fwd_out[Columns.ACTION_DIST_INPUTS], module.layout)
        played = batch[PLAYED]
        decided = {**dict.fromkeys(TASK_HEADS, played), "window": played[..., 0]}

        task_logp = zip(TASK_HEADS, batch[TASK_LOGP].unbind(-1), strict=True)
        old_logp: dict[str, Any] = {**dict(task_logp), "window": batch[WINDOW_LOGP]}
        log_ratio = {
            head: (logp - old_logp[head]) * decided[head]
            for head, logp in dist.head_logp(batch).items()
        }
        terms = self.policy_terms(log_ratio, played, batch)
        policy_losses = {term.name: _clipped_loss(term, config.clip_param) for term in terms}
        loss: Any = sum(policy_losses.values())

        entropies = {head: value * decided[head] for head, value in dist.entropies().items()}
        # Of the same scale as the losses beside it: summed over MDs, averaged over decisions.
        bonus = entropies["window"].sum(1).mean() + sum(
            entropies[head].sum((1, 2)).mean() / played.shape[-1] for head in TASK_HEADS
        )
        log = {}
        if config.use_critic:
            values = module.compute_values(batch, embeddings=fwd_out.get(Columns.EMBEDDINGS))
            targets = batch[Columns.VALUE_TARGETS]
            errors = (values - targets).square()
            vf_loss = unclipped = 0.5 * errors.mean()
            if config.vf_clip_param is not None:
                vf_loss = 0.5 * errors.clamp(max=config.vf_clip_param).mean()
            loss = loss + config.vf_loss_coeff * vf_loss
            log = {
                VF_LOSS_KEY: vf_loss.detach(),
                LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY: unclipped.detach(),
                LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: 1
                - (targets - values.detach()).var() / targets.var().clamp(min=1e-8),
            }
        coeff = self.entropy_coeff_schedulers_per_module[module_id].get_current_value()
        loss = loss - coeff * bonus
        kl, clip_fraction = _distance_from_old(terms[0], config.clip_param)
        if config.use_kl_loss:
            old = HybridActionDistribution(batch[Columns.ACTION_DIST_INPUTS], module.layout)
            kl = _mean_kl(old, dist, played)
            kl_coeff: Any = self.curr_kl_coeffs_per_module[module_id]
            loss = loss + kl_coeff * kl
        self.metrics.log_dict(
            {
                **{name: value.detach() for name, value in policy_losses.items()},
                **log,
                LEARNER_RESULTS_KL_KEY: kl.detach(),
                CLIP_FRACTION: clip_fraction,
                **{
                    f"entropy_{head}": value.detach().sum() / decided[head].sum().clamp(min=1.0)
                    for head, value in entropies.items()
                },
            },
            key=module_id,
            reduce="mean",
        )
        return loss

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any = None, module_gradients_dict: dict[Any, Any]
    ) -> dict[Any, Any]:
        """Clip the gradients as RLlib does, all at once, where it is by their global norm.

        See the base class.
        """
        if config.grad_clip is None or config.grad_clip_by != "global_norm":
            return super().postprocess_gradients_for_module(
                module_id=module_id, config=config, module_gradients_dict=module_gradients_dict
            )
        gradients = [
            gradient for gradient in module_gradients_dict.values() if gradient is not None
        ]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.metrics.log_value((module_id, GRADIENTS_NORM), norm, window=1)
        if norm + 1e-6 > config.grad_clip:
            scale = config.grad_clip / (norm + 1e-6)
            for gradient in gradients:
                gradient.mul_(scale)
        return module_gradients_dict

    def apply_gradients(self, gradients_dict: dict[Any, Any]) -> None:
        """Step the optimizer; RLlib's way to it, which looks at each gradient twice, if need be.

        See the base class.
        """
        config = self.config
        plain = not (config._torch_grad_scaler_class or config._torch_lr_scheduler_classes)
        gradients = [gradient for gradient in gradients_dict.values() if gradient is not None]
        if plain and bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
            for module_id in self.module.keys():
                for _, optimizer in self.get_optimizers_for_module(module_id):
                    optimizer.step()
        else:
            super().apply_gradients(gradients_dict)

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Move what has a schedule, and the KL coefficient, along; see the base class.

        Raises:
            TrainingDiverged: A weight is no longer finite.
        """
        super().after_gradient_based_update(timesteps=timesteps)
        for module_id in self.module.keys():
            params: Any = self.get_parameters(self.module[module_id])
            if not all(bool(torch.isfinite(param).all()) for param in params):
                raise TrainingDiverged(
                    f"training diverged at iteration {self._weights_seq_no}: weights are not finite"
                )

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state, the connectors' and the KL coefficients, so that a run resumes exactly.

        See the base class.
        """
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(COMPONENT_CONNECTOR, components, not_components):
            state[COMPONENT_CONNECTOR] = self._learner_connector.get_state()
            state[KL_COEFFS] = {
                module_id: float(self.curr_kl_coeffs_per_module[module_id])
                for module_id in self.module.keys()
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state, also one older than this learner's weights; see the base class.

        RLlib keeps the newer weights of the two; a restored checkpoint must win.
        """
        self._weights_seq_no = min(self._weights_seq_no, state.get(WEIGHTS_SEQ_NO, 0) - 1)
        super().set_state(state)
        self._learner_connector.set_state(state.get(COMPONENT_CONNECTOR, {}))
        for module_id, coeff in state.get(KL_COEFFS, {}).items():
            current: Any = self.curr_kl_coeffs_per_module[module_id]
            current.fill_(coeff)


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


def _mean_kl(
    old: HybridActionDistribution, new: HybridActionDistribution, played: torch.Tensor
) -> torch.Tensor:
    """KL divergence of the old policy from the new one, per decision about a task or a window."""
    kl = old.head_kl(new)
    active = played[..., 0]
    tasks = sum(kl[head] for head in TASK_HEADS) * played
    window = kl["window"] * active
    return tasks.sum() / played.sum().clamp(min=1.0) + window.sum() / active.sum().clamp(min=1.0)
