"""``rllib-mec render``: an episode as text, chart or animation."""

import pytest
from PIL import Image

from rllib_mec.cli import scenarios
from rllib_mec.cli.mec import main
from rllib_mec.envs import TimeSlotMDP
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload

SMALL = "--scenario num_devices=2 max_window=2 --num-tasks 3"


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A folder that stands for the checkpoint of a policy for two devices."""
    policy = FullOffload(Scenario(num_devices=2, max_window=2))
    monkeypatch.setattr(scenarios, "load_trained", lambda path: policy)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trained").mkdir()
    return policy


def test_a_policy_is_shown_as_text(capsys):
    assert main(f"render local-only {SMALL} --seed 4".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "local only: resnet50, N=2, M=2, C=2, profile 'paper', "
        "task windows of up to 2 (mec_task_window_v0), seed 4"
    )
    assert lines[2] == "task window 1 at 0.0 ms, left 3 · 3, latency 86.0 ms"
    assert lines[3] == f"md_0 |{'L' * 60}| 2 tasks"
    assert "task window 2 at 86.0 ms, left 1 · 1, latency 43.0 ms" in lines
    assert lines[-1] == (
        "whole episode: 2 task windows, 6 tasks, reward -45.06, latency 129.0 ms, "
        "energy 0.0409 J/task"
    )


@pytest.mark.parametrize("suffix", ["gif", "png", "svg", "txt"])
def test_the_files_name_says_what_is_written(checkpoint, tmp_path, capsys, suffix):
    out = tmp_path / f"episode.{suffix}"
    assert main(["render", "trained", "--num-tasks", "3", "--fps", "3", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("whole episode: 2 task windows, 6 tasks")
    assert captured.err == f"wrote {out}\n"
    if suffix in ("gif", "png"):
        image = Image.open(out)
        assert image.format == suffix.upper() and min(image.size) > 150
        assert getattr(image, "n_frames", 1) == (6 if suffix == "gif" else 1)
    else:
        assert "full offload: resnet50, N=2" in out.read_text(encoding="utf-8")


def test_an_episode_in_time_slots_is_shown_as_well(checkpoint, monkeypatch, capsys):
    policy = FullOffload(TimeSlotMDP(Scenario(num_devices=2), slot_ms=30.0))
    monkeypatch.setattr(scenarios, "load_trained", lambda path: policy)
    assert main("render trained --num-tasks 4 --max-windows 1".split()) == 0
    out = capsys.readouterr().out
    assert "time slots of 30 ms" in out and "time slot 1 at 0.0 ms, left 4 · 4" in out
    assert "beginning of an episode: 1 time slot, " in out


def test_an_env_is_shown_with_arguments_of_its_own(capsys):
    command = "render local-only --env examples.own_reward:Deadline --scenario num_devices=1"
    assert main(f"{command} deadline_ms=40 --num-tasks 1".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "task windows of up to 5 due in 40 ms (deadline_window_v0)" in lines[0]
    # One task takes 43.015 ms and 0.04089184256 J, at a β of 50; 3.015 ms of it are late.
    assert "reward -48.07" in lines[-1]


def test_a_checkpoint_may_be_shown_where_it_was_not_trained(checkpoint, capsys):
    assert main("render trained --num-tasks 1 --scenario profile=si".split()) == 0
    captured = capsys.readouterr()
    assert "profile 'si'" in captured.out
    assert captured.err.startswith("rllib-mec: note: the checkpoint trained was trained with ")
    assert "profile='paper' (here 'si')" in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plannr", "unknown policy 'plannr': did you mean 'planner'? choose from"),
        ("nowhere", "or the path of a checkpoint"),
        (
            "trained --scenario num_devices=3",
            "trained with num_devices=2, but the scenario has num",
        ),
        ("trained --scenario num_device=2", "did you mean 'num_devices'?"),
        ("local-only --scenario num_devices=0", "num_devices must be at least 1, but is 0"),
        ("local-only --env mec_timeslot_v0", "did you mean 'mec_time_slot_v0'?"),
        ("planner --env mec_time_slot_v0", "the planner plans what can be simulated"),
        ("trained --env mec_time_slot_v0", "trained on 'mec_task_window_v0', not on 'mec_time_sl"),
        ("local-only --out e.mp4", "'e.mp4' must end with one of .gif, .png"),
        ("local-only --out no/e.gif", "there is no folder 'no'"),
        ("local-only --out e.gif --fps 0", "fps must be positive"),
        ("local-only --out e.gif --fps 60", "fps must be at most 50"),
        ("local-only --max-windows 0", "--max-windows must be at least 1, but is '0'"),
        ("local-only --num-tasks 0", "--num-tasks must be at least 1, but is '0'"),
        ("local-only --seed -1", "--seed must be at least 0, but is '-1'"),
        ("local-only --seed x", "--seed must be a whole number, but is 'x'"),
        ("", "missing argument 'CHECKPOINT'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(checkpoint, tmp_path, capsys, arguments, message):
    assert main(["render", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and [p.name for p in tmp_path.iterdir()] == ["trained"]
    assert captured.err.startswith("rllib-mec: error: ") and captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize("suffix", ["gif", "png", "txt"])
def test_an_episode_in_which_tasks_arrive_is_shown_up_to_its_horizon(tmp_path, capsys, suffix):
    out = tmp_path / f"episode.{suffix}"
    stream = "--env mec_task_stream_v0 --scenario horizon_ms=400 arrival_rate_hz=15 num_devices=2"
    assert main(f"render local-only {stream} --fps 3 --out {out}".split()) == 0
    assert capsys.readouterr().out.startswith("whole episode: ")
    if suffix == "txt":
        assert ", latency 400.0 ms," in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", ["png", "gif", "txt"])
@pytest.mark.filterwarnings("error")
def test_an_episode_in_which_nothing_happens_is_shown_without_a_warning(tmp_path, suffix):
    out = tmp_path / f"episode.{suffix}"
    command = f"render local-only --env mec_task_stream_v0 --out {out} --scenario"
    assert main([*command.split(), "arrival_rate_hz=0", "horizon_ms=100"]) == 0
    assert out.stat().st_size
