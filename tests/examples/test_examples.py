"""Every example runs from another folder, with fast settings."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from rllib_mec.cli.mec import main as rllib_mec
from rllib_mec.cli.rllib import main as rllib

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ITERATIONS = ("central_critic", "custom_metrics")
OWN_LAWS = ("own_arrivals", "own_reward", "own_observation")


def run_as_a_process(name, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def run(ray_session, names_are_given_back, tmp_path, monkeypatch, capsys):
    """Runs an example as a script, but in this process, whose Ray has started already."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def test_every_example_is_short_and_says_how_to_run_it():
    files = sorted(EXAMPLES.glob("*.py"))
    assert len(files) >= 9
    for file in files:
        text = file.read_text()
        assert len(text.splitlines()) < 60, file.name
        assert f"python examples/{file.name}" in text and "Expect" in text, file.name


def test_every_example_is_run_here():
    text = Path(__file__).read_text()
    assert [file.stem for file in EXAMPLES.glob("*.py") if f'"{file.stem}"' not in text] == []


@pytest.mark.slow
def test_an_example_starts_ray_by_itself(tmp_path):
    out = run_as_a_process("stock_ppo", 1, cwd=tmp_path)
    assert out.startswith("0 ") and "greedy return -" in out


@pytest.mark.slow
@pytest.mark.parametrize("name", ITERATIONS)
def test_stock_ppo_trains(name, run):
    out = run(name, 1)
    assert out.startswith("0 ") and numbers(out)


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_LAWS)
def test_emh_ppo_trains_on_a_law_of_ones_own(name, run):
    out = run(name, 1)
    assert "0 reward -" in out
    if name == "own_observation":  # 4 of 50 tasks left, at most 5 a window: the last one for all
        assert re.search(r"0\.08 0\.08 0\.08 .* 1\. +1\. +1\. *\]\]", out)


@pytest.mark.slow
def test_a_trained_policy_is_evaluated_from_a_parent_folder_too(run, tmp_path):
    trained = run("train_emh_ppo", tmp_path / "results" / "trial", 1)
    assert "reward -" in trained and "checkpoint_000000" in trained
    for folder in ("results/trial/checkpoint_000000", "results/trial", "results"):
        out = run("evaluate_checkpoint", folder, 2)
        assert "EMH-PPO" in out and "2150.75" in out  # local only: the paper's latency of 50 tasks
        assert re.search(r"window of md_0: \[\d, \d\]", out)


@pytest.mark.slow
def test_a_dnn_of_ones_own_is_cut_and_offloaded(run):
    out = run("own_dnn")
    assert "sends input: 49.2 kB, 0.00 ms local" in out  # 3 x 64 x 64 float32
    assert "sends nothing: 0.0 kB, 2.00 ms local" in out  # five times the server's 0.4 ms
    assert "local only" in out and "100.00" in out  # 50 tasks of 2 ms


@pytest.mark.slow
def test_a_policy_of_ones_own_stands_beside_the_planner(run):
    out = run("own_policy")
    assert "cut by queue" in out and "planner" in out and "×" in out


@pytest.mark.slow
def test_an_own_environment_is_trained_and_evaluated_by_its_path(
    ray_session, names_are_given_back, tmp_path, capsys
):
    config = """{"env_config": {"deadline_ms": 30, "num_devices": 2}, "demonstrations": 0,
        "num_env_runners": 0, "train_batch_size_per_learner": 64, "minibatch_size": 32}"""
    train = ["train", "--algo", "EMH-PPO", "--env", "examples.own_reward:Deadline"]
    train += ["--config", config, "--stop", '{"training_iteration": 1}']
    # Workers find the module below the folder in which pytest, and so Ray, was started.
    assert rllib([*train, "--storage-path", str(tmp_path), "--experiment-name", "own"]) == 0
    capsys.readouterr()
    assert rllib(["evaluate", str(tmp_path / "own"), "--episodes", "2"]) == 0
    # Local only takes 5 x 43.015 ms a window of 5 tasks, 185.075 ms more than the deadline; on top
    # of the paper's -45.06 = -(5 x 43.015 + 50 x 5 x 0.0409) / 5.
    assert "-230.1" in capsys.readouterr().out.replace("−", "-")


@pytest.mark.slow
def test_the_command_line_takes_own_parts_by_their_paths(names_are_given_back, capsys):
    scenario = ["dnn=examples.own_dnn:make_dnn", "dnn_input=[3,64,64]", "server_latency_ms=0.4"]
    policies = "local-only,examples.own_policy:CutByQueue"
    command = ["compare", "--policies", policies, "--episodes", "2", "--scenario", *scenario]
    assert rllib_mec(command) == 0
    out = capsys.readouterr().out
    assert "cut by queue" in out and "100.00" in out
