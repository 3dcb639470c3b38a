"""A recorded episode is the one that is evaluated, and its pictures show it."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from rllib_mec.envs import TaskWindowMDP, TimeSlotMDP
from rllib_mec.envs.recording import RecordedStep, Recording, record_episode
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly, RandomPolicy
from rllib_mec.viz.episode_chart import episode_figure, episode_text, summary
from rllib_mec.viz.episode_film import write_animation
from rllib_mec.viz.gantt import COLOURS, STAGES, WAITING, Block

MDPS = [TaskWindowMDP(Scenario()), TimeSlotMDP(Scenario(), slot_ms=20.0)]


def record(policy, **keywords):
    fixed = {"num_tasks": 7, "distance_m": 50.0, **keywords}
    return record_episode(policy.decide, policy.mdp, **fixed)


@pytest.fixture(params=MDPS, ids=lambda mdp: mdp.env_id)
def recording(request):
    return record(RandomPolicy(request.param), seed=3)


@pytest.mark.parametrize("mdp", MDPS, ids=lambda mdp: mdp.env_id)
def test_it_is_the_episode_of_the_evaluation_with_its_seed(mdp):
    policy = FullOffload(mdp)
    episodes = evaluate(policy, episodes=3, seed=10, num_tasks=7).episodes
    recorded = record(policy, seed=12)
    assert recorded.is_whole and recorded.num_done == 21
    assert recorded.latency_ms == pytest.approx(episodes.latency_ms[2])
    assert recorded.reward == pytest.approx(episodes.reward[2])
    assert recorded.energy_j / 21 == pytest.approx(episodes.energy_j[2])


def test_no_time_of_a_device_is_drawn_twice_or_left_out(recording):
    devices, ends = recording.task_ends()
    for n in range(3):
        own = [block for block in recording.blocks() if block.device == n]
        assert own[0].start_ms == 0.0
        for before, after in itertools.pairwise(own):
            assert after.start_ms == pytest.approx(before.end_ms, abs=1e-9)
            assert after.task >= before.task
        tasks = [block for block in own if block.stage != WAITING]
        assert {block.task for block in tasks} == set(range(7))
        lasts = [max(b.end_ms for b in tasks if b.task == task) for task in range(7)]
        np.testing.assert_allclose(np.sort(ends[devices == n]), lasts)
    assert ends.max() == pytest.approx(recording.latency_ms)


def test_devices_wait_in_task_windows_but_not_in_time_slots(recording):
    waiting = any(block.stage == WAITING for block in recording.blocks())
    assert waiting == (recording.mdp.env_id == "mec_task_window_v0")


def test_a_task_that_goes_on_in_the_next_slot_is_one_stretch():
    # Local only: 43.015 ms a task, over slots of 20 ms.
    blocks = record(LocalOnly(MDPS[1]), num_tasks=2).blocks()
    expected = list(itertools.product(range(3), range(2), [0]))
    assert [(b.device, b.task, b.stage) for b in blocks] == expected
    assert blocks[1].start_ms == pytest.approx(43.015) and blocks[1].end_ms == pytest.approx(86.03)


def test_it_may_stop_before_the_end():
    recording = record(LocalOnly(MDPS[0]), num_tasks=12, max_steps=2)
    assert not recording.is_whole and len(recording.steps) == 2
    assert summary(recording) == (
        "beginning of an episode: 2 task windows, 30 tasks, reward -45.06, latency 430.1 ms, "
        "energy 0.0409 J/task"
    )
    with pytest.raises(MecError, match="max_steps must be at least 1, but is 0"):
        record(LocalOnly(MDPS[0]), max_steps=0)


def test_text_says_when_each_window_began_and_what_was_left():
    lines = episode_text(record(LocalOnly(MDPS[0]), num_tasks=6)).splitlines()
    titles = [line for line in lines if line.startswith("task window")]
    assert titles == [
        "task window 1 at 0.0 ms, left 6 · 6 · 6, latency 215.1 ms",
        "task window 2 at 215.1 ms, left 1 · 1 · 1, latency 43.0 ms",
    ]
    assert lines[-1].startswith("whole episode: 2 task windows, 18 tasks")


def hand_made():
    """Two windows of 40 ms: MD 0 computes, sends, and is served; MD 1 is served, and waits."""
    ends = np.zeros((2, 1, 3))
    ends[0, 0], ends[1, 0] = [10, 20, 40], [0, 0, 30]
    steps = tuple(
        RecordedStep(40.0 * i, 40.0, np.array([2 - i, 2 - i]), np.array([1, 1]), ends, -40.0)
        for i in range(2)
    )
    return Recording(TaskWindowMDP(Scenario(num_devices=2)), steps, 0.1, True)


def rgb(colour):
    return tuple(round(255 * part) for part in to_rgb(colour))


def shares(image):
    """Share of each stage's colour among the colours of all stages."""
    pixels = np.asarray(image)[..., :3].reshape(-1, 3)
    counts = np.array([(pixels == rgb(colour)).all(1).sum() for colour in COLOURS])
    return counts / counts.sum()


