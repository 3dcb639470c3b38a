"""A recorded episode as one long Gantt chart, as an image or as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rllib_mec.viz import plotting
from rllib_mec.viz.gantt import (
    STAGES,
    Block,
    draw_bars,
    draw_numbers,
    draw_task_ends,
    gantt_text,
    legend_patches,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rllib_mec.envs.recording import RecordedStep, Recording

WIDTH_INCHES = 9.0
LANE_INCHES = 0.42
_TASKS_A_LINE = 15
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
        title = f"{name} {index + 1} at {step.start_ms:.1f} ms, left {queue_text(step.queues)}"
        tasks = (step.stage_ends[..., 2] > 0.0).sum(1)
        parts.append(f"{gantt_text(step.stage_ends, tasks, title, step.starts)}\n")
    return "\n".join([*parts, summary(recording)])


def summary(recording: Recording) -> str:
    """One line of what the episode came to.

    Args:
        recording: The episode, or its beginning.
    """
    steps = len(recording.steps)
    return (
        f"{'whole episode' if recording.is_whole else 'beginning of an episode'}: "
        f"{steps} {recording.mdp.step_name}{'' if steps == 1 else 's'}, "
        f"{recording.num_done} tasks, reward {recording.reward:.2f}, "
        f"latency {recording.latency_ms:.1f} ms, "
        f"energy {recording.energy_j / max(recording.num_done, 1):.4f} J/task"
    )


def episode_figure(recording: Recording, title: str) -> Figure:
    """The whole episode as a Gantt chart whose time goes on from line to line.

    Args:
        recording: The episode.
        title: What stands above it; the summary follows.

    Raises:
        MecError: matplotlib is not installed.
    """
    lines = _lines(recording)
    span = max(line[-1].end_ms - line[0].start_ms for line in lines) or 1.0  # nobody came
    with plotting.style():
        lane = LANE_INCHES * (recording.num_devices + 0.8)
        figure, panels = plotting.new_figure(len(lines), 1, panel_inches=(WIDTH_INCHES, lane))
        figure.set_figheight(len(lines) * lane + 1.0)
        heading = f"{title}\n{summary(recording)}".replace("reward -", "reward −")
        figure.suptitle(heading, x=0.01, ha="left", fontsize=10)
        for axes, line in zip(panels, lines, strict=True):
            prepare_lanes(axes, recording)
            axes.set_xlim(line[0].start_ms, line[0].start_ms + span)
        panels[-1].set_xlabel("time since the episode's start (ms)")
        add_stage_legend(figure)
        figure.draw_without_rendering()  # lays it out, so that widths in pixels are known
        figure.set_layout_engine("none")
        for axes, line in zip(panels, lines, strict=True):
            start, end = line[0].start_ms, line[-1].end_ms
            draw_steps(axes, recording, start, end)
            axes.spines["bottom"].set_bounds(start, end)
            axes.set_xticks([tick for tick in axes.get_xticks() if start <= tick <= end])
    return figure


def _lines(recording: Recording) -> list[list[RecordedStep]]:
    """The steps dealt to lines of about equal length, none of them cut."""
    tasks = int(np.sum([step.window_size for step in recording.steps], axis=0).max())
    length_ms = recording.latency_ms / math.ceil(max(tasks, 1) / _TASKS_A_LINE)
    lines: dict[int, list[RecordedStep]] = {}
    for step in recording.steps:
        middle = (step.start_ms + step.end_ms) / 2
        lines.setdefault(int(middle / length_ms), []).append(step)
    return list(lines.values())


def prepare_lanes(axes: Axes, recording: Recording) -> None:
    """A lane for each MD.

    Args:
        axes: To be drawn on.
        recording: The episode.
    """
    num_devices = recording.num_devices
    axes.set_ylim(num_devices - 0.5, _LANES_TOP)
    axes.set_yticks(range(num_devices), [f"md_{n}" for n in range(num_devices)])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


def draw_steps(axes: Axes, recording: Recording, start_ms: float, end_ms: float) -> None:
    """Everything between two times: the tasks, and where steps begin.

    The axes must be laid out, since what is written depends on the room there is.

    Args:
        axes: To be drawn on, its x axis in ms.
        recording: The episode.
        start_ms: Since the episode's start.
        end_ms: Since the episode's start.
    """
    left, right = axes.get_xlim()
    inches_per_ms = axes.get_position().width * WIDTH_INCHES / (right - left)
    pixels_per_ms = 100 * inches_per_ms  # at any resolution: text grows with it
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
    return block._replace(start_ms=max(block.start_ms, start_ms), end_ms=min(block.end_ms, end_ms))


def _caption(recording: Recording, index: int, pixels: float) -> str:
    """What stands above a step: as much as there is room for."""
    step = recording.steps[index]
    number = index + 1
    reward = f"{recording.mdp.step_name.split()[-1]} {number}: r = {step.reward:.1f}"
    left = queue_text(step.queues).replace(" ", "")
    for text in (f" {reward}, left {left}", f" {reward}", f" {number}"):
        if len(text) * 5.5 < pixels:
            return text.replace("-", "−")
    return ""


def add_stage_legend(figure: Figure) -> None:
    """Say below everything which colour is which stage.

    Args:
        figure: A figure with a constrained layout.
    """
    figure.legend(
        legend_patches(), STAGES, loc="outside lower center", ncols=len(STAGES), handlelength=1.4
    )


def queue_text(queues: np.ndarray) -> str:
    """The tasks left of every MD, ``(N,)``, as ``50 · 49 · 50``.

    Args:
        queues: Whole numbers, ``(N,)``.
    """
    return " · ".join(str(int(count)) for count in queues)
