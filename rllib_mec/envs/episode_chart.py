"""A recorded episode as one long Gantt chart, as an animation of it, or as text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_mec import plotting
from rllib_mec.envs.recording import RecordedStep, Recording
from rllib_mec.envs.render import (
    STAGES,
    Block,
    draw_bars,
    draw_numbers,
    draw_task_ends,
    gantt_text,
    legend_patches,
)
from rllib_mec.simulator.checks import positive_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 100
_WIDTH_INCHES = 9.0
_LANE_INCHES = 0.42
_TASKS_A_LINE = 15
_WINDOWS_IN_VIEW = 2.2
_CURSOR_AT = 0.75  # of the view's width, once it moves
_LONGEST_S = 30.0
_COLOURS_IN_GIF = 256
_LANES_TOP = -0.95  # above the first MD, where the steps' captions stand


def episode_text(recording: Recording) -> str:
    """The steps as charts of letters, one below the other.

    Args:
        recording: The episode.

    Returns:
        Lines of text, without a newline at the end.
    """
    name = recording.mdp.step_name
    parts = []
    for index, step in enumerate(recording.steps):
        title = f"{name} {index + 1} at {step.start_ms:.1f} ms, left {_queues(step.queues)}"
        tasks = (step.stage_ends[..., 2] > 0.0).sum(1)
        parts.append(f"{gantt_text(step.stage_ends, tasks, title)}\n")
    return "\n".join([*parts, summary(recording)])


def summary(recording: Recording) -> str:
    """One line of what the episode came to."""
    steps = len(recording.steps)
    return (
        f"{'whole episode' if recording.is_whole else 'beginning of an episode'}: "
        f"{steps} {recording.mdp.step_name}{'' if steps == 1 else 's'}, "
        f"{recording.num_done} tasks, reward {recording.reward:.2f}, "
        f"latency {recording.latency_ms:.1f} ms, "
        f"energy {recording.energy_j / max(recording.num_done, 1):.4f} J/task"
    ).replace("-", "−")


def episode_figure(recording: Recording, title: str) -> Figure:
    """The whole episode as a Gantt chart whose time goes on from line to line.

    Args:
        recording: The episode.
        title: What stands above it; the summary follows.

    Raises:
        MecError: matplotlib is not installed.
    """
    lines = _lines(recording)
    span = max(line[-1].end_ms - line[0].start_ms for line in lines)
    with plotting.style():
        lane = _LANE_INCHES * (recording.num_devices + 0.8)
        figure, panels = plotting.new_figure(len(lines), 1, panel_inches=(_WIDTH_INCHES, lane))
        figure.set_figheight(len(lines) * lane + 1.0)
        figure.suptitle(f"{title}\n{summary(recording)}", x=0.01, ha="left", fontsize=10)
        for axes, line in zip(panels, lines, strict=True):
            _prepare(axes, recording)
            axes.set_xlim(line[0].start_ms, line[0].start_ms + span)
        panels[-1].set_xlabel("time since the episode's start (ms)")
        _add_legend(figure)
        figure.draw_without_rendering()  # lays it out, so that widths in pixels are known
        figure.set_layout_engine("none")
        pixels_per_ms = panels[0].get_window_extent().width / span * _DPI / figure.dpi
        for axes, line in zip(panels, lines, strict=True):
            start, end = line[0].start_ms, line[-1].end_ms
            _draw(axes, recording, pixels_per_ms, start, end)
            axes.spines["bottom"].set_bounds(start, end)
            axes.set_xticks([tick for tick in axes.get_xticks() if start <= tick <= end])
    return figure


def write_animation(recording: Recording, path: str | Path, title: str, fps: float = 10.0) -> int:
    """Write a GIF in which the episode passes by, at about a second a step.

    Args:
        recording: The episode.
        path: The file.
        title: What stands above it.
        fps: Frames a second.

    Returns:
        The number of frames.

    Raises:
        MecError: matplotlib is not installed, or ``fps`` is not positive.
    """
    fps = positive_number("fps", fps)
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
            duration=[round(1000 / fps)] * (count - 1) + [2000],
            loop=0,
        )
    return count


def _palette(image: Any) -> Any:
    """The most frequent colours of an image, exactly; white stays white."""
    from PIL import Image

    chosen: list[tuple[int, ...]] = []
    for _, colour in sorted(image.getcolors(image.width * image.height), reverse=True):
        # Pillow looks colours up with some bits cut off, and would mix up near ones.
        if all(max(abs(a - b) for a, b in zip(colour, c, strict=True)) > 6 for c in chosen):
            chosen.append(colour)
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in chosen[:_COLOURS_IN_GIF] for part in colour])
    return palette


def _quantized(film: _Film, times: np.ndarray, palette: Any) -> Iterator[Any]:
    for time_ms in times:
        yield film.frame(float(time_ms)).quantize(palette=palette, dither=0)


class _Film:
    """The episode's chart drawn once; a frame shows a part of it, and covers what is to come."""

    def __init__(self, recording: Recording, title: str):
        self._recording = recording
        self._span = min(
            _WINDOWS_IN_VIEW * recording.latency_ms / len(recording.steps), recording.latency_ms
        )
        num_devices = recording.num_devices
        self._figure, (self._axes, self._bars_axes) = plotting.new_figure(
            1, 2, panel_inches=(_WIDTH_INCHES / 2, _LANE_INCHES * (num_devices + 0.8) + 1.3)
        )
        self._figure.set_dpi(_DPI)
        grid = self._axes.get_gridspec()
        grid.set_width_ratios([5, 1])
        self._figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        self._text = self._axes.set_title(" ")
        _prepare(self._axes, recording)
        self._axes.set_xlabel("time since the episode's start (ms)")
        self._queue_bars, self._queue_texts = _draw_queues(self._bars_axes, recording)
        _add_legend(self._figure)
        self._show(0.0)
        self._figure.draw_without_rendering()  # lays it out once: else it would tremble
        self._figure.set_layout_engine("none")
        pixels_per_ms = self._axes.get_window_extent().width / self._span
        _draw(self._axes, recording, pixels_per_ms, 0.0, recording.latency_ms)
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
        done = np.bincount(
            self._devices[self._ends <= time_ms + 1e-9], minlength=recording.num_devices
        )
        left = steps[0].queues - done
        self._text.set_text(
            f"{recording.mdp.step_name} {index + 1} of {len(steps)}, "
            f"{time_ms:.0f} ms, tasks left {_queues(left)}"
        )
        for bar, text, count in zip(self._queue_bars, self._queue_texts, left, strict=True):
            bar.set_width(count)
            text.set_x(count)
            text.set_text(f" {count}")
        self._figure.canvas.draw()
        return Image.fromarray(np.asarray(self._figure.canvas.buffer_rgba())[..., :3])

    def _show(self, time_ms: float) -> float:
        """Move the view, and return where it starts."""
        last = self._recording.latency_ms - self._span
        start = min(max(time_ms - _CURSOR_AT * self._span, 0.0), last)
        self._axes.set_xlim(start, start + self._span)
        return start