def test_blocks_of_a_window_made_by_hand():
    assert hand_made().blocks()[:3] == [
        Block(0, 0, 0, 0.0, 10.0), Block(0, 0, 1, 10.0, 20.0), Block(0, 0, 2, 20.0, 40.0),
    ]  # fmt: skip
    assert hand_made().blocks()[-1] == Block(1, 1, WAITING, 70.0, 80.0)


def test_the_chart_shows_every_stage_as_long_as_it_took(tmp_path):
    figure = episode_figure(hand_made(), "by hand")
    figure.savefig(tmp_path / "chart.png")
    found = dict(zip(STAGES, shares(Image.open(tmp_path / "chart.png")), strict=True))
    # 10, 10 and 20 + 30 of 80 ms; the waiting is hatched and the bars carry numbers.
    assert found["local"] == pytest.approx(found["transmission"], abs=0.04)
    assert found["server"] == pytest.approx(5 * found["local"], abs=0.12)
    assert found["waiting"] > 0.02
    (axes,) = figure.axes
    captions = [text.get_text().strip() for text in axes.texts]
    assert "window 1: r = −40.0, left 2·2" in captions
    assert figure.get_suptitle().startswith("by hand\nwhole episode: 2 task windows")


def test_time_goes_on_from_line_to_line():
    figure = episode_figure(record(LocalOnly(MDPS[0]), num_tasks=50), "local only")
    starts, ends = zip(*(axes.get_xlim() for axes in figure.axes), strict=True)
    assert len(starts) == 4 and starts[0] == 0.0
    spans = np.subtract(ends, starts)
    np.testing.assert_allclose(spans, spans[0])  # one scale for all
    assert all(start <= end for start, end in zip(starts[1:], ends, strict=False))
    assert ends[-1] >= 2150.75 - 1e-6


def test_the_animation_uncovers_the_chart(tmp_path):
    count = write_animation(hand_made(), tmp_path / "film.gif", "by hand", fps=4.0)
    film = Image.open(tmp_path / "film.gif")
    assert count == film.n_frames == 8  # two windows, a second each
    frames = []
    for index in range(count):
        film.seek(index)
        frames.append(np.asarray(film.convert("RGB")))
        assert film.info["duration"] == (250 if index < count - 1 else 2000)
    assert tuple(frames[0][-1, 0]) == (255, 255, 255)
    server = [(frame == rgb(COLOURS[2])).all(2).sum() for frame in frames]
    assert server[0] < server[3] < server[-1]


@pytest.mark.parametrize("fps", [0, -1, float("nan"), 51])
def test_frame_rates_that_no_browser_shows_are_refused(tmp_path, fps):
    with pytest.raises(MecError, match="fps must be"):
        write_animation(hand_made(), tmp_path / "film.gif", "", fps=fps)
    assert not list(tmp_path.iterdir())
