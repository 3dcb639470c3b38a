"""The versions of a DNN's weights that a server answers: the newest, and the one before."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_mec.testbed.split_model import SplitModel

KEPT = 2


@dataclass(frozen=True, eq=False)
class Version:
    """A DNN with the weights of one version.

    Attributes:
        number: Counts from 1.
        model: The DNN.
        limits: For each point, how many tasks may run together.
    """

    number: int
    model: SplitModel
    limits: tuple[int, ...]

    @classmethod
    def of(cls, number: int, model: SplitModel, max_batch: int) -> Version:
        """A version that is ready: everything ran once.

        Args:
            number: Its number.
            model: The DNN.
            max_batch: Most tasks that may run together.
        """
        model.warm_up()
        points = range(model.full_local)
        many = max_batch > 1
        limits = (max_batch if many and model.can_batch(point) else 1 for point in points)
        return cls(number, model, tuple(limits))


class Versions:
    """The newest version and the one before, which devices still have.

    Args:
        first: The first.
    """

    def __init__(self, first: Version):
        """Begin with one."""
        self._kept = [first]

    @property
    def newest(self) -> Version:
        """The one that new devices are told of."""
        return self._kept[-1]

    def add(self, version: Version) -> None:
        """Answer a new version, too, and forget the oldest.

        Args:
            version: The new one.
        """
        same = version.model.fingerprint
        others = [kept for kept in self._kept if kept.model.fingerprint != same]
        self._kept = [*others, version][-KEPT:]

    def of(self, fingerprint: bytes) -> Version | None:
        """The version that a request is for; None: it is not kept.

        Args:
            fingerprint: Of DNN, weights and points.
        """
        return next((v for v in self._kept if v.model.fingerprint == fingerprint), None)

    @property
    def older(self) -> tuple[bytes, ...]:
        """Fingerprints of the others."""
        return tuple(version.model.fingerprint for version in self._kept[:-1])
