"""Fig. 15: latency of 100 tasks on 1, 2 and 3 devices and one MEC server, against local only.

The paper has Raspberry Pis; here ``rllib-mec testbed``'s emulation has real processes on this
machine, with slower CPUs and shaped links. A slower CPU takes ``--slowdown`` times the least CPU
time that the same work took with one device alone, so that local only hardly varies. Beside each
measured latency stands what the simulator predicted from what one device alone measured.

    python benchmarks/fig15_testbed.py [--tasks 100] [--repeats 3] [--bandwidth-mbps 50]

About 9 minutes on 2 idle cores; on a busy machine the numbers mean little. It writes
``results/fig15_testbed.{csv,png,md}``.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import pathlib
import sys
from typing import NamedTuple

import numpy as np
from machine import describe_machine

from rllib_mec.errors import MecError
from rllib_mec.evaluation import Interval
from rllib_mec.testbed.emulation import (
    BEST_POINTS,
    FULL_OFFLOAD,
    LOCAL_ONLY,
    Emulation,
)
from rllib_mec.testbed.emulation_run import EmulationOptions
from rllib_mec.viz.plotting import look, new_figure, save, style

RESULTS = pathlib.Path(__file__).parent / "results"
PAPER_SAVED = {1: 35, 2: 28, 3: 24}
"""Section V-G, in percent of local only."""
AS_FAST = 1.0
"""The control's slowdown: a device as fast as the server's core should not offload."""
POLICIES = (LOCAL_ONLY, FULL_OFFLOAD, BEST_POINTS)


class Row(NamedTuple):
    """One run.

    Attributes:
        slowdown: Of the devices.
        devices: N.
        repeat: Index of the repetition.
        policy: Who decided.
        mean_ms: Measured mean latency of a task; the next three likewise.
        p50_ms: Median.
        p95_ms: 95th percentile.
        energy_j: Energy of a task on the device, by the model.
        throughput_per_s: Tasks of all devices a second.
        waiting_ms: Mean time that a task waited for its decision.
        local_share: Share of tasks that ran fully on the device.
        predicted_ms: The simulator's mean latency.
        wrong: Wrong answers.
        fell_back: Share of tasks that the device had to finish.
        cuts: What the devices sent.
    """

    slowdown: float
    devices: int
    repeat: int
    policy: str
    mean_ms: float
    p50_ms: float
    p95_ms: float
    energy_j: float
    throughput_per_s: float
    waiting_ms: float
    local_share: float
    predicted_ms: float
    wrong: int
    fell_back: float
    cuts: str


def main(argv: list[str] | None = None) -> int:
    """Run, write, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default="mobilenet_v2", help="a torchvision model (default mobilenet_v2)")
    add("--tasks", type=int, default=100, help="of each device (default 100)")
    add("--repeats", type=int, default=3, help="of each run, each with other starts (default 3)")
    add("--slowdown", type=float, default=5.0, help="of the devices (default 5)")
    add("--bandwidth-mbps", type=float, default=50.0, help="of each device's link (default 50)")
    add("--codec", default="float32", help="how tensors are coded (default float32)")
    add("--link", default="auto", help="auto, netns or bucket")
    add("--out", type=pathlib.Path, default=RESULTS, help="where to write")
    args = parser.parse_args(argv)
    try:
        if args.repeats < 1:
            raise MecError(f"--repeats must be at least 1, got {args.repeats}")
        options = EmulationOptions(
            model=args.model,
            devices=max(PAPER_SAVED),
            tasks=args.tasks,
            slowdown=args.slowdown,
            bandwidth_mbps=args.bandwidth_mbps,
            codec=args.codec,
            link=args.link,
        )
        control = dataclasses.replace(options, devices=1, slowdown=AS_FAST)
        rows, link = measure(options, tuple(PAPER_SAVED), args.repeats)
        rows += measure(control, (1,), args.repeats)[0]
    except MecError as error:
        print(f"fig15_testbed: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "fig15_testbed.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)
    command = " ".join(["python", "benchmarks/fig15_testbed.py", *sys.argv[1:]])
    text = report(rows, options, link, command)
    (args.out / "fig15_testbed.md").write_text(text)
    draw(args.out / "fig15_testbed.png", rows, options)
    print(text)
    return 1 if any(row.wrong for row in rows) else 0


def measure(
    options: EmulationOptions, device_counts: tuple[int, ...], repeats: int
) -> tuple[list[Row], str]:
    """Run everything on one emulation; returns the rows, and under which conditions."""
    rows = []
    with Emulation(options, lambda message: print(message, file=sys.stderr)) as emulation:
        for repeat in range(repeats):
            for count in device_counts:
                for run in emulation.compare(count):
                    row = Row(
                        options.slowdown,
                        count,
                        repeat,
                        run.policy,
                        run.measured.mean_ms,
                        run.measured.p50_ms,
                        run.measured.p95_ms,
                        run.measured.energy_j,
                        run.measured.throughput_per_s,
                        run.measured.waiting_ms,
                        run.measured.local_share,
                        run.predicted.mean_ms,
                        run.wrong,
                        run.measured.fallback_share,
                        " | ".join(emulation.cuts(run)),
                    )
                    print(
                        f"repeat {repeat + 1}/{repeats}, {count} devices, {run.policy}:"
                        f" {row.mean_ms:.1f} ms, simulator {row.predicted_ms:.1f} ms",
                        flush=True,
                    )
                    rows.append(row)
        return rows, f"{emulation.link}; load average before the run {emulation.load:.1f}"


def of(rows: list[Row], slowdown: float, devices: int, policy: str) -> list[Row]:
    """The rows of one setting, one a repetition."""
    wanted = (slowdown, devices, policy)
    return [row for row in rows if (row.slowdown, row.devices, row.policy) == wanted]


