"""What a task costs in networks of 1 to 10 000 MDs, and what a second thread brings to a batch.

    python benchmarks/scale.py [--repeats 5] [--threads 2]

MDs are unlike (``local_slowdown`` from 3 to 8 in up to 100 groups) and every task's decision is
drawn, so that few events coincide; M = C = N / 10, at least 2, if not said otherwise; a batch has
some 4000 MDs in 2 worlds or more. Rounds over all networks alternate, so that a slow minute of the
machine hits all alike. It writes ``results/scale.csv`` and ``results/scale.md``. Two minutes.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import pathlib
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from machine import describe_machine

from rllib_mec.envs.actions import power_w
from rllib_mec.envs.draws import Draw
from rllib_mec.envs.mdp import MDP
from rllib_mec.evaluation import Interval
from rllib_mec.network.windows import WindowOutcome, play_windows
from rllib_mec.policies import RandomPolicy
from rllib_mec.registry import make_mdp

RESULTS = pathlib.Path(__file__).parent / "results"
NETWORKS = [
    *((n, max(2, n // 10)) for n in (1, 3, 10, 64, 300, 1000, 3000, 10_000)),
    (64, 2),
    (1000, 2),
]
BATCH, GROUPS, ACTIONS, LEAST_S = 4000, 100, 4, 0.1
OTHERS = {"stream": "mec_task_stream_v0", "slot": "mec_time_slot_v0"}
BAR_US = 0.25


class Bench:
    """One network, ready to be measured again and again.

    Args:
        num_devices: N.
        others: M and C.
        threads: The number to compare with one.
    """

    def __init__(self, num_devices: int, others: int, threads: int):
        """Make the worlds, and draw decisions for them."""
        self.name = (num_devices, others)
        groups = min(GROUPS, num_devices)
        fields: dict[str, Any] = {
            "devices": [
                {
                    "count": (num_devices * (i + 1)) // groups - (num_devices * i) // groups,
                    "local_slowdown": 3.0 + 5.0 * i / groups,
                }
                for i in range(groups)
            ],
            "num_servers": others,
            "num_channels": others,
        }
        self.num_envs = max(2, BATCH // num_devices)
        mdp = make_mdp("mec_task_window_v0", fields)
        _ = mdp.scenario.physics  # the DNN's trace is no part of what is measured
        self._stepper(mdp)()  # what is loaded once is none either
        tracemalloc.start()
        step = self._stepper(mdp)
        step()
        self.megabytes = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        self.what: dict[str, Callable[[], int]] = {"engine": self._engine(mdp)}
        self.what["window"] = step
        for key, env in OTHERS.items():
            self.what[key] = self._stepper(make_mdp(env, fields))
        self.rivals = [self._stepper(mdp, number) for number in (1, threads)]

    def _stepper(self, mdp: MDP, threads: int = 1) -> Callable[[], int]:
        """Plays a step of the batch; how many tasks that were."""
        num_tasks = None if mdp.tasks_arrive else 10**8  # so that all steps are equally long
        worlds = mdp.make(self.num_envs, 0, num_tasks=num_tasks, num_threads=threads)
        policy = RandomPolicy(mdp)
        observation = worlds.reset()
        actions = itertools.cycle([policy.decide(observation) for _ in range(ACTIONS)])
        return lambda: int(worlds.step(next(actions)).window_size.sum())

    def _engine(self, mdp: MDP) -> Callable[[], int]:
        """Plays a window of every world, on the engine alone."""
        worlds = mdp.make(self.num_envs, 0)
        scenario, physics = mdp.scenario, mdp.scenario.physics
        decided = RandomPolicy(mdp).decide(worlds.reset())
        power = power_w(decided["power"], scenario)
        keys = np.arange(self.num_envs, dtype=np.uint64)
        gain = mdp.draw_gains(Draw(keys, scenario.num_devices), worlds.distances_m)
        sizes = np.minimum(decided["window"] + 1, worlds.queues)

        def play() -> int:
            outcome = WindowOutcome.of(sizes, scenario.max_window, physics.num_points)
            play_windows(
                decided["partition"], decided["channel"], decided["server"], power, gain, physics,
                outcome,
            )  # fmt: skip
            return int(sizes.sum())

        return play

    def measure(self) -> dict[str, float]:
        """One round: µs a task by name, of the engine and of the environments' steps."""
        found = {}
        for name, play in self.what.items():
            # The thread's own time: others may use the machine.
            tasks, steps, took_s = 0, 0, 0.0
            while took_s < LEAST_S:
                start = time.thread_time()
                tasks += play()
                took_s += time.thread_time() - start
                steps += 1
            found[name] = 1e6 * took_s / tasks
            if name == "window":
                found["windows a second"] = steps * self.num_envs / took_s
        found["gain"] = self._gain()
        return found

    def _gain(self) -> float:
        """How many times as fast threads are at their best, step by step in turn."""
        best_s = [np.inf, np.inf]
        end = time.perf_counter() + 3 * LEAST_S
        while time.perf_counter() < end:
            for i, play in enumerate(self.rivals):
                start = time.perf_counter()
                play()
                best_s[i] = min(best_s[i], time.perf_counter() - start)
        return best_s[0] / best_s[1]


