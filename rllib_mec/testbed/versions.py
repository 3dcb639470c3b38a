"""The versions of a DNN's weights that a server answers: the newest, and the one before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rllib_mec.testbed.split_model import SplitModel

KEPT = 2


class Numbered(Protocol):
    """What says which version it is, or is of."""

    @property
    def number(self) -> int:
        """Grows from version to version."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """Of DNN, weights and points."""
        ...


T = TypeVar("T", bound=Numbered)


def newest_kept(versions: Iterable[T]) -> list[T]:
    """Those that are answered: the newest, and the newest of other weights.

    Args:
        versions: Some, in any order.

    Returns:
        The newest last.
    """
    by_number = sorted(versions, key=lambda version: version.number)
    newest = {version.fingerprint: version for version in by_number}
    return sorted(newest.values(), key=lambda version: version.number)[-KEPT:]


@dataclass(frozen=True, eq=False)
class Version:
    """A DNN with the weights of one version.

    Attributes:
        number: Counts from 1.
        model: The DNN.
        limits: For each point, how many tasks may run together.
        fingerprint: Of DNN, weights and points.
    """

    number: int
    model: SplitModel
    limits: tuple[int, ...]
    fingerprint: bytes

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
        return cls(number, model, tuple(limits), model.fingerprint)


class Versions:
    """The newest version and the one before, which devices still have.

    Args:
        known: Those to begin with, at least one.
    """

    def __init__(self, *known: Version):
        """Keep the newest."""
        self._kept = newest_kept(known)

    @property
    def newest(self) -> Version:
        """The one that new devices are told of."""
        return self._kept[-1]

    def add(self, version: Version) -> None:
        """Answer a new version, too, and forget the oldest.

        Args:
            version: The new one.
        """
        self._kept = newest_kept([*self._kept, version])

    def of(self, fingerprint: bytes) -> Version | None:
        """The version that a request is for; None: it is not kept.

        Args:
            fingerprint: Of DNN, weights and points.
        """
        return next((v for v in self._kept if v.fingerprint == fingerprint), None)

    @property
    def older(self) -> tuple[bytes, ...]:
        """Fingerprints of the others."""
        return tuple(version.fingerprint for version in self._kept[:-1])
