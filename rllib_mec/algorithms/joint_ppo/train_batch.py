"""From what the env runners sampled to a batch to learn from."""

from __future__ import annotations

import numpy as np
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from rllib_mec.algorithms.columns import CREDIT, WINDOW_ADVANTAGES


def make_train_batch(
    batches: list[MultiAgentBatch], per_task_advantages: bool, num_learners: int = 1
) -> MultiAgentBatch:
    """Concatenate what the env runners sampled and standardise the advantages over all of it.

    Args:
        batches: The runners' batches.
        per_task_advantages: Whether each task slot keeps its own advantage, or all slots get
            that of the whole window.
        num_learners: The rows are cut to a multiple of this.

    Returns:
        The batch, with ``advantages`` ``(B, V)`` (V: the critic's outputs) and
        ``window_advantages`` ``(B,)``.
    """
    parts = [batch[DEFAULT_MODULE_ID] for batch in batches]
    rows = sum(part.count for part in parts)
    rows -= rows % num_learners
    data = {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}
    tasks = data[Columns.ADVANTAGES]
    window = _standardise(tasks.sum(axis=1))
    data[WINDOW_ADVANTAGES] = window
    data[Columns.ADVANTAGES] = (
        _standardise(tasks)
        if per_task_advantages
        else np.broadcast_to(window[:, None], tasks.shape).copy()
    )
    if CREDIT in data:  # its mean is 0 by itself
        data[CREDIT] = data[CREDIT] / (data[CREDIT].std() + 1e-6)
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(data)}, env_steps=rows)


def _standardise(values: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance along the first axis."""
    return ((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)).astype(np.float32)
