"""Folders of a process's own, and what killed ones left."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile

import pytest

from rllib_mec.testbed import folders
from rllib_mec.testbed.folders import own_folder, sweep


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(folders, "_LONGEST_BASE", 10_000)
    monkeypatch.setattr(folders, "_YOUNG_S", 0.0)
    return tmp_path


def test_nobody_else_can_look_into_it_and_it_is_gone_afterwards(base):
    with own_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "x").write_text("x")
    assert list(base.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(base):
    code = (
        "import os, sys, time; from rllib_mec.testbed.folders import own_folder\n"
        "with own_folder() as folder: print(folder, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "TMPDIR": str(base)}
    code = "import rllib_mec.testbed.folders as f; f._LONGEST_BASE = 10_000\n" + code
    run = [sys.executable, "-c", code]
    processes = [
        subprocess.Popen(run, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    killed, living = (process.stdout.readline().strip() for process in processes)
    processes[0].send_signal(signal.SIGKILL)
    processes[0].wait()
    others = base / "mec-of-something-else"  # without a lock: not ours
    others.mkdir()
    sweep(base)
    assert not os.path.exists(killed)
    assert os.path.exists(living) and others.exists()
    processes[1].kill()
    processes[1].wait()


def test_where_paths_are_long_it_lies_in_tmp(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with own_folder() as folder:
        assert str(folder.parent) == "/tmp"
