"""One task window as a Gantt chart like Fig. 4, as text or as an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rllib_mec.errors import MecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

STAGES = ("local", "transmission", "server", "waiting")
LETTERS = "LtS."
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#DDDDDD")
"""Of the stages: from Okabe and Ito's palette, distinct under all forms of colour blindness."""

_TEXT_COLOURS = ("white", "black", "white", "black")
_COLUMNS = 60
WAITING = STAGES.index("waiting")


class Block(NamedTuple):
    """A stretch of one MD's time."""

    device: int
    task: int
    stage: int
    start_ms: float
    end_ms: float

    @property
    def length_ms(self) -> float:
        """How long it took."""
        return self.end_ms - self.start_ms


def gantt_text(
    stage_ends: np.ndarray,
    window_size: np.ndarray,
    name: str = "task window",
    starts: np.ndarray | None = None,
) -> str:
    """Draw a window with letters, one line an MD.

    Args:
        stage_ends: When each task's stages (local, transmission, server) ended,
            ``(N, W_max, 3)``, ms.
        window_size: Tasks of each MD, ``(N,)``; all 0 gives an empty chart.
        name: What a step is called.
        starts: When each task began, ``(N, W_max)``, ms; by default as the one before ended.

    Returns:
        Lines of text, without a newline at the end.
    """
    latency = _latency_ms(stage_ends, window_size)
    num_devices = len(window_size)
    middles = (np.arange(_COLUMNS) + 0.5) * latency / _COLUMNS
    bars = np.full((num_devices, _COLUMNS), " ")
    for block in blocks_of(stage_ends, window_size, starts):
        inside = (middles >= block.start_ms) & (middles < block.end_ms)
        bars[block.device, inside] = LETTERS[block.stage]
    margin = len(f"md_{num_devices - 1} |")
    lines = [_title(name, latency)]
    for n, bar in enumerate(bars):
        bar_text = f"md_{n}".ljust(margin - 1) + f"|{''.join(bar)}|"
        lines.append(f"{bar_text} {_summary(window_size[n])}".rstrip())
    end = f"{latency:.1f} ms" if latency else ""
    lines.append((" " * margin + "0" + end.rjust(_COLUMNS - 1)).rstrip())
    legend = "  ".join(f"{letter} {stage}" for letter, stage in zip(LETTERS, STAGES, strict=True))
    return "\n".join([*lines, " " * margin + legend])


def gantt_image(
    stage_ends: np.ndarray,
    window_size: np.ndarray,
    name: str = "task window",
    starts: np.ndarray | None = None,
) -> np.ndarray:
    """Draw a window as an image; its size depends on N alone, so that windows make a video.

    Args:
        stage_ends: See :func:`gantt_text`.
        window_size: See :func:`gantt_text`.
        name: See :func:`gantt_text`.
        starts: See :func:`gantt_text`.

    Returns:
        The image, ``(H, W, 3)`` uint8.

    Raises:
        MecError: matplotlib is not installed.
    """
    figure = _figure(stage_ends, window_size, name, starts)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _figure(
    stage_ends: np.ndarray, window_size: np.ndarray, name: str, starts: np.ndarray | None
) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MecError(
            "drawing an image needs matplotlib: pip install 'rllib_mec[plot]'"
        ) from error
    # Not pyplot: it keeps every figure alive, and picks a backend that may need a display.
    num_devices = len(window_size)
    latency = _latency_ms(stage_ends, window_size)
    figure = Figure(figsize=(8.0, 1.5 + 0.45 * num_devices), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(_title(name, latency), fontsize=11, loc="left")
    axes.set_xlim(0.0, latency or 1.0)
    axes.set_ylim(num_devices - 0.5, -0.5)
    axes.set_yticks(range(num_devices), [f"md_{n}" for n in range(num_devices)])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"time since the {name}'s start (ms)")
    axes.spines[["top", "right"]].set_visible(False)
    if not latency:
        axes.set_xticks([])
    for n in range(num_devices):
        if latency and window_size[n] == 0:
            axes.text(latency / 2, n, "no tasks", ha="center", va="center", color="0.45")
    blocks = list(blocks_of(stage_ends, window_size, starts))
    draw_bars(axes, blocks)
    figure.legend(
        legend_patches(), STAGES, loc="outside lower center", ncols=len(STAGES), frameon=False,
        handlelength=1.4, fontsize=9,
    )  # fmt: skip
    figure.draw_without_rendering()  # lays it out, so that widths in pixels are known
    pixels_per_ms = axes.get_window_extent().width / (latency or 1.0)
    draw_numbers(axes, blocks, pixels_per_ms)
    rows, tasks = np.nonzero(np.arange(stage_ends.shape[1]) < np.asarray(window_size)[:, None])
    draw_task_ends(axes, rows, stage_ends[rows, tasks, 2], clip=False)
    return figure


