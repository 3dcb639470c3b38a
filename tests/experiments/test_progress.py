"""Progress lines, the ETA, and where results go."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace

import pytest

from rllib_mec.algorithms import long_work
from rllib_mec.checkpoints import find_checkpoint
from rllib_mec.errors import MecError
from rllib_mec.experiments import storage, training
from rllib_mec.experiments.progress import Pace, Progress, duration
from rllib_mec.experiments.stop_criteria import is_met, share_done

STEPS = "num_env_steps_sampled_lifetime"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (61.4, "0:01:01"), (36000, "10:00:00"), (None, "?"), (float("inf"), "?")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_the_share_done_is_that_of_the_criterion_nearest_to_being_met():
    result = {"training_iteration": 20, STEPS: 2000, "time_total_s": 40.0}
    assert share_done({"training_iteration": 80}, result) == 0.25
    assert share_done({"training_iteration": 80, STEPS: 4000}, result) == 0.5
    assert share_done({"training_iteration": 15}, result) == 1.0
    assert share_done({"time_total_s": 100}, result) == 0.4


def test_no_share_of_a_metric_that_may_never_come():
    assert share_done({"env_runners/episode_return_mean": 1}, {STEPS: 1}) is None


def test_the_time_left_follows_from_the_shares_done(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(3)
    assert pace.seconds_left() is None
    pace.note("old", 1.0)  # was done before: neither work left nor a sign of speed
    pace.note("a", 0.5, first=0.25, ago_s=5.0)
    # A quarter took 5 s; left are half of `a` and all of the third.
    assert pace.seconds_left() == pytest.approx(5.0 * (0.5 + 1.0) / 0.25)
    now += 5.0
    pace.note("a", 1.0)
    assert pace.seconds_left() == pytest.approx(10.0 * 1.0 / 0.75)


def test_stop_is_met_at_any_criterion():
    stop = {"training_iteration": 3, "env_runners/episode_return_mean": 10}
    assert not is_met(stop, {"training_iteration": 2, "env_runners": {"episode_return_mean": 9.9}})
    assert is_met(stop, {"training_iteration": 2, "env_runners": {"episode_return_mean": 10}})
    assert is_met(stop, {"training_iteration": 3})
    assert not is_met(stop, {"env_runners": {"episode_return_mean": float("nan")}})
    assert not is_met({}, {"training_iteration": 3})


def test_a_resumed_trial_is_timed_from_where_it_goes_on():
    stream = io.StringIO()
    progress = Progress({"training_iteration": 12}, stream=stream)
    one = trial("a")
    one.checkpoint, one.latest_checkpoint_result = (
        "path",
        SimpleNamespace(metrics=result(10), checkpoint=None),
    )
    progress.on_trial_start(0, [one], one)
    progress.on_trial_result(1, [one], one, result(11))
    announced, line = stream.getvalue().splitlines()
    assert announced == "going on after iteration 10, 1,000 steps"
    assert "50/s" in line and "ETA 0:00:02" in line


def trial(name):
    return SimpleNamespace(
        trial_id=name,
        path=f"/results/run_{name}",
        status="RUNNING",
        checkpoint=None,
        last_result={},
        config={},
        evaluated_params={"lr": 1},
        is_finished=lambda: False,
    )


def result(iteration, **more):
    return {
        "training_iteration": iteration,
        "time_total_s": 2.0 * iteration,
        "time_this_iter_s": 2.0,
        STEPS: 100 * iteration,
        **more,
    }


def test_a_line_tells_steps_speed_metrics_and_time_left():
    stream = io.StringIO()
    progress = Progress({"training_iteration": 11}, stream=stream)
    one = trial("a")
    ours = {"env_runners": {"reward": -20.0, "latency_ms": 712.34, "energy_j": 0.0217}}
    progress.on_trial_result(1, [one], one, result(1, **ours))
    line = stream.getvalue()
    for field in ("iter    1", "100 steps", "50/s", "reward -20.00", "latency 712.3 ms"):
        assert field in line
    assert "energy 0.0217 J" in line and "ETA 0:00:20" in line


def test_env_runners_that_are_lost_are_counted_and_timed(monkeypatch, capsys):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = io.StringIO()
    progress = Progress({"training_iteration": 9}, verbose=True, stream=stream)
    one = trial("a")
    one.config = {"num_env_runners": 3}
    for iteration, there in enumerate([3, 1, 1, 3], start=1):
        now += 60.0
        lost = result(iteration, fault_tolerance={"num_healthy_workers": there})
        progress.on_trial_result(1, [one], one, lost)
    lines = stream.getvalue().splitlines()
    assert "missing" not in lines[0] + lines[3]
    assert "1/3 env runners, 2 missing for 0:00:00" in lines[1]
    assert "1/3 env runners, 2 missing for 0:01:00" in lines[2]
    said = capsys.readouterr().err
    assert said.count("2 of 3 env runners are lost") == 1
    assert said.count("all 3 env runners are there again") == 1


def test_a_run_that_ends_with_a_third_of_its_env_runners_has_failed(capsys):
    one = trial("a")
    one.config, one.status, one.path = {"num_env_runners": 3}, "TERMINATED", "/results/a"
    experiment = SimpleNamespace(
        checkpoint_config={},
        config=SimpleNamespace(env="CartPole-v1"),
        storage_path="/results",
        tuning=SimpleNamespace(metric="env_runners/episode_return_mean", mode="max"),
    )
    for there, code in ((1, training.FAILED), (2, training.OK)):
        one.last_result = result(9, fault_tolerance={"num_healthy_workers": there})
        assert training._finish(experiment, [one]) == code
    assert capsys.readouterr().err.count("training ended with 1 of 3 env runners") == 1


def test_lines_come_at_intervals_but_the_last_always(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = io.StringIO()
    progress = Progress({"training_iteration": 100}, stream=stream)  # no terminal: every 10 s
    one = trial("a")
    for iteration in range(1, 31):
        now += 1.0
        done = {"done": True} if iteration == 30 else {}
        progress.on_trial_result(1, [one], one, result(iteration, **done))
    lines = stream.getvalue().splitlines()
    assert [int(line.split()[1]) for line in lines] == [1, 11, 21, 30]


def test_what_takes_long_within_an_iteration_is_shown_and_not_taken_for_its_pace(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    shares = {"run_a": ("lesson 1 of 1: imitation", 0.25)}
    monkeypatch.setattr(long_work, "told", shares.get)
    stream = io.StringIO()
    progress = Progress({"training_iteration": 11}, stream=stream)
    one = trial("a")
    progress.on_step_end(1, [one])
    now += 30.0
    shares["run_a"] = ("lesson 1 of 1: imitation", 0.75)
    progress.on_step_end(2, [one])
    now += 2.0
    progress.on_trial_result(3, [one], one, result(1, time_this_iter_s=32.0))
    now += 20.0
    progress.on_trial_result(4, [one], one, result(2))
    began, later, *iterations = stream.getvalue().splitlines()
    assert began.split("  ")[0] == "lesson 1 of 1: imitation 25%, ? left"
    assert later.split("  ")[0] == "lesson 1 of 1: imitation 75%, 0:00:15 left"
    assert len(iterations) == 1 and "ETA 0:01:39" in iterations[0]  # 22 s for two of eleven


def test_many_trials_are_numbered():
    stream = io.StringIO()
    progress = Progress({"training_iteration": 2}, stream=stream)
    progress.setup(total_num_samples=3)
    trials = [trial("a"), trial("b")]
    progress.on_trial_start(0, trials, trials[1])
    progress.on_trial_result(1, trials, trials[1], result(1))
    started, line = stream.getvalue().splitlines()
    assert started.startswith("[2/3] started") and "lr=1" in started
    # 2 s to go for this one, and two trials of 4 s wait behind it.
    assert line.startswith("[2/3] ") and "ETA 0:00:10" in line


def test_a_stop_key_that_is_not_reported_is_remarked_once(capsys):
    progress = Progress({"env_runners/my_metric": 2}, stream=io.StringIO())
    one = trial("a")
    progress.on_trial_result(1, [one], one, result(1))
    progress.on_trial_result(1, [one], one, result(2))
    assert capsys.readouterr().err.count("'env_runners/my_metric' is not in") == 1


def test_results_never_go_over_older_ones(tmp_path):
    assert storage.fresh_name(str(tmp_path), "run") == "run"
    (tmp_path / "run").mkdir()
    assert storage.fresh_name(str(tmp_path), "run") == "run"
    (tmp_path / "run" / "file").touch()
    stamped = storage.fresh_name(str(tmp_path), "run")
    assert stamped.startswith("run_20")
    (tmp_path / stamped).mkdir()
    assert storage.fresh_name(str(tmp_path), "run") not in ("run", stamped)


def test_resume_takes_the_newest_of_an_experiment(tmp_path):
    import os

    with pytest.raises(MecError, match="nothing to resume"):
        storage.name_to_resume(str(tmp_path), "run")
    names = ["run", "run_2026-01-02_03-04-05", "run_2026-01-02_03-04-06", "run_other"]
    for age, name in enumerate(names):
        (tmp_path / name).mkdir()
        if age != 2:  # that one has no state
            state = tmp_path / name / "experiment_state-x.json"
            state.touch()
            os.utime(state, (age, age))
    assert storage.name_to_resume(str(tmp_path), "run") == names[1]


def test_find_checkpoint_in_a_trial_and_an_experiment(tmp_path):
    def checkpoint(*parts, complete=True):
        folder = tmp_path.joinpath(*parts)
        folder.mkdir(parents=True)
        (folder / "rllib_checkpoint.json").touch()
        if complete:
            (folder / "class_and_ctor_args.pkl").touch()
        return folder

    def results(folder, value):
        line = f'{{"env_runners": {{"episode_return_mean": {value}}}}}\n'
        (tmp_path / folder / "result.json").write_text(line + '{"cut off')

    best = checkpoint("exp", "trial_a", "checkpoint_000002")
    checkpoint("exp", "trial_a", "checkpoint_000001")
    checkpoint("exp", "trial_a", "checkpoint_000010", complete=False)
    other = checkpoint("exp", "trial_b", "checkpoint_000005")
    results("exp/trial_a", 7.0)
    results("exp/trial_b", 3.0)
    assert find_checkpoint(best) == best
    assert find_checkpoint(tmp_path / "exp" / "trial_b") == other
    assert find_checkpoint(tmp_path / "exp") == best
    with pytest.raises(MecError, match="not a checkpoint"):
        find_checkpoint(tmp_path)
