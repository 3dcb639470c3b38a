"""Pictures of a partition: the operators with the cut drawn in, and the front of the cuts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.layout import Layout, lay_out
from rllib_mec.dnn.partition import PartitionTable
from rllib_mec.dnn.points import operator_points
from rllib_mec.errors import MecError
from rllib_mec.viz.plotting import check_installed, check_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEVICE, SERVER, CUT, QUIET = "#3b6fb6", "#e8a33d", "#c8102e", "#9aa0a6"
MAX_BACKGROUND_POINTS = 5_000


def draw(table: PartitionTable, index: int, path: str | Path) -> None:
    """Draw a table and one of its cuts into a file.

    Above, every operator, larger for more MACs, in the colour of the side it runs on, with the
    tensors that cross in red. Below, the table's points among all cuts, if those can be listed.

    Args:
        table: The partition table.
        index: The point whose cut to draw.
        path: Ends with one of :data:`.plotting.SUFFIXES`.

    Raises:
        MecError: The index is out of range, the suffix is unknown, or matplotlib is not installed.
    """
    path = check_target(path)
    check_installed()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    point = table.point(index)
    layout = lay_out(point.graph)
    height = -(layout.row_middle[-1] + min(layout.y)) + 1.5
    graph_inches = min(14.0, max(2.2, 0.38 * height))
    figure = Figure(figsize=(12, graph_inches + 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=[graph_inches, 3.8])
    _draw_graph(above, point.graph, point.head, layout)
    above.set_title(_headline(table, index), loc="left", fontsize=12, fontweight="bold")
    _draw_front(below, table, index)
    figure.savefig(path, dpi=130)


def _headline(table: PartitionTable, index: int) -> str:
    sent = table.operators[index]
    shown = ", ".join(sent[:3]) + (f" and {len(sent) - 3} more" if len(sent) > 3 else "")
    what = f"sends {table.bits[index] / 8e3:.1f} KB ({shown})" if sent else "full local"
    return f"{table.dnn}, point {index} of {len(table) - 1}: {what}"


def _draw_graph(axes: Axes, graph: OperatorGraph, head: int, layout: Layout) -> None:
    crossing = set(graph.crossing(head))
    for child, parents in enumerate(graph.parent_ids):
        for parent in parents:
            cut = parent in crossing and not head >> child & 1
            _draw_edge(axes, layout, parent, child, cut)
    largest = max(node.macs for node in graph.nodes) or 1
    for i, node in enumerate(graph.nodes):
        x, y = layout.position(i)
        is_input = node in graph.inputs
        axes.scatter(
            x,
            y,
            s=70 if is_input else 22 + 150 * math.sqrt(node.macs / largest),
            marker="s" if is_input else "o",
            color="#3c4043" if is_input else DEVICE if head >> i & 1 else SERVER,
            edgecolors=CUT if i in crossing else "white",
            linewidths=2.0 if i in crossing else 0.7,
            zorder=3,
        )
    for i in sorted(crossing)[:6]:
        x, y = layout.position(i)
        axes.annotate(
            graph.nodes[i].name,
            (x, y),
            xytext=(0, -11),
            textcoords="offset points",
            ha="left" if x < 1 else "right" if x > layout.columns - 2 else "center",
            va="top",
            fontsize=8.5,
            color=CUT,
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85},
            zorder=4,
        )
    axes.set_xlim(-0.9, layout.columns - 0.1)
    axes.set_ylim(layout.row_middle[-1] + min(layout.y) - 1.0, 0.3)
    axes.axis("off")
    for colour, label in ((DEVICE, "on the device"), (SERVER, "on the server")):
        axes.scatter([], [], s=60, color=colour, label=label)
    axes.plot([], [], color=CUT, linewidth=2, label="tensor sent")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, borderaxespad=0.2
    )


def _draw_edge(axes: Axes, layout: Layout, parent: int, child: int, cut: bool) -> None:
    style: dict[str, Any] = {"color": QUIET, "linewidth": 0.9, "alpha": 0.7, "zorder": 1}
    if cut:
        style = {"color": CUT, "linewidth": 2.0, "zorder": 2}
    start, end = layout.position(parent), layout.position(child)
    if layout.row[parent] == layout.row[child]:
        _draw_curve(axes, start, end, style)
        return
    # Two loose ends: it goes on in another row.
    axes.plot([start[0], start[0] + 0.6], [start[1], start[1] + 0.25], linestyle=":", **style)
    axes.plot([end[0] - 0.6, end[0]], [end[1] + 0.25, end[1]], linestyle=":", **style)


def _draw_curve(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], style: dict[str, Any]
) -> None:
    """A line, bent upwards where it would run through the operators between."""
    along = np.linspace(0.0, 1.0, 24)
    x = start[0] + (end[0] - start[0]) * along
    y = start[1] + (end[1] - start[1]) * (3 * along**2 - 2 * along**3)
    if end[0] - start[0] > 1 and abs(end[1] - start[1]) < 0.6:
        y = y + min(0.35 + 0.06 * (end[0] - start[0]), 0.8) * 4 * along * (1 - along)
    axes.plot(x, y, **style)


def _draw_front(axes: Axes, table: PartitionTable, index: int) -> None:
    work, sent = table.local_mmacs, table.bits / 8e3
    try:
        everything = operator_points(table.points[0].graph, limit=MAX_BACKGROUND_POINTS)
    except MecError:
        everything = []  # too many to list, which is why the front is found without listing them
    if everything and table.method != "operator":
        per_element = table.bits[0] / table.elements[0] / 8e3
        axes.scatter(
            [p.macs / 1e6 for p in everything],
            [p.elements * per_element for p in everything],
            s=9,
            color=QUIET,
            alpha=0.5,
            linewidths=0,
            label=f"all {len(everything)} cuts",
        )
    name = "Pareto front" if table.method == "pareto" else f"method {table.method!r}"
    if table.method == "pareto":
        axes.step(work, sent, where="post", color=DEVICE, linewidth=1.2, alpha=0.6)
    axes.scatter(work, sent, s=32, color=DEVICE, zorder=3, label=f"{name}, {len(table)} points")
    axes.scatter(
        work[index],
        sent[index],
        s=110,
        facecolors="none",
        edgecolors=CUT,
        linewidths=2,
        zorder=4,
        label=f"point {index}, drawn above",
    )
    axes.set_xlabel("work on the device (million MACs)")
    axes.set_ylabel("data sent (KB)")
    axes.set_ylim(bottom=-0.03 * max(sent.max(), 1e-9), top=min(axes.get_ylim()[1], 6 * sent.max()))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
