"""Accuracy under precision loss (Section V-F): features that lose precision on their way.

A method that uses up more of the latency of local inference degrades its intermediate tensors more
often: with the probability latency / local latency. The paper says neither what degrading does to a
tensor nor whether it hits tensors whole, so both are parameters here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from rllib_mec.dnn.codecs import CODECS
from rllib_mec.errors import MecError, unknown

Tensors = Mapping[str, torch.Tensor]

NOISE = "noise"

UNITS = ("task", "element")
"""What the probability is of: that a task's tensors degrade as a whole, or each element alone."""


def degradation_probability(latency_ms: float, local_latency_ms: float) -> float:
    """The probability with which a method degrades intermediate data, at most 1.

    Args:
        latency_ms: The method's end-to-end latency.
        local_latency_ms: That of fully local inference of the same tasks.

    Raises:
        MecError: A latency is not a positive number.
    """
    for name, value in (("latency_ms", latency_ms), ("local_latency_ms", local_latency_ms)):
        if not 0 < value < math.inf:
            raise MecError(f"{name} must be a positive number, got {value!r}")
    return min(1.0, latency_ms / local_latency_ms)


@dataclass(frozen=True)
class Degradation:
    """What becomes of a tensor whose precision is lost.

    Attributes:
        kind: A codec's name (the tensor after its round trip), or ``"noise"`` (white Gaussian).
        strength: Standard deviation of the noise over the tensor's root mean square; 0 for codecs.

    Raises:
        MecError: An unknown kind, or a strength that does not go with it.
    """

    kind: str
    strength: float = 0.0

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.kind != NOISE and self.kind not in CODECS:
            raise unknown("degradation", self.kind, [NOISE, *CODECS])
        if not 0 <= self.strength < math.inf or (self.kind == NOISE) != (self.strength > 0):
            raise MecError(
                f"the strength of {self.kind!r} must be"
                f" {'a positive number' if self.kind == NOISE else '0'}, got {self.strength!r}"
            )

    @property
    def label(self) -> str:
        """How tables call it."""
        return f"noise ×{self.strength:g}" if self.kind == NOISE else self.kind

    def __call__(self, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The degraded tensor.

        Args:
            tensor: ``(tasks, ...)``; each task's tensor is coded, or measured, by itself.
            generator: Draws the noise, on the CPU.

        Returns:
            A tensor of the same shape, dtype and device.
        """
        if self.kind == NOISE:
            rms = tensor.square().mean(tuple(range(1, tensor.ndim)), keepdim=True).sqrt()
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            return tensor + self.strength * rms * noise.to(tensor.device)
        coder = CODECS[self.kind]
        shape = tuple(tensor.shape[1:])
        coded = [coder.decode(coder.encode(own), shape, tensor.dtype) for own in tensor]
        return torch.stack(coded).to(tensor.device)


def mix(
    intact: Tensors, degraded: Tensors, probability: float, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Tensors each of whose elements is degraded with a probability, independently.

    Args:
        intact: The tensors as the head made them.
        degraded: The same after a :class:`Degradation`.
        probability: In [0, 1].
        generator: Draws which elements, on the CPU.
    """
    mixed = {}
    for name, tensor in intact.items():
        chosen = torch.rand(tensor.shape, generator=generator) < probability
        mixed[name] = torch.where(chosen.to(tensor.device), degraded[name], tensor)
    return mixed


class SplitAccuracy:
    """Accuracy of a DNN whose intermediate tensors lose precision at one partition point.

    Args:
        head: The half on the device, from :func:`rllib_mec.dnn.split`.
        tail: The half on the server; returns logits, ``(tasks, classes)``.
        inputs: ``(tasks, ...)``.
        labels: Class of each input, ``(tasks,)`` int.
        batch_size: Tasks that a half runs on at once.
    """

    def __init__(
        self,
        head: Callable[[torch.Tensor], Tensors],
        tail: Callable[[Tensors], torch.Tensor],
        inputs: torch.Tensor,
        labels: torch.Tensor,
        batch_size: int = 64,
    ):
        """Run the head, and the tail on what it made."""
        self._tail, self._labels, self._batch_size = tail, labels, batch_size
        with torch.inference_mode():
            parts = [head(x) for x in inputs.split(batch_size)]
        self._intact = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        self._correct = self._is_correct(self._intact)
        self._degraded: dict[tuple[Degradation, int], torch.Tensor] = {}

    @property
    def lossless(self) -> float:
        """Accuracy with intact tensors."""
        return float(self._correct.float().mean())

    def degraded(
        self, degradation: Degradation, probability: float, *, unit: str, seed: int
    ) -> float:
        """Accuracy with tensors degraded at random.

        Args:
            degradation: What happens to them.
            probability: How likely it is for one ``unit``.
            unit: One of :data:`UNITS`.
            seed: Seed of noise and choice.

        Raises:
            MecError: The probability is out of [0, 1], or there is no such unit.
        """
        if not 0 <= probability <= 1:
            raise MecError(f"probability must lie in [0, 1], got {probability!r}")
        if unit not in UNITS:
            raise unknown("unit", unit, UNITS)
        # One stream for the noise, which whole tasks and elements share, and one for the choice.
        noise, choice = (torch.Generator().manual_seed(2 * seed + i) for i in range(2))
        if unit == "task":
            chosen = torch.rand(len(self._labels), generator=choice) < probability
            correct = torch.where(chosen, self._all_degraded(degradation, seed), self._correct)
        else:
            degraded = {name: degradation(t, noise) for name, t in self._intact.items()}
            correct = self._is_correct(mix(self._intact, degraded, probability, choice))
        return float(correct.float().mean())

    def _all_degraded(self, degradation: Degradation, seed: int) -> torch.Tensor:
        """Which tasks are still right if all tensors degrade; the tail runs once for all p."""
        key = (degradation, seed if degradation.kind == NOISE else 0)
        if key not in self._degraded:
            noise = torch.Generator().manual_seed(2 * seed)
            degraded = {name: degradation(t, noise) for name, t in self._intact.items()}
            self._degraded[key] = self._is_correct(degraded)
        return self._degraded[key]

    def _is_correct(self, tensors: Tensors) -> torch.Tensor:
        """Which tasks the tail classifies right, ``(tasks,)`` bool on the CPU."""
        size = self._batch_size
        guesses = []
        with torch.inference_mode():
            for start in range(0, len(self._labels), size):
                part = {name: tensor[start : start + size] for name, tensor in tensors.items()}
                guesses.append(self._tail(part).argmax(1).cpu())
        return torch.cat(guesses) == self._labels.cpu()
