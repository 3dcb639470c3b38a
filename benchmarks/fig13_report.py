"""What Fig. 13 says: its CSV, table and picture, beside the paper's numbers."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from fig13_network import Images

from rllib_mec.dnn import PartitionTable
from rllib_mec.evaluation import Interval
from rllib_mec.testbed.accuracy import NOISE, degradation_probability
from rllib_mec.viz.plotting import add_legend, look, new_figure, save, style

LATENCIES = ("ours", "paper")
LOCAL = "local only"
PAPER_LOSSLESS = 90.2
PAPER_LOSS = {"EMH-PPO": 6.35, "AgileNN": 22.74, "MAHPPO": 29.06, "H-PPO": 32.63}
"""Section V-F names only EMH-PPO's; the other three are given to the baselines by latency."""
_TASKS = 50


class Method(NamedTuple):
    """A method and its latency for 50 tasks.

    Attributes:
        name: The method.
        latency_ms: The latency that counts.
        source: Where it comes from.
        paper_ms: The latency in the paper's Table IV.
        local_ms: Latency of local only.
    """

    name: str
    latency_ms: float
    source: str
    paper_ms: float
    local_ms: float


class Row(NamedTuple):
    """One measured accuracy.

    Attributes:
        point: Index of the partition point.
        degradation: Its label.
        unit: What the probability is of.
        probability: The probability.
        seed: Of the draw.
        accuracy: Share of the images classified right.
        lossless: The same with intact tensors.
    """

    point: int
    degradation: str
    unit: str
    probability: float
    seed: int
    accuracy: float
    lossless: float

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Row:
        """The row that a CSV line holds."""
        point, degradation, unit, probability, seed, accuracy, lossless = fields
        return cls(
            int(point), degradation, unit, float(probability), int(seed), float(accuracy),
            float(lossless),
        )  # fmt: skip

    @property
    def key(self) -> tuple[int, str, str, float, int]:
        """What was measured."""
        return self[:5]

    @property
    def loss(self) -> float:
        """Accuracy lost, in percentage points."""
        return 100 * (self.lossless - self.accuracy)


def methods(latencies: str, results: pathlib.Path) -> list[Method]:
    """The methods with their latencies, fastest in the paper first.

    Args:
        latencies: ``"ours"``: what ``results`` holds, else the paper's; ``"paper"``: the paper's.
        results: Folder of measured results.
    """
    text = files("rllib_mec.evaluation.paper").joinpath("table_iv.csv").read_text()
    paper = {
        row["method"]: float(row["total_latency_ms"])
        for row in csv.DictReader(text.splitlines())
        if int(row["num_tasks"]) == _TASKS
    }
    local_ms = paper.pop("Local Only")
    measured = our_latencies(results) if latencies == "ours" else {}
    found = []
    for name in sorted(paper, key=lambda name: paper[name]):
        latency, source = measured.get(name, (paper[name], "paper's Table IV"))
        found.append(Method(name, latency, source, paper[name], local_ms))
    return found


def our_latencies(results: pathlib.Path) -> dict[str, tuple[float, str]]:
    """Measured latency in ms of each method that has been, and the file that says so."""
    seeds: dict[str, list[float]] = {}
    file = "table4.csv"
    if (results / file).exists():
        for row in _read(results / file):
            if int(row["tasks"]) == _TASKS:
                seeds.setdefault(row["policy"], []).append(float(row["latency_ms"]))
    elif (results / "headline.csv").exists():
        file = "headline.csv"
        rows = [row for row in _read(results / file) if row.get("policy", "EMH-PPO") == "EMH-PPO"]
        seeds["EMH-PPO"] = [float(row["latency_ms"]) for row in rows]
    return {name: (float(np.mean(latencies)), file) for name, latencies in seeds.items()}


