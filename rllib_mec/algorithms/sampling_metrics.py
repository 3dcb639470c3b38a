"""What an env runner reports of the episodes and windows it has sampled."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from ray.rllib.core import DEFAULT_AGENT_ID, DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_mec.envs.episodes import EpisodeMetrics
from rllib_mec.envs.vector import VectorStep

EPISODE_METRICS = ("reward", "latency_ms", "energy_j", "waiting_ms", "window_size", "local_share")
"""Names under which the paper's metrics stand in a result's ``env_runners`` and in TensorBoard."""

PER_WINDOW = "per_window"
"""Below it the same names, as means over the windows of the iteration."""


class SamplingMetrics:
    """Gathers what is logged once per call of ``get_metrics``.

    Args:
        config: The algorithm's config.
    """

    def __init__(self, config: Any):
        """Start with nothing gathered."""
        self._config = config
        self._ended: list[EpisodeMetrics] = []
        self._counted: list[np.ndarray] = []
        self._windows = 0
        self._sums = dict.fromkeys(EPISODE_METRICS, 0.0)

    def add(self, step: VectorStep, counted: np.ndarray, ended: EpisodeMetrics) -> None:
        """Add a step of all worlds, and the episodes that it ended.

        Args:
            step: What the worlds gave.
            counted: Which worlds count, ``(B,)`` bool.
            ended: Metrics of the episodes, in the order of their worlds, maybe of none.
        """
        sums = self._sums
        self._windows += int(counted.sum())
        for name in ("reward", "latency_ms", "energy_j", "waiting_ms", "local_share"):
            sums[name] += float(getattr(step, name)[counted].sum())
        sums["window_size"] += float(step.window_size[counted].mean(axis=1).sum())
        if len(ended):
            self._ended.append(ended)
            self._counted.append(counted[step.ended])

    def log_steps(self, logger: MetricsLogger, num_steps: int) -> None:
        """Log step counts, without the first of which RLlib would sample for ever.

        Args:
            logger: The env runner's.
            num_steps: Env steps of a call of ``sample``.
        """
        for key in (
            NUM_ENV_STEPS_SAMPLED,
            (NUM_AGENT_STEPS_SAMPLED, DEFAULT_AGENT_ID),
            (NUM_MODULE_STEPS_SAMPLED, DEFAULT_MODULE_ID),
        ):
            logger.log_value(key, num_steps, reduce="sum")
        log = functools.partial(logger.log_value, value=num_steps, reduce="lifetime_sum")
        log(NUM_ENV_STEPS_SAMPLED_LIFETIME, with_throughput=True)
        log((NUM_AGENT_STEPS_SAMPLED_LIFETIME, DEFAULT_AGENT_ID))
        log((NUM_MODULE_STEPS_SAMPLED_LIFETIME, DEFAULT_MODULE_ID))

    def log(self, logger: MetricsLogger) -> None:
        """Log what has been gathered, and forget it.

        Args:
            logger: The env runner's.
        """
        if self._windows:
            for name, total in self._sums.items():
                logger.log_value((PER_WINDOW, name), total / self._windows, window=1)
            self._windows, self._sums = 0, dict.fromkeys(EPISODE_METRICS, 0.0)
        if self._ended:
            counted = np.concatenate(self._counted)
            self._log_episodes(logger, EpisodeMetrics.concatenate(self._ended), counted)
            self._ended, self._counted = [], []

    def _log_episodes(
        self, logger: MetricsLogger, ended: EpisodeMetrics, counted: np.ndarray
    ) -> None:
        log = logger.log_value
        number = int(counted.sum())
        log(NUM_EPISODES, number, reduce="sum")
        log(NUM_EPISODES_LIFETIME, number, reduce="lifetime_sum")
        config = self._config
        window: int = number if config.in_evaluation else config.metrics_num_episodes_for_smoothing
        own = {name: getattr(ended, name) for name in EPISODE_METRICS}
        for name, values in {**own, **ended.measured}.items():
            for value in values[counted & np.isfinite(values)][-window:]:
                log(name, float(value), window=window)
        returns, lengths = ended.episode_return[counted], ended.num_windows[counted]
        for value, length in zip(returns[-window:], lengths[-window:], strict=True):
            log(EPISODE_RETURN_MEAN, float(value), window=window)
            log(EPISODE_RETURN_MIN, float(value), reduce="min", window=window)
            log(EPISODE_RETURN_MAX, float(value), reduce="max", window=window)
            log(EPISODE_LEN_MEAN, float(length), window=window)
            log(EPISODE_LEN_MIN, float(length), reduce="min", window=window)
            log(EPISODE_LEN_MAX, float(length), reduce="max", window=window)
