"""The benchmarks are scripts, not a package: they and what they import live in one folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = str(ROOT / "benchmarks")
sys.path.insert(0, BENCHMARKS)
# Ray's workers inherit it, if it is there before Ray starts.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [BENCHMARKS, os.getenv("PYTHONPATH")]))


RECIPE = """\
# What it trains.
recipe:
  run: EMH-PPO
  env: {env}
  stop: {{num_env_steps_sampled_lifetime: 400000}}
  config:
    env_config: {{dnn: resnet50}}
    lr: [[0, 3.0e-4], [400000, 0.0]]
    train_batch_size_per_learner: 256
    minibatch_size: 256
    num_envs_per_env_runner: 32
    num_epochs: 4
"""


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """A ``tuned_configs`` of the test's own, in which every policy is trained by one recipe."""
    from suite import trial
    from suite.cells import SOURCES

    folder = tmp_path / "tuned_configs"
    folder.mkdir()
    for name in SOURCES.values():
        (folder / f"{name}.yaml").write_text(RECIPE.format(env="mec_task_window_v0"))
    (folder / "time_slot.yaml").write_text(RECIPE.format(env="mec_time_slot_v0"))
    monkeypatch.setattr(trial, "CONFIGS", folder)
    return folder