def _lines(recording: Recording) -> list[list[RecordedStep]]:
    """The steps dealt to lines of about equal length, none of them cut."""
    tasks = max(int(sum(column)) for column in zip(*(s.window_size for s in recording.steps)))
    length_ms = recording.latency_ms / math.ceil(max(tasks, 1) / _TASKS_A_LINE)
    lines: dict[int, list[RecordedStep]] = {}
    for step in recording.steps:
        middle = (step.start_ms + step.end_ms) / 2
        lines.setdefault(int(middle / length_ms), []).append(step)
    return list(lines.values())


def _prepare(axes: Axes, recording: Recording) -> None:
    """A lane for each MD."""
    num_devices = recording.num_devices
    axes.set_ylim(num_devices - 0.5, _LANES_TOP)
    axes.set_yticks(range(num_devices), [f"md_{n}" for n in range(num_devices)])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


def _draw(
    axes: Axes, recording: Recording, pixels_per_ms: float, start_ms: float, end_ms: float
) -> None:
    """Everything between two times: the tasks, and where steps begin."""
    blocks = [b for b in recording.blocks() if b.end_ms > start_ms and b.start_ms < end_ms]
    blocks = [_within(block, start_ms, end_ms) for block in blocks]
    draw_bars(axes, blocks)
    draw_numbers(axes, blocks, pixels_per_ms)
    devices, ends = recording.task_ends()
    inside = (ends > start_ms) & (ends <= end_ms + 1e-9)
    draw_task_ends(axes, devices[inside], ends[inside])
    for index, step in enumerate(recording.steps):
        if start_ms <= step.start_ms < end_ms:
            axes.axvline(step.start_ms, color="#444444", linewidth=0.7, zorder=0.5)
            caption = _caption(recording, index, step.latency_ms * pixels_per_ms)
            axes.text(step.start_ms, _LANES_TOP + 0.3, caption, fontsize=8, clip_on=True)


def _within(block: Block, start_ms: float, end_ms: float) -> Block:
    return block._replace(
        start_ms=max(block.start_ms, start_ms), end_ms=min(block.end_ms, end_ms)
    )


def _caption(recording: Recording, index: int, pixels: float) -> str:
    """What stands above a step: as much as there is room for."""
    step = recording.steps[index]
    number = f" {index + 1}"
    reward = f"{recording.mdp.step_name} {index + 1}: r = {step.reward:.1f}".replace("-", "−")
    for text in (f" {reward}, left {_queues(step.queues)}", f" {reward}", number):
        if len(text) * 5.5 < pixels:
            return text
    return ""


def _draw_queues(axes: Axes, recording: Recording) -> tuple[Any, list[Any]]:
    """Bars of the tasks left, one lane an MD."""
    queues = recording.steps[0].queues
    _prepare(axes, recording)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title("tasks left")
    bars = axes.barh(range(len(queues)), queues, height=0.66, color="#C9CED6")
    axes.set_xlim(0.0, 1.25 * max(queues))
    texts = [
        axes.text(count, n, f" {count}", va="center_baseline") for n, count in enumerate(queues)
    ]
    return bars, texts


def _add_legend(figure: Figure) -> None:
    figure.legend(
        legend_patches(), STAGES, loc="outside lower center", ncols=len(STAGES), handlelength=1.4
    )


def _queues(queues: np.ndarray) -> str:
    return " · ".join(str(int(count)) for count in queues)
