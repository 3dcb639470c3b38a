"""The numbers that pages take from the benchmarks' results, as MyST's substitutions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rllib_mec.evaluation import Interval

_PAPER = "50 tasks, 50 m"
_COLUMNS = {"reward": ("", 2, 1), "latency_ms": ("", 1, 1), "energy_j": ("", 4, 1), "waiting_ms": ("", 2, 1)}


def substitutions(root: Path) -> dict[str, str]:
    """Name -> Markdown.

    Args:
        root: The repository.
    """
    return {}
