"""How much is done of work that takes long within an iteration, told from any of Ray's processes.

Tune learns of a trial when an iteration ends; a lesson of EMH-PPO may take half an hour before.
"""

from __future__ import annotations

import json
import time

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_initialized,
    _internal_kv_list,
    _internal_kv_put,
)

_NAMESPACE = b"rllib_mec"
_EVERY_S = 1.0


class Teller:
    """Tells how much one worker has done of its part, at most once a second.

    Args:
        run: The trial's folder, without those above it.
        stage: What is being done, as it is shown.
        worker: Its number among those that do it.
    """

    def __init__(self, run: str, stage: str, worker: int = 0):
        """Nothing is told yet."""
        self._key = f"{run}/{worker}"
        self._stage = stage
        self._told_at = float("-inf")

    def __call__(self, share: float) -> None:
        """Tell it, to whoever asks :func:`told`; nothing happens without Ray.

        Args:
            share: What is done, in [0, 1].
        """
        now = time.monotonic()
        if now - self._told_at >= _EVERY_S and _internal_kv_initialized():
            self._told_at = now
            _internal_kv_put(self._key, json.dumps([self._stage, share]), namespace=_NAMESPACE)


def told(run: str) -> tuple[str, float] | None:
    """What a trial is doing, and the share that the slowest of its workers has done of it.

    Args:
        run: As of :class:`Teller`.

    Returns:
        The stage and a share in [0, 1]; None if the trial tells of nothing.
    """
    keys = _internal_kv_list(f"{run}/", namespace=_NAMESPACE) if _internal_kv_initialized() else ()
    values = (_internal_kv_get(key, namespace=_NAMESPACE) for key in keys)
    shares = (json.loads(value) for value in values if value is not None)
    slowest = min(shares, key=lambda each: each[1], default=None)
    return slowest and tuple(slowest)


def forget(run: str) -> None:
    """The work is done: nothing is told of it any more.

    Args:
        run: As of :class:`Teller`.
    """
    if _internal_kv_initialized():
        _internal_kv_del(f"{run}/", del_by_prefix=True, namespace=_NAMESPACE)