def _read(file: pathlib.Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


class Losses:
    """Accuracy lost, averaged over the partition points.

    Args:
        rows: What was measured.
        shares: How much each point counts; at full local nothing can be lost.
    """

    def __init__(self, rows: Sequence[Row], shares: np.ndarray):
        """Index the rows."""
        self._rows = {row.key: row for row in rows}
        self._shares = shares
        self.seeds = sorted({row.seed for row in rows})
        self.degradations = list(dict.fromkeys(row.degradation for row in rows))

    def __call__(
        self, degradation: str, unit: str, probability: float, shares: np.ndarray | None = None
    ) -> Interval:
        """The loss in percentage points, with its 95 % interval over seeds."""
        shares = self._shares if shares is None else shares
        return Interval.of(
            [
                sum(
                    share * self._rows[point, degradation, unit, round(probability, 4), seed].loss
                    for point, share in enumerate(shares[:-1])
                )
                for seed in self.seeds
            ]
        )

    def nearest_noise(self, probability: float, loss: float) -> str:
        """The noise on single elements that loses most nearly this much."""
        noises = [label for label in self.degradations if label.startswith(NOISE)]
        return min(noises, key=lambda n: abs(self(n, "element", probability).mean - loss))


def write(
    folder: pathlib.Path,
    rows: list[Row],
    methods: list[Method],
    shares: np.ndarray,
    table: PartitionTable,
    images: Images,
    origin: str,
) -> None:
    """Write CSV, picture and table, which begins with ``origin``: its command and machine."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "fig13_accuracy.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)
    losses = Losses(rows, shares)
    emh = methods[0]
    noise = losses.nearest_noise(_probability(emh.paper_ms, emh), PAPER_LOSS[emh.name])
    text = _table(rows, methods, shares, table, images, origin, losses, noise)
    (folder / "fig13_accuracy.md").write_text(text)
    _draw(folder / "fig13_accuracy.png", methods, losses, noise)
    print(text)


def _probability(latency_ms: float, method: Method) -> float:
    return degradation_probability(latency_ms, method.local_ms)


def _table(
    rows: list[Row],
    methods: list[Method],
    shares: np.ndarray,
    table: PartitionTable,
    images: Images,
    origin: str,
    losses: Losses,
    noise: str,
) -> str:
    names = [", ".join(operators) or "full local" for operators in table.operators]
    weights = "; ".join(
        f"{name}: {100 * share:.0f} %" for name, share in zip(names, shares, strict=True) if share
    )
    lines = [
        "# Fig. 13: accuracy under precision loss",
        "",
        f"{origin}. ResNet-50 on {len(images.labels)} test images of {images.name},"
        f" lossless {100 * rows[0].lossless:.1f} % (the paper: CIFAR-10, {PAPER_LOSSLESS} %).",
        f"Accuracy lost in percentage points, mean ± 95 % interval over seeds {losses.seeds};"
        f" the tensors sent count {weights}.",
        "",
        f"The paper does not say what degrading does. `{noise}` on single elements (Gaussian, its"
        " standard deviation as a multiple of the tensor's root mean square) is of the strengths"
        f" tried ({', '.join(d for d in losses.degradations if d.startswith(NOISE))}) the one that,"
        " at the paper's latency, comes nearest to the paper's loss of EMH-PPO; the other rows of"
        " that column follow from it.",
        "",
        f"| method | the paper's p | the paper's loss | ours at the paper's p, {noise} | latency,"
        f" ms | p | {noise}, elements | {noise}, whole tasks | int4, elements | int8, elements |",
        "|---|" + "--:|" * 9,
    ]
    for method in methods:
        paper_p, p = (_probability(ms, method) for ms in (method.paper_ms, method.latency_ms))
        cells = [
            losses(noise, "element", paper_p),
            losses(noise, "element", p),
            losses(noise, "task", p),
            losses("int4", "element", p),
            losses("int8", "element", p),
        ]
        first, *others = (cell.text(2) for cell in cells)
        lines.append(
            f"| {method.name} | {paper_p:.3f} | {PAPER_LOSS[method.name]:.2f} | {first} |"
            f" {method.latency_ms:.1f} ({method.source}) | {p:.3f} | {' | '.join(others)} |"
        )
    lines += [
        f"| {LOCAL} | 1.000 | 0 | 0 | {methods[0].local_ms:.2f} | 1.000 | 0 | 0 | 0 | 0 |",
        "",
        "Local only has p = 1 by the formula, but sends nothing that could lose precision. The"
        " text gives the baselines' losses without their names; they stand here in the order of p.",
        "",
        f"Each partition point alone, at our latencies, `{noise}` on single elements:",
        "",
        "| method | " + " | ".join(names[:-1]) + " |",
        "|---|" + "--:|" * (len(table) - 1),
    ]
    for method in methods:
        p = _probability(method.latency_ms, method)
        alone = [losses(noise, "element", p, only) for only in np.eye(len(table))[:-1]]
        cells = " | ".join(one.text(2) for one in alone)
        lines.append(f"| {method.name} | {cells} |")
    return "\n".join(lines) + "\n"


def _draw(file: pathlib.Path, methods: list[Method], losses: Losses, noise: str) -> None:
    """Left: every degradation over p. Right: the methods at the paper's p, beside the paper's."""
    with style():
        figure, (left, right) = new_figure(1, 2, panel_inches=(3.9, 3.0))
        probabilities = sorted({_probability(m.paper_ms, m) for m in methods})
        p = np.array([0.0, *probabilities])
        for index, label in enumerate(losses.degradations):
            mean = [0.0, *(losses(label, "element", x).mean for x in probabilities)]
            left.plot(p, mean, label=label, **look(index=index))
        left.plot(
            p, [0.0, *(PAPER_LOSS[m.name] for m in methods)], label="the paper", **look("paper")
        )
        left.set_title("Each element degrades with probability p")
        left.set_xlabel("p = latency / local latency")
        left.set_ylabel("accuracy lost, % points")
        bars: list[tuple[str, Callable[[Method], float], dict]] = [
            ("the paper", lambda m: PAPER_LOSS[m.name], {"color": "white", "edgecolor": "black"}),
        ]
        for index, unit in enumerate(("element", "task")):
            bars.append(
                (
                    f"{noise}, each {unit}",
                    lambda m, unit=unit: losses(noise, unit, _probability(m.paper_ms, m)).mean,
                    {"color": look(index=index)["color"], "hatch": ("", "//")[index]},
                )
            )
        width = 0.8 / len(bars)
        for k, (label, value, colours) in enumerate(bars):
            places = np.arange(len(methods)) + (k - 1) * width
            right.bar(places, [value(m) for m in methods], width, label=label, **colours)
        right.set_xticks(np.arange(len(methods)), [m.name for m in methods])
        right.set_title("At the latencies of the paper's Table IV")
        right.set_ylabel("accuracy lost, % points")
        right.set_ylim(top=1.45 * max(PAPER_LOSS.values()))  # room for the legend
        right.legend(loc="upper left")
        add_legend(figure, left, columns=4)
        save(figure, file)
