"""Where kernels are cached."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rllib_mec

SCRIPT = """
from rllib_mec.network.streams import uniform
print(uniform(1, 0, 0))
"""


def run(**env):
    root = str(Path(rllib_mec.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": root, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert 0.0 < float(result.stdout) < 1.0


def test_the_cache_is_outside_of_the_package_and_named_after_the_sources(tmp_path):
    run(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "xdg"))
    folders = list((tmp_path / "xdg" / "rllib_mec").iterdir())
    assert [f.name.startswith("kernels-") for f in folders] == [True]
    assert list(folders[0].rglob("*.nbi"))


def test_numbas_own_variable_is_respected(tmp_path):
    run(HOME="/nonexistent", NUMBA_CACHE_DIR=str(tmp_path))
    assert list(tmp_path.glob("kernels-*/**/*.nbi"))


def test_without_a_place_to_write_it_still_runs(monkeypatch):
    from rllib_mec import compiled

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: ("compiled", function, options)

    monkeypatch.setattr(compiled, "njit", njit)
    kind, function, _ = compiled.compiled(run)  # type: ignore[misc]
    assert (kind, function) == ("compiled", run)


@pytest.mark.parametrize("module", ["rllib_mec.network.scenario", "rllib_mec.envs"])
def test_importing_is_light(module):
    heavy = "import sys, {}; print([m for m in ('ray', 'torch', 'matplotlib') if m in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-c", heavy.format(module)],
        env={**os.environ, "PYTHONPATH": str(Path(rllib_mec.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == "[]"