def report(rows: list[Row], options: EmulationOptions, link: str, command: str) -> str:
    """The Markdown page."""
    repeats = 1 + max(row.repeat for row in rows)
    right = options.tasks * sum(row.devices for row in rows) - sum(row.wrong for row in rows)
    lines = [
        "# Fig. 15: the testbed with 1, 2 and 3 devices",
        "",
        f"`{command}`",
        "",
        f"{describe_machine()}. {options.model}, {options.tasks} tasks a device, devices"
        f" {options.slowdown:g}x slower than a core of this machine, {options.bandwidth_mbps:g}"
        f" Mbit/s a device in {options.codec}, by {link}; mean ± 95 % interval over {repeats}"
        " repetitions.",
        f"Right answers: {right} of {options.tasks * sum(row.devices for row in rows)} tasks;"
        f" {100 * np.mean([row.fell_back for row in rows]):.1f} % fell back to local.",
        "",
        "| slowdown | devices | policy | mean, ms | p50, ms | p95, ms | against local only |"
        " the paper | simulator, ms | its error | J/task | tasks/s | waiting, ms | local |",
        "|--:|--:|---|" + "--:|" * 11,
    ]
    settings = dict.fromkeys((row.slowdown, row.devices) for row in rows)
    for slowdown, devices in settings:
        local = of(rows, slowdown, devices, LOCAL_ONLY)
        for policy in POLICIES:
            own = of(rows, slowdown, devices, policy)
            mean, p50, p95 = (
                _cell([getattr(r, name) for r in own]) for name in ("mean_ms", "p50_ms", "p95_ms")
            )
            saved, paper = "", ""
            if policy != LOCAL_ONLY:
                pairs = zip(own, local, strict=True)
                saved = _cell([100 * (a.mean_ms / b.mean_ms - 1) for a, b in pairs], sign=True)
                saved += " %"
            if policy == BEST_POINTS and slowdown != AS_FAST:
                paper = f"−{PAPER_SAVED[devices]} %"
            predicted = np.mean([row.predicted_ms for row in own])
            error = 100 * (predicted / np.mean([row.mean_ms for row in own]) - 1)
            energy, rate, waiting, at_home = (
                np.mean([getattr(row, name) for row in own])
                for name in ("energy_j", "throughput_per_s", "waiting_ms", "local_share")
            )
            lines.append(
                f"| {slowdown:g} | {devices} | {policy} | {mean} | {p50} | {p95} | {saved} |"
                f" {paper} | {predicted:.1f} | {error:+.1f} % | {energy:.4f} | {rate:.1f} |"
                f" {waiting:.1f} | {at_home:.0%} |"
            )
    lines += ["", "Cuts of “best points”, which the simulator chose:", ""]
    for slowdown, devices in settings:
        cuts = sorted({row.cuts for row in of(rows, slowdown, devices, BEST_POINTS)})
        lines.append(f"- slowdown {slowdown:g}, {devices} devices: {'; '.join(cuts)}")
    return "\n".join(lines) + "\n"


def _cell(values: list[float], sign: bool = False) -> str:
    interval = Interval.of(values)
    spread = "" if len(values) < 2 else f" ± {interval.half_width:.1f}"
    return f"{interval.mean:{'+' if sign else ''}.1f}{spread}"


def draw(file: pathlib.Path, rows: list[Row], options: EmulationOptions) -> None:
    """Bars of the measured latencies, the simulator's as marks, and the paper's savings as text."""
    with style():
        figure, (axes,) = new_figure(1, 1, panel_inches=(5.4, 3.2))
        counts = list(PAPER_SAVED)
        width = 0.26
        for index, policy in enumerate(POLICIES):
            own = [of(rows, options.slowdown, count, policy) for count in counts]
            intervals = [Interval.of([row.mean_ms for row in each]) for each in own]
            places = np.arange(len(counts)) + (index - 1) * width
            axes.bar(
                places,
                [interval.mean for interval in intervals],
                width,
                yerr=[np.nan_to_num(interval.half_width) for interval in intervals],
                label=policy,
                color=look(policy)["color"] if policy != BEST_POINTS else look("EMH-PPO")["color"],
                hatch=("", "//", "")[index],
                edgecolor="white",
                error_kw={"elinewidth": 0.8, "capsize": 2},
            )
            axes.plot(
                places,
                [np.mean([row.predicted_ms for row in each]) for each in own],
                label="simulator" if index == 0 else None,
                linestyle="None",
                marker="D",
                color="black",
                markerfacecolor="white",
                zorder=5,
            )
            if policy == BEST_POINTS:
                for place, count, each in zip(places, counts, own, strict=True):
                    local = of(rows, options.slowdown, count, LOCAL_ONLY)
                    base = np.mean([row.mean_ms for row in local])
                    mean = np.mean([row.mean_ms for row in each])
                    top = max(mean, *(row.predicted_ms for row in each))
                    axes.annotate(
                        f"{100 * (mean / base - 1):+.0f} %\npaper:\n−{PAPER_SAVED[count]} %",
                        (float(place), float(top)),
                        xytext=(0, 7),
                        textcoords="offset points",
                        ha="center",
                        fontsize=7,
                        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
                    )
        axes.set_xticks(np.arange(len(counts)), [str(count) for count in counts])
        axes.set_xlabel("devices")
        axes.set_ylabel("mean latency of a task, ms")
        axes.set_title(f"{options.model}, {options.slowdown:g}x slower devices")
        axes.margins(x=0.08, y=0.18)
        figure.legend(loc="outside lower center", ncols=4)
        save(figure, file)


if __name__ == "__main__":
    sys.exit(main())
