"""Importing the package is light: what is slow to import is imported where it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rllib_mec


def heavy_modules_after(statements):
    script = (
        f"import sys\n{statements}\n"
        "print([m for m in ('ray', 'torch', 'torchvision', 'matplotlib') if m in sys.modules])"
    )
    root = str(Path(rllib_mec.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(
    "module", ["rllib_mec", "rllib_mec.envs", "rllib_mec.policies", "rllib_mec.evaluation"]
)
def test_an_import_loads_nothing_heavy(module):
    assert heavy_modules_after(f"import {module}") == "[]"


def test_drawing_as_text_needs_no_matplotlib():
    assert "matplotlib" not in heavy_modules_after(
        "import numpy as np\n"
        "from rllib_mec.viz.gantt import gantt_text\n"
        "gantt_text(np.ones((1, 1, 3)), np.ones(1, int))"
    )
