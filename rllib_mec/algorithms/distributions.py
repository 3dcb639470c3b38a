"""The hybrid action distribution: categorical and Gaussian heads for every MD and task slot."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.distribution.distribution import Distribution

from rllib_mec.envs.masks import MASKS
from rllib_mec.envs.mdp import MDP

TASK_HEADS = ("partition", "channel", "server", "power")
"""Heads that decide about tasks."""

HEADS = (*TASK_HEADS, "window")
"""Heads of an agent network: four per decision about tasks, and the window size (Eq. 7)."""

LOG_STD_RANGE = (-4.0, 0.5)

MASKED = -1e9
"""Logit of a choice that may not be taken: its probability is 0 exactly, and no number infinite."""


@dataclasses.dataclass(frozen=True)
class HybridActionLayout:
    """Sizes of the hybrid action, and where each head lies in an agent network's output.

    Attributes:
        num_devices: N, the MDs.
        max_window: W_max, the task slots of a window.
        num_points: S, the partition points.
        num_channels: C.
        num_servers: M.
        num_decisions: D, decisions of an MD about the tasks of a window: W_max, one for each, or 1,
            which they all share.
    """

    num_devices: int
    max_window: int
    num_points: int
    num_channels: int
    num_servers: int
    num_decisions: int

    @classmethod
    def from_space(cls, space: gym.spaces.Dict) -> HybridActionLayout:
        """The layout of the joint action space that :meth:`joint_space` makes.

        Args:
            space: Made by :meth:`joint_space`.
        """
        num_devices, num_decisions = space["power"].shape  # type: ignore[misc]
        sizes = {head: int(space[head].nvec.flat[0]) for head in HEADS if head != "power"}  # type: ignore[attr-defined]
        return cls(
            num_devices=num_devices,
            max_window=sizes["window"],
            num_points=sizes["partition"],
            num_channels=sizes["channel"],
            num_servers=sizes["server"],
            num_decisions=num_decisions,
        )

    @classmethod
    def of(cls, mdp: MDP, *, per_task: bool = True) -> HybridActionLayout:
        """The layout of the joint action in an MDP.

        Args:
            mdp: The MDP.
            per_task: Whether each task of a window has a decision of its own.
        """
        scenario = mdp.scenario
        return cls(
            num_devices=scenario.num_devices,
            max_window=scenario.max_window,
            num_points=scenario.num_points,
            num_channels=scenario.num_channels,
            num_servers=scenario.num_servers,
            num_decisions=scenario.max_window if per_task else 1,
        )

    def joint_space(self) -> gym.spaces.Dict:
        """The joint action of all MDs: arrays ``(N, D)``, and ``window`` ``(N,)``."""
        shape = (self.num_devices, self.num_decisions)

        def discrete(size: int, shape: tuple[int, ...] = shape) -> gym.spaces.MultiDiscrete:
            """So many choices, ``shape`` times.

            Args:
                size: Choices of each number.
                shape: Of the numbers.
            """
            return gym.spaces.MultiDiscrete(np.full(shape, size))

        return gym.spaces.Dict(
            partition=discrete(self.num_points),
            channel=discrete(self.num_channels),
            server=discrete(self.num_servers),
            power=gym.spaces.Box(0.0, 1.0, shape),
            window=discrete(self.max_window, (self.num_devices,)),
        )

    @property
    def decision_sizes(self) -> tuple[int, ...]:
        """Network outputs per decision: logits of three heads, power's mean and log std."""
        return (self.num_points, self.num_channels, self.num_servers, 1, 1)

    @property
    def num_inputs(self) -> int:
        """Network outputs per MD."""
        return self.num_decisions * sum(self.decision_sizes) + self.max_window

    def masked(self, inputs: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Network outputs without the choices that may not be taken.

        Args:
            inputs: ``(B, N, num_inputs)``.
            batch: With some of the columns of :data:`~rllib_mec.envs.masks.MASKS`, or none.

        Returns:
            Of the same shape: the same, if it has none.
        """
        given = {head: batch[column] for head, column in MASKS.items() if column in batch}
        if not given:
            return inputs
        parts = []
        for head, size in zip((*TASK_HEADS, "std"), self.decision_sizes, strict=True):
            shape = (*inputs.shape[:-1], size)
            parts.append(given.get(head, inputs.new_ones(shape)).to(torch.bool))
        decision = torch.cat(parts, dim=-1)
        window = given.get("window", inputs.new_ones((*inputs.shape[:-1], self.max_window)))
        may = torch.cat([*[decision] * self.num_decisions, window.to(torch.bool)], dim=-1)
        return inputs.masked_fill(~may, MASKED)

    def playable(
        self, actions: Mapping[str, torch.Tensor] | Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Drawn actions as the worlds take them.

        Args:
            actions: As of :meth:`HybridActionDistribution.sample`, tensors or arrays.

        Returns:
            Arrays ``(..., N, W_max)``, and ``window`` ``(..., N)``: the power is clipped to [0, 1],
            and a decision that all tasks share stands at each of them.
        """
        played = {"window": np.asarray(actions["window"])}
        for head in TASK_HEADS:
            values = np.asarray(actions[head])
            played[head] = np.broadcast_to(values, (*values.shape[:-1], self.max_window))
        return {**played, "power": played["power"].clip(0.0, 1.0)}


class HybridActionDistribution(Distribution):
    """Independent heads: categorical for discrete decisions, Gaussian for the power (Eq. 16).

    The power's Gaussian has its mean in (0, 1); a sample may lie outside and is clipped when
    played, while its log-probability is that of the unclipped sample.

    Args:
        inputs: Network outputs ``(..., N, layout.num_inputs)``.
        layout: Sizes of the action.
    """

    def __init__(self, inputs: torch.Tensor, layout: HybridActionLayout):
        """Split ``inputs`` into heads."""
        super().__init__()
        self.layout = layout
        decisions = inputs[..., : -layout.max_window].unflatten(-1, (layout.num_decisions, -1))
        partition, channel, server, mean, log_std = decisions.split(layout.decision_sizes, dim=-1)
        self._log_probs = {
            "partition": _log_softmax(partition),
            "channel": _log_softmax(channel),
            "server": _log_softmax(server),
            "window": _log_softmax(inputs[..., -layout.max_window :]),
        }
        self._mean = mean.squeeze(-1).sigmoid()
        self._log_std = log_std.squeeze(-1).clamp(*LOG_STD_RANGE)

    @classmethod
    def from_logits(cls, logits: torch.Tensor, **kwargs: Any) -> HybridActionDistribution:
        """The distribution of network outputs.

        Args:
            logits: Network outputs ``(..., N, layout.num_inputs)``.
            **kwargs: ``layout``.
        """
        return cls(logits, kwargs["layout"])

    @staticmethod
    def required_input_dim(space: gym.Space, **kwargs: Any) -> int:
        """Network outputs per MD for the joint action space.

        Args:
            space: Made by :meth:`HybridActionLayout.joint_space`.
            **kwargs: Unused, for RLlib's interface.
        """
        return HybridActionLayout.from_space(space).num_inputs  # type: ignore[arg-type]

    def sample(
        self, *, generator: torch.Generator | None = None, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """Draw an action.

        Args:
            generator: Source of randomness, torch's global one by default.
            **kwargs: Unused, for RLlib's interface.

        Returns:
            ``partition``, ``channel``, ``server`` and ``power`` as ``(..., N, D)``, ``window`` as
            ``(..., N)``.
        """
        actions = {}
        for head, log_probs in self._log_probs.items():
            # Gumbel-max: one vectorised draw for all MDs and slots.
            uniform = torch.rand(log_probs.shape, generator=generator, device=log_probs.device)
            gumbel = -torch.log(-torch.log(uniform.clamp_(1e-20, 1.0 - 1e-7)))
            actions[head] = _argmax(log_probs + gumbel)
        noise = torch.randn(self._mean.shape, generator=generator, device=self._mean.device)
        actions["power"] = self._mean + self._log_std.exp() * noise
        return actions

    def rsample(self, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Not differentiable through its discrete heads; see the base class.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a hybrid action cannot be sampled differentiably")

    def mode(self) -> dict[str, torch.Tensor]:
        """The most likely action, shaped as in :meth:`sample`."""
        actions = {head: _argmax(log_probs) for head, log_probs in self._log_probs.items()}
        return {**actions, "power": self._mean}

    def to_deterministic(self) -> DeterministicHybridAction:
        """This distribution with all its mass on :meth:`mode`, as RLlib asks for it."""
        return DeterministicHybridAction(self)

    def head_logp(self, actions: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Log-probability of each head's part of an action.

        Args:
            actions: Shaped as in :meth:`sample`.

        Returns:
            ``(..., N, D)`` for each head, ``window`` ``(..., N)``.
        """
        logp = {
            head: _pick(log_probs, actions[head]) for head, log_probs in self._log_probs.items()
        }
        z = (actions["power"] - self._mean) * torch.exp(-self._log_std)
        logp["power"] = -0.5 * z.square() - self._log_std - 0.9189385332046727  # log sqrt(2 pi)
        return logp

    def logp(self, value: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
        """Log-probability of the joint action of all MDs, ``(...)``.

        Args:
            value: Shaped as in :meth:`sample`.
            **kwargs: Unused, for RLlib's interface.
        """
        logp = self.head_logp(value)
        return sum(logp[h].sum((-1, -2)) for h in TASK_HEADS) + logp["window"].sum(-1)  # type: ignore[return-value]

    def entropies(self) -> dict[str, torch.Tensor]:
        """Entropy of each head in nats: ``(..., N, D)``, ``window`` ``(..., N)``."""
        entropy = {head: -(lp.exp() * lp).sum(-1) for head, lp in self._log_probs.items()}
        return {**entropy, "power": self._log_std + 1.4189385332046727}  # + log sqrt(2 pi e)

    def entropy(self, **kwargs: Any) -> torch.Tensor:
        """Entropy of the joint action of all MDs, ``(...)``; see the base class."""
        entropy = self.entropies()
        tasks = sum(entropy[head] for head in TASK_HEADS)
        return tasks.sum((-1, -2)) + entropy["window"].sum(-1)  # type: ignore[union-attr]

    def head_kl(self, other: HybridActionDistribution) -> dict[str, torch.Tensor]:
        """KL divergence of ``other`` from this distribution, E_self[log self - log other], by head.

        Args:
            other: Of the same shape.

        Returns:
            ``(..., N, D)`` for each head, ``window`` ``(..., N)``; nats.
        """
        kl = {
            head: (log_probs.exp() * (log_probs - other._log_probs[head])).sum(-1)
            for head, log_probs in self._log_probs.items()
        }
        variance_ratio = torch.exp(2 * (self._log_std - other._log_std))
        shift = ((self._mean - other._mean) * torch.exp(-other._log_std)).square()
        kl["power"] = 0.5 * (variance_ratio + shift - 1.0) + other._log_std - self._log_std
        return kl

    def kl(self, other: Distribution, **kwargs: Any) -> torch.Tensor:
        """KL divergence of ``other`` from this distribution, of the joint action, ``(...)``.

        Args:
            other: Of the same shape.
            **kwargs: Unused, for RLlib's interface.
        """
        assert isinstance(other, HybridActionDistribution)
        kl = self.head_kl(other)
        return sum(kl[head] for head in TASK_HEADS).sum((-1, -2)) + kl["window"].sum(-1)  # type: ignore[union-attr]


class DeterministicHybridAction:
    """The most likely action of a distribution, with the ``sample`` that RLlib calls."""

    def __init__(self, distribution: HybridActionDistribution):
        """Keep the mode of ``distribution``."""
        self._mode = distribution.mode()

    def sample(self, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The most likely action.

        Args:
            **kwargs: Unused, for RLlib's interface.
        """
        return self._mode


@functools.cache
def hybrid_distribution_cls(layout: HybridActionLayout) -> type[HybridActionDistribution]:
    """The distribution class bound to ``layout``, for RLlib's ``from_logits(inputs)``.

    Args:
        layout: Sizes of the action.
    """
    return HybridActionDistribution.get_partial_dist_cls(layout=layout)  # type: ignore[return-value]


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Over the last dimension, which comes first in memory.

    Torch vectorises over what stands behind it, so that for the few choices of a head this is
    several times as fast, and the same bit for bit.
    """
    return logits.movedim(-1, 0).contiguous().log_softmax(0).movedim(0, -1)


def _argmax(scores: torch.Tensor) -> torch.Tensor:
    """Over the last dimension; torch is slow where that is not the last one in memory."""
    return scores.contiguous().argmax(-1)


def _pick(log_probs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return log_probs.gather(-1, index.unsqueeze(-1)).squeeze(-1)
