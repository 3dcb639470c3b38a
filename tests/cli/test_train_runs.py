"""Real runs of ``rllib``: interrupted, killed, resumed, searched, failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from rllib_mec.cli.rllib import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TINY = {
    "num_env_runners": 0,
    "train_batch_size_per_learner": 200,
    "minibatch_size": 100,
    "num_epochs": 1,
    "model_config": {"fcnet_hiddens": [8]},
}


@pytest.fixture
def file(tmp_path):
    """A function that writes an experiment's YAML file."""

    def write(config=None, **changes):
        spec = {
            "run": "PPO",
            "env": "CartPole-v1",
            "stop": {"training_iteration": 2},
            "storage_path": str(tmp_path / "results"),
            "config": {**TINY, **(config or {})},
            **changes,
        }
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({"tiny": spec}))
        return path

    return write


def results_of(trial):
    return [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]


def only_trial(tmp_path, name="tiny"):
    (trial,) = (p for p in (tmp_path / "results" / name).iterdir() if p.name.startswith("PPO_"))
    return trial


def start(*argv, **environment):
    """The command in a process of its own, as from a shell."""
    return subprocess.Popen(
        [sys.executable, "-m", "rllib_mec.cli.rllib", *map(str, argv)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "timed out"
        time.sleep(0.2)


def check_continues(trial, at_least):
    """The counters of a resumed trial go on where its checkpoint left them."""
    results = results_of(trial)
    iterations = [result["training_iteration"] for result in results]
    resumed_at = next(
        i for i, result in enumerate(results) if i and result["iterations_since_restore"] == 1
    )
    assert iterations[resumed_at] > at_least
    assert iterations[resumed_at] <= iterations[resumed_at - 1] + 1
    for result in results:
        assert result["num_env_steps_sampled_lifetime"] == 200 * result["training_iteration"]
    return results


def test_ctrl_c_leaves_a_checkpoint_from_which_resume_goes_on(file, tmp_path, capsys, ray_session):
    path = file()
    process = start("train", "file", path, "--stop", '{"training_iteration": 100000}')
    trials = tmp_path / "results" / "tiny"
    wait_for(lambda: any(p.stat().st_size for p in trials.glob("*/result.json")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Go on with:  rllib train file" in out and "--resume" in out
    assert "Traceback" not in out + err
    done = results_of(only_trial(tmp_path))[-1]["training_iteration"]
    assert f"Stopped after iteration {done}, checkpoint:  {tmp_path}" in out

    stop = json.dumps({"training_iteration": done + 2})
    assert main(["train", "file", str(path), "--resume", "--stop", stop]) == 0
    results = check_continues(only_trial(tmp_path), at_least=done)
    assert [r["training_iteration"] for r in results][-3:] == [done, done + 1, done + 2]
    out = capsys.readouterr().out
    assert f"going on after iteration {done}, {200 * done:,} steps" in out
    line = next(line for line in out.splitlines() if line.startswith("Evaluate it:"))
    checkpoint = line.split()[-1]

    assert main(["evaluate", checkpoint, "--episodes", "3", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["algorithm"] == "PPO" and first["env"] == "CartPole-v1"
    assert first["episodes"] == 3 and first["return"]["mean"] == first["length"] > 0
    assert main(["evaluate", checkpoint, "--episodes", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first

    assert main(["evaluate", checkpoint, "--env", "Acrobot-v1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "does not fit" in err


def test_resume_after_kill_goes_on_from_the_last_periodic_checkpoint(
    file, tmp_path, capsys, ray_session
):
    path = file(
        stop={"training_iteration": 100000},
        checkpoint_config={"checkpoint_frequency": 2, "num_to_keep": 2},
    )
    address = ray_session.get_runtime_context().gcs_address  # a Ray of its own takes seconds more
    process = start("train", "file", path, RAY_ADDRESS=address)
    trials = tmp_path / "results" / "tiny"

    def state_is_newer_than_two_checkpoints():
        saved = list(trials.glob("*/checkpoint_000001/rllib_checkpoint.json"))
        states = [p.stat().st_mtime for p in trials.glob("experiment_state-*")]
        return saved and states and max(states) > saved[0].stat().st_mtime

    wait_for(state_is_newer_than_two_checkpoints, process)
    process.kill()
    process.wait()
    done = results_of(only_trial(tmp_path))[-1]["training_iteration"]
    stop = json.dumps({"training_iteration": done + 2})
    assert main(["train", "file", str(path), "--resume", "--stop", stop]) == 0
    results = check_continues(only_trial(tmp_path), at_least=2)
    assert results[-1]["training_iteration"] == done + 2
    capsys.readouterr()

    # The trial has ended; a higher `stop` lets it go on.
    stop = json.dumps({"training_iteration": done + 3})
    assert main(["train", "file", str(path), "--resume", "--stop", stop]) == 0
    assert f"{done + 3} iterations, {200 * (done + 3):,} env" in capsys.readouterr().out
    iterations = [result["training_iteration"] for result in results_of(only_trial(tmp_path))]
    assert iterations[-2:] == [done + 2, done + 3]


def test_grid_search_in_a_python_file_runs_in_a_thread_too(tmp_path, capsys, ray_session):
    path = tmp_path / "my_experiment.py"
    path.write_text(
        "from ray import tune\n"
        "from ray.rllib.algorithms.ppo import PPOConfig\n"
        "config = (PPOConfig().environment('CartPole-v1').env_runners(num_env_runners=0)\n"
        "    .training(train_batch_size_per_learner=200, minibatch_size=100, num_epochs=1,\n"
        "        lr=tune.grid_search([1e-3, 1e-4])))\n"
        "stop = {'training_iteration': 1}\n"
    )
    argv = ["train", "file", str(path), "--storage-path", str(tmp_path / "results")]
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(argv)))
    thread.start()
    thread.join()
    assert codes == [0]
    out = capsys.readouterr().out
    assert "[1/2]" in out and "[2/2]" in out and "Best checkpoint" in out
    assert "1 iterations, 200 environment steps" in out
    trials = [p for p in (tmp_path / "results" / "my_experiment").iterdir() if p.is_dir()]
    rates = {json.loads((trial / "params.json").read_text())["lr"] for trial in trials}
    assert rates == {1e-3, 1e-4}
    assert all(len(results_of(trial)) == 1 for trial in trials)


def test_failing_trial_is_one_line_with_its_log_and_keeps_results(
    file, tmp_path, capsys, ray_session
):
    # Workers find the module below the folder in which pytest, and so Ray, was started.
    path = file(
        env="tests.cli.burning_env:BurningEnv", config={"restart_failed_env_runners": False}
    )
    assert main(["train", "file", str(path)]) == 1
    captured = capsys.readouterr()
    error = [line for line in captured.err.splitlines() if line.startswith("rllib: error")]
    assert len(error) == 1 and "RuntimeError: the server room is on fire" in error[0]
    log = Path(error[0].split("(log: ")[1].rstrip(")"))
    assert log.is_file() and "Traceback" not in captured.err
    assert len(results_of(only_trial(tmp_path))) == 1
