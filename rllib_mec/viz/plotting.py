"""The one style of all figures: colours, lines and sizes that also read in black and white.

with style():
    figure, axes = new_figure(1, 2)
    draw_band(axes[0], steps, rewards_per_seed, label="EMH-PPO")
    save(figure, "curves.png")
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_mec.errors import MecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES = (3.6, 2.7)
DPI = 200
SUFFIXES = (".png", ".pdf", ".svg", ".jpg")
"""Of the files that figures can be drawn into."""

_BLUE, _VERMILLION, _GREEN, _PURPLE, _ORANGE, _SKY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
)  # fmt: skip
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": _BLUE, "linestyle": "-", "marker": "o"},
    {"color": _VERMILLION, "linestyle": (0, (5, 1.5)), "marker": "s"},
    {"color": _GREEN, "linestyle": (0, (6, 1.5, 1, 1.5)), "marker": "^"},
    {"color": _PURPLE, "linestyle": (0, (1.5, 1)), "marker": "D"},
    {"color": _ORANGE, "linestyle": (0, (6, 1.5, 1, 1.5, 1, 1.5)), "marker": "v"},
    {"color": _SKY, "linestyle": (0, (8, 1.2, 2, 1.2)), "marker": "P"},
    {"color": "#5D4A8A", "linestyle": (0, (10, 2)), "marker": "X"},
    {"color": "#7A7A7A", "linestyle": (0, (2, 1.5, 6, 1.5)), "marker": "*"},
)
"""Okabe and Ito's palette first: distinct under all forms of colour blindness."""

NAMED_LOOKS: dict[str, dict[str, Any]] = {
    "EMH-PPO": _LOOKS[0],
    "MAHPPO": _LOOKS[1],
    "H-PPO": _LOOKS[2],
    "AgileNN": _LOOKS[3],
    "full offload": _LOOKS[4],
    "random": _LOOKS[5],
    "planner": {"color": "black", "linestyle": (0, (1, 1)), "marker": "_"},
    "local only": {"color": "#7A7A7A", "linestyle": "-", "marker": "None"},
    "paper": {"color": "black", "linestyle": "None", "marker": "o", "markerfacecolor": "white"},
}
"""Series that look the same in every figure."""

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#444444",
    "axes.xmargin": 0.02,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.6,
}


def check_installed() -> None:
    """Check that figures can be drawn; ask before long work.

    Raises:
        MecError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MecError(
            "drawing an image needs matplotlib: pip install 'rllib_mec[plot]'"
        ) from error


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Within it, everything that matplotlib draws has our style.

    Raises:
        MecError: matplotlib is not installed.
    """
    check_installed()
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def look(label: str | None = None, index: int = 0) -> dict[str, Any]:
    """Keywords of ``axes.plot`` for a series.

    Args:
        label: The series' name; one of :data:`NAMED_LOOKS` always looks the same.
        index: Which look to take otherwise; they repeat after eight.
    """
    return dict(NAMED_LOOKS.get(label or "", _LOOKS[index % len(_LOOKS)]))


def new_figure(
    rows: int = 1, columns: int = 1, *, panel_inches: tuple[float, float] = PANEL_INCHES
) -> tuple[Figure, np.ndarray]:
    """A figure of panels; call it within :func:`style`.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        panel_inches: Width and height of one.

    Returns:
        The figure, and its axes, ``(rows * columns,)`` in reading order.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not pyplot: it keeps every figure alive, and picks a backend that may need a display.
    width, height = panel_inches
    figure = Figure(figsize=(columns * width, rows * height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def mean_and_half_width(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over seeds and the half width of its 95 % interval, by Student's t.

    Args:
        values: ``(seeds, points)``; NaN where a seed has no value.

    Returns:
        Both ``(points,)``; NaN where no seed has a value, the half width also where only one has.
    """
    from scipy.stats import t

    values = np.atleast_2d(np.asarray(values, dtype=float))
    there = np.isfinite(values)
    count = there.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(there, values, 0.0).sum(axis=0) / count
        squares = np.where(there, (values - mean) ** 2, 0.0).sum(axis=0)
        error = np.sqrt(squares / (count - 1) / count)
        return mean, t.ppf(0.975, count - 1) * error


def on_common_axis(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Curves of several seeds at the same places.

    Args:
        curves: x (rising) and y of each seed, of any lengths.

    Returns:
        All places of all curves, ``(points,)``, and what each curve has there, ``(seeds,
        points)``: interpolated between its own places, NaN beyond its ends.
    """
    everywhere = np.unique(np.concatenate([x for x, _ in curves]))
    return everywhere, np.stack(
        [np.interp(everywhere, x, y, left=np.nan, right=np.nan) for x, y in curves]
    )


def draw_band(
    axes: Axes,
    x: np.ndarray,
    values: np.ndarray,
    *,
    label: str | None = None,
    looks: Mapping[str, Any] | None = None,
    markers: bool = False,
) -> None:
    """Draw the mean over seeds with a band of its 95 % interval, and each seed as a thin line.

    The axes are scaled to the seeds' values: of two seeds the band is 13 times as wide as they are
    apart, and may leave the picture.

    Args:
        axes: Where.
        x: ``(points,)``.
        values: ``(seeds, points)``; see :func:`mean_and_half_width`.
        label: Its name in the legend.
        looks: Keywords of ``axes.plot``; by default those that :func:`look` has for the label.
        markers: Whether each point is marked instead of each seed drawn, as is right for a few
            measured ones.
    """
    values = np.atleast_2d(np.asarray(values, dtype=float))
    mean, half_width = mean_and_half_width(values)
    looks = dict(look(label) if looks is None else looks)
    if not markers:
        looks.pop("marker", None)
    axes.plot(x, mean, label=label, **looks)
    if not markers and len(values) > 1:
        axes.plot(x, values.T, color=looks["color"], alpha=0.5, linewidth=0.5)
    there = np.isfinite(values)
    axes.update_datalim(np.column_stack([np.broadcast_to(x, values.shape)[there], values[there]]))
    limits = axes.dataLim.frozen()
    if np.isfinite(half_width).any():
        axes.fill_between(
            x, mean - half_width, mean + half_width, color=looks["color"], alpha=0.18, linewidth=0
        )
        axes.dataLim.set(limits)


def add_legend(figure: Figure, axes: Axes, *, columns: int = 4) -> None:
    """One legend for all panels, below them.

    Args:
        figure: The figure.
        axes: The panel whose series are named.
        columns: The most entries in a row.
    """
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(handles)))


def check_target(path: str | Path, suffixes: Sequence[str] = SUFFIXES) -> Path:
    """The path of a file to be written, if it can be written; ask before long work.

    Args:
        path: The file.
        suffixes: Those it may have, with their dots.

    Raises:
        MecError: The suffix is another one, there is no such folder, or it is a folder itself.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in suffixes:
        raise MecError(f"the name {str(path)!r} must end with one of {', '.join(suffixes)}")
    if not file.absolute().parent.is_dir():
        raise MecError(f"there is no folder {str(file.parent)!r}")
    if file.is_dir():
        raise MecError(f"{str(path)!r} is a folder, expected the name of a file to be written")
    return file


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure into a file.

    Args:
        figure: The figure.
        path: Its suffix says in which format, e.g. ``.png`` or ``.pdf``.

    Raises:
        MecError: As :func:`check_target`.
    """
    figure.savefig(check_target(path), dpi=DPI)
