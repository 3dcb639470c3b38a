"""A recorded episode as an animation: its Gantt chart passing by, its queues getting shorter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_mec.errors import MecError
from rllib_mec.network.checks import positive_number
from rllib_mec.viz import plotting
from rllib_mec.viz.episode_chart import (
    LANE_INCHES,
    WIDTH_INCHES,
    add_stage_legend,
    draw_steps,
    prepare_lanes,
    queue_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rllib_mec.envs.recording import Recording

_DPI = 100
_STEPS_IN_VIEW = 2.2
_CURSOR_AT = 0.75  # of the view's width, once it moves
_LONGEST_S = 30.0
_LAST_FRAME_MS = 2000
_MOST_FPS = 50
_COLOURS = 256  # as many as a GIF can have


def write_animation(recording: Recording, path: str | Path, title: str, fps: float = 10.0) -> int:
    """Write a GIF in which the episode passes by, at about a second a step.

    Args:
        recording: The episode.
        path: The file.
        title: What stands above it.
        fps: Frames a second, at most 50.

    Returns:
        The number of frames.

    Raises:
        MecError: matplotlib is not installed, or ``fps`` is out of its range.
    """
    check_fps(fps)
    seconds = min(float(len(recording.steps)), _LONGEST_S)
    count = max(round(seconds * fps), 2)
    times = np.linspace(0.0, recording.latency_ms, count)
    with plotting.style():
        film = _Film(recording, title)
        # One palette for all frames, from one that shows every colour: else colours would flicker.
        palette = _palette(film.frame(recording.latency_ms / 2))
        frames = _quantized(film, times, palette)
        next(frames).save(
            path,
            save_all=True,
            append_images=frames,
            duration=[round(100 / fps) * 10] * (count - 1) + [_LAST_FRAME_MS],
            loop=0,
        )
    return count


def check_fps(fps: float) -> None:
    """Check that a GIF can have so many frames a second.

    Args:
        fps: Frames a second.

    Raises:
        MecError: Not a number above 0 and at most 50.
    """
    if positive_number("fps", fps) > _MOST_FPS:
        raise MecError(f"fps must be at most {_MOST_FPS}, which is all that browsers show of a GIF")


def _palette(image: Any) -> Any:
    """The most frequent colours of an image, exactly; white stays white."""
    from PIL import Image

    chosen: list[tuple[int, ...]] = []
    for _, colour in sorted(image.getcolors(image.width * image.height), reverse=True):
        # Pillow looks colours up with their last two bits cut off, and would mix up near ones.
        if all(max(abs(a - b) for a, b in zip(colour, c, strict=True)) > 8 for c in chosen):
            chosen.append(colour)
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in chosen[:_COLOURS] for part in colour])
    return palette


def _quantized(film: _Film, times: np.ndarray, palette: Any) -> Iterator[Any]:
    for time_ms in times:
        yield film.frame(float(time_ms)).quantize(palette=palette, dither=0)


class _Film:
    """The episode's chart drawn once; a frame shows a part of it, and covers what is to come."""

    def __init__(self, recording: Recording, title: str):
        self._recording = recording
        self._span = min(
            _STEPS_IN_VIEW * recording.latency_ms / len(recording.steps), recording.latency_ms
        )
        num_devices = recording.num_devices
        figure, (self._axes, queues) = plotting.new_figure(
            1, 2, panel_inches=(WIDTH_INCHES / 2, LANE_INCHES * (num_devices + 0.8) + 1.3)
        )
        figure.set_dpi(_DPI)
        self._axes.get_gridspec().set_width_ratios([5, 1])
        self._canvas: Any = figure.canvas
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        self._text = self._axes.set_title(" ")
        prepare_lanes(self._axes, recording)
        self._axes.set_xlabel("time since the episode's start (ms)")
        self._queue_bars, self._queue_texts = _draw_queues(queues, recording)
        add_stage_legend(figure)
        self._show(0.0)
        figure.draw_without_rendering()  # lays it out once: else it would tremble
        figure.set_layout_engine("none")
        draw_steps(self._axes, recording, 0.0, recording.latency_ms)
        self._devices, self._ends = recording.task_ends()
        self._bars = list(self._axes.patches)
        self._cover = self._axes.axvspan(0.0, 1.0, color="white", zorder=5)
        self._cursor = self._axes.axvline(0.0, color="#D55E00", linewidth=1.4, zorder=6)

    def frame(self, time_ms: float) -> Any:
        """The picture at a time, as a PIL image."""
        from PIL import Image

        recording = self._recording
        view = self._show(time_ms)
        self._cover.set_x(time_ms)
        self._cover.set_width(max(view + self._span - time_ms, 0.0))
        self._cursor.set_xdata([time_ms, time_ms])
        # What nobody can see takes most of the time to draw.
        for bar in self._bars:
            bar.set_visible(bar.get_x() < time_ms and bar.get_x() + bar.get_width() > view)
        for text in self._axes.texts:
            text.set_visible(view - self._span < text.get_position()[0] < time_ms)
        steps = recording.steps
        index = int(np.searchsorted([step.start_ms for step in steps], time_ms, side="right")) - 1
        # Of tasks that come meanwhile the next step tells.
        recent = (self._ends > steps[index].start_ms + 1e-9) & (self._ends <= time_ms + 1e-9)
        done = np.bincount(self._devices[recent], minlength=recording.num_devices)
        left = np.maximum(steps[index].queues - done, 0)
        self._text.set_text(
            f"{recording.mdp.step_name} {index + 1} of {len(steps)}, "
            f"{time_ms:.0f} ms, tasks left {queue_text(left)}"
        )
        for bar, text, count in zip(self._queue_bars, self._queue_texts, left, strict=True):
            bar.set_width(count)
            text.set_x(count)
            text.set_text(f" {count}")
        self._canvas.draw()
        return Image.fromarray(np.asarray(self._canvas.buffer_rgba())[..., :3])

    def _show(self, time_ms: float) -> float:
        """Move the view, and return where it starts."""
        last = self._recording.latency_ms - self._span
        start = min(max(time_ms - _CURSOR_AT * self._span, 0.0), last)
        self._axes.set_xlim(start, start + self._span)
        return start


def _draw_queues(axes: Axes, recording: Recording) -> tuple[Any, list[Any]]:
    """Bars of the tasks left, one lane an MD."""
    queues = np.max([step.queues for step in recording.steps], axis=0)
    prepare_lanes(axes, recording)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title("tasks left")
    bars = axes.barh(range(len(queues)), queues, height=0.66, color="#C9CED6")
    axes.set_xlim(0.0, 1.25 * max(queues.max(), 1))
    texts = [
        axes.text(count, n, f" {count}", va="center_baseline") for n, count in enumerate(queues)
    ]
    return bars, texts
