"""The benchmarks are scripts, not a package: they and what they import live in one folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = str(ROOT / "benchmarks")
sys.path.insert(0, BENCHMARKS)
# Ray's workers inherit it, if it is there before Ray starts.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [BENCHMARKS, os.getenv("PYTHONPATH")]))


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """A ``tuned_configs`` of the test's own, in which every policy is trained by one recipe."""
    from suite import trial
    from suite.cells import SOURCES

    folder = tmp_path / "tuned_configs"
    folder.mkdir()
    for name in (*SOURCES.values(), "time_slot"):
        shutil.copy(ROOT / "tuned_configs" / "emh_ppo.yaml", folder / f"{name}.yaml")
    slots = folder / "time_slot.yaml"
    slots.write_text(slots.read_text().replace("mec_task_window_v0", "mec_time_slot_v0"))
    monkeypatch.setattr(trial, "CONFIGS", folder)
    return folder