def draw_bars(axes: Axes, blocks: Sequence[Block]) -> None:
    """Draw blocks as bars, one row an MD.

    Args:
        axes: To be drawn on, its x axis in ms.
        blocks: What to draw.
    """
    for stage, colour in enumerate(COLOURS):
        mine = [block for block in blocks if block.stage == stage]
        axes.barh(
            [block.device for block in mine],
            [block.length_ms for block in mine],
            left=[block.start_ms for block in mine],
            height=0.66,
            color=colour,
            hatch="////" if stage == WAITING else None,
            edgecolor="white" if stage == WAITING else None,  # the colour of the hatching
            linewidth=0.0,
        )


def draw_numbers(axes: Axes, blocks: Sequence[Block], pixels_per_ms: float) -> None:
    """Number the tasks, from 1, on the longest block of each, where there is room.

    Args:
        axes: To be drawn on, its x axis in ms.
        blocks: All that are drawn.
        pixels_per_ms: Scale of the x axis.
    """
    for block in _longest(blocks):
        label = str(block.task + 1)
        if block.length_ms * pixels_per_ms >= 4 + 8 * len(label):
            axes.text(
                (block.start_ms + block.end_ms) / 2, block.device, label, ha="center",
                va="center_baseline", fontsize=9, color=_TEXT_COLOURS[block.stage], clip_on=True,
            )  # fmt: skip


def draw_task_ends(
    axes: Axes, devices: np.ndarray, ends_ms: np.ndarray, *, clip: bool = True
) -> None:
    """Mark where tasks end; without clipping also in full at the axes' end.

    Args:
        axes: To be drawn on, its x axis in ms.
        devices: MD of each task, ``(tasks,)`` int.
        ends_ms: When it ended, ``(tasks,)``.
        clip: Whether to cut the marks off at the edge of the axes.
    """
    axes.vlines(ends_ms, devices - 0.33, devices + 0.33, color="black", linewidth=1.2, clip_on=clip)


def legend_patches() -> list[Patch]:
    """What the legend shows of each of :data:`STAGES`."""
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=colour, edgecolor="white", hatch="////" if i == WAITING else None)
        for i, colour in enumerate(COLOURS)
    ]


def _latency_ms(stage_ends: np.ndarray, window_size: np.ndarray) -> float:
    """The window's latency; 0 where no MD had a task."""
    return max(
        (float(stage_ends[n, w - 1, 2]) for n, w in enumerate(window_size) if w > 0), default=0.0
    )


def blocks_of(
    stage_ends: np.ndarray, window_size: np.ndarray, starts: np.ndarray | None = None
) -> Iterator[Block]:
    """All stages of some length, then each MD's waiting (as of its last task).

    Args:
        stage_ends: When the stages of each MD's tasks ended, ``(N, tasks, 3)``, ms; 0 where
            there is none.
        window_size: Tasks of each MD, ``(N,)`` int.
        starts: When each task began, ``(N, tasks)``, ms; by default as the one before ended.
    """
    latency = _latency_ms(stage_ends, window_size)
    for n, size in enumerate(window_size):
        clock = 0.0
        for x in range(size):
            clock = clock if starts is None else max(clock, float(starts[n, x]))
            for stage in range(3):
                end = float(stage_ends[n, x, stage])
                if end > clock:
                    yield Block(n, x, stage, clock, end)
                    clock = end
        if size > 0 and clock < latency:
            yield Block(n, size - 1, WAITING, clock, latency)


def _longest(blocks: Sequence[Block]) -> list[Block]:
    """The longest block of each task."""
    longest: dict[tuple[int, int], Block] = {}
    for block in blocks:
        key = block.device, block.task
        if block.stage != WAITING and (
            key not in longest or block.length_ms > longest[key].length_ms
        ):
            longest[key] = block
    return list(longest.values())


def _title(name: str, latency_ms: float) -> str:
    return f"{name}, latency {latency_ms:.1f} ms" if latency_ms else f"no {name} yet"


def _summary(size: int) -> str:
    return f"{size} task{'' if size == 1 else 's'}" if size else ""
