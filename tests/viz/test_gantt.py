"""Gantt charts of a window, as text and as an image."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rllib_mec.envs import task_window_v0
from rllib_mec.errors import MecError
from rllib_mec.viz.gantt import COLOURS, gantt_image, gantt_text

# 60 ms, a column of text each: MD 0 computes 10, sends 5, waits 15 for the server, then computes a
# second task for 30; MD 1 has a task on the server until 20; MD 2 has none.
ENDS = np.zeros((3, 2, 3))
ENDS[0] = [[10, 15, 30], [60, 60, 60]]
ENDS[1, 0] = [0, 0, 20]
SIZES = np.array([2, 1, 0])


def colours_in(image):
    return {tuple(pixel) for pixel in image.reshape(-1, 3)}


def rgb(colour):
    return tuple(round(255 * part) for part in to_rgb(colour))


def test_a_window_as_text():
    assert gantt_text(ENDS, SIZES).splitlines() == [
        "task window, latency 60.0 ms",
        "md_0 |" + "L" * 10 + "t" * 5 + "S" * 15 + "L" * 30 + "| 2 tasks",
        "md_1 |" + "S" * 20 + "." * 40 + "| 1 task",
        "md_2 |" + " " * 60 + "|",
        "      0" + "60.0 ms".rjust(59),
        "      L local  t transmission  S server  . waiting",
    ]


def test_bars_of_many_devices_stand_below_each_other():
    ends = np.full((12, 1, 3), 5.0)
    lines = gantt_text(ends, np.ones(12, dtype=int)).splitlines()
    assert {line.index("|") for line in lines[1:13]} == {6}


def test_an_empty_window_as_text():
    lines = gantt_text(np.zeros((2, 5, 3)), np.zeros(2, dtype=int)).splitlines()
    assert lines[:3] == ["no task window yet", f"md_0 |{' ' * 60}|", f"md_1 |{' ' * 60}|"]


def test_an_image_shows_every_stage_in_its_colour():
    image = gantt_image(ENDS, SIZES)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    bars = image[: int(0.7 * len(image))]  # without the legend
    assert colours_in(bars) >= {rgb(colour) for colour in COLOURS}


def test_the_widths_in_an_image_are_durations():
    image = gantt_image(ENDS, SIZES)[:150]
    pixels = {
        colour: (image == rgb(colour)).all(axis=2).sum(axis=1).max() for colour in COLOURS[:3]
    }
    local, transmission, server = pixels.values()
    assert transmission / local == pytest.approx(5 / 40, abs=0.02)
    assert server / local == pytest.approx(20 / 40, abs=0.05)  # but for the numbers on the bars


def test_the_size_of_an_image_depends_on_the_number_of_devices_alone():
    empty = gantt_image(np.zeros((3, 2, 3)), np.zeros(3, dtype=int))
    assert empty.shape == gantt_image(ENDS, SIZES).shape
    assert empty.shape[0] < gantt_image(np.zeros((6, 2, 3)), np.zeros(6, dtype=int)).shape[0]


def test_drawing_does_not_change_the_window():
    ends, sizes = ENDS.copy(), SIZES.copy()
    gantt_image(ends, sizes), gantt_text(ends, sizes)
    np.testing.assert_array_equal(ends, ENDS)
    np.testing.assert_array_equal(sizes, SIZES)


@pytest.mark.parametrize("render_mode", ["ansi", "rgb_array"])
def test_the_environment_draws_its_last_window(render_mode):
    env = task_window_v0.parallel_env(num_devices=2, mean_tasks=3.0, render_mode=render_mode)
    env.reset(seed=0)
    empty = env.render()
    env.step({agent: env.action_space(agent).sample() for agent in env.agents})
    window = env.render()
    assert not np.array_equal(window, empty)
    np.testing.assert_array_equal(env.render(), window)
    env.reset()
    np.testing.assert_array_equal(env.render(), empty)


def test_without_a_render_mode_nothing_is_drawn():
    env = task_window_v0.parallel_env(num_devices=2)
    env.reset(seed=0)
    assert env.render() is None


def test_a_missing_matplotlib_is_one_clear_line(monkeypatch):
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MecError, match=r"pip install 'rllib_mec\[plot\]'") as error:
        gantt_image(ENDS, SIZES)
    assert "\n" not in str(error.value)
    gantt_text(ENDS, SIZES)


def test_an_image_needs_no_pyplot():
    # pyplot would keep every figure alive and may look for a display.
    script = (
        "import sys; import numpy as np; from rllib_mec.viz.gantt import gantt_image;"
        "gantt_image(np.ones((1, 1, 3)), np.ones(1, int));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