def main() -> int:
    """Measure everything, print it and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    benches = [Bench(*network, options.threads) for network in NETWORKS]
    for bench in benches:
        bench.measure()  # compiles
    found: dict[tuple[int, int], list[dict[str, float]]] = {bench.name: [] for bench in benches}
    for repeat in range(options.repeats):
        for bench in benches:
            found[bench.name].append(bench.measure())
            last = {name: round(value, 2) for name, value in found[bench.name][-1].items()}
            print(f"[{repeat + 1}/{options.repeats}] N, M = {bench.name}: {last}", flush=True)
    write(benches, found, options)
    return 0


def write(
    benches: list[Bench], found: dict[tuple[int, int], list[dict[str, float]]], options: Any
) -> None:
    """The numbers as CSV, and a page."""
    with (RESULTS / "scale.csv").open("w", newline="") as file:
        names = list(next(iter(found.values()))[0])
        writer = csv.writer(file)
        writer.writerow(["N", "M", "repeat", *names])
        for (num_devices, others), rounds in found.items():
            for i, values in enumerate(rounds):
                writer.writerow([num_devices, others, i, *(f"{values[k]:.4f}" for k in names)])

    rows = []
    smallest = found[(3, 2)]
    for bench in benches:
        rounds = found[bench.name]

        def text(values: Any, digits: int = 2) -> str:
            interval = Interval.of(list(values))
            return f"{interval.mean:,.{digits}f} ± {interval.half_width:,.{digits}f}"

        ratios = (a["engine"] / b["engine"] for a, b in zip(rounds, smallest, strict=True))
        rows.append(
            f"| {bench.name[0]} | {bench.name[1]} | {text(r['engine'] for r in rounds)} "
            f"| {text(ratios)} "
            f"| {' | '.join(text(r[k] for r in rounds) for k in ('window', *OTHERS))} "
            f"| {text((r['windows a second'] for r in rounds), 0)} "
            f"| {text(r['gain'] for r in rounds)} | {bench.num_envs} "
            f"| {bench.megabytes:.1f} |"
        )
    us = Interval.of([r["engine"] for r in found[(1000, 100)]]).mean
    largest = Interval.of(
        [a["engine"] / b["engine"] for a, b in zip(found[(10_000, 1000)], smallest, strict=True)]
    ).mean
    lines = [
        "# Scale: what a task costs in networks of 1 to 10 000 MDs",
        "",
        f"Command: `python benchmarks/scale.py --repeats {options.repeats} --threads "
        f"{options.threads}`. Mean ± 95 % interval of {options.repeats} rounds. Seed 0; decisions "
        f"drawn, MDs in up to {GROUPS} unlike groups. Machine: {describe_machine()}.",
        "",
        "µs a task of one core: of the engine alone, and of whole steps of the batched "
        "environments (draws, physics, reward, observation, checks). Windows/s: of the window "
        f"environment on one thread; beside it how many times as fast {options.threads} threads "
        "are, by the best of many steps in turn: with nothing to gain where others use the machine "
        f"(its load at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores). MB: the most "
        "that the worlds of the batch and a step of them take.",
        "",
        "| N | M = C | engine, µs | × N = 3 | window, µs | stream, µs | slot, µs | windows/s "
        f"| × on {options.threads} threads | worlds | MB |",
        "|" + "---|" * 11,
        *rows,
        "",
        f"Bar: {BAR_US} µs a task of the engine at N = 1000, M = C = 100: "
        f"{'met' if us <= BAR_US else 'not met'}, {us:.2f}. From N = 3 to 10 000 a task's cost "
        f"grows {largest:.1f}-fold. With M = C = 2 it grows with N, since all MDs on a channel "
        "interfere with each other; and two servers finish few of 1000 MDs' tasks in a slot.",
        "",
        "Nothing in the batched environments grows with N² but what a layout of one's own brings. "
        "The PettingZoo environments do: every agent is handed the global state and its one-hot, "
        "12 N² bytes a step where MDs are equal: 12 MB at N = 1000, 1.2 GB at 10 000.",
    ]
    (RESULTS / "scale.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    raise SystemExit(main())
