"""Is the planner near-optimal where the MDs are? Beside a search with four times its budget.

    python benchmarks/planner.py [--devices 1 2 3 4] [--processes 2]

For both profiles and MDs that all stay at 5, 20, 50, 80 and 200 m (the last in a range of 100 to
300 m), with 50 tasks each, 400 episodes, seed 0: the reward of the planner and of one that refines
its plans in four times as many rounds. It writes ``results/planner.csv`` and
``results/planner.md``. About 20 minutes on 2 cores for N = 1 to 3, an hour with N = 4.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import multiprocessing
import pathlib
import time
from typing import Any

from machine import describe_machine

from rllib_mec.evaluation import Interval, evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, Planner, PlannerBudget

RESULTS = pathlib.Path(__file__).parent / "results"
DISTANCES_M = (5.0, 20.0, 50.0, 80.0, 200.0)
FAR_M = (100.0, 300.0)
TIMES = 4
EPISODES = 400


def main() -> int:
    """Measure everything, print it and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 3, 4], metavar="N")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    # The longest first, so that no process waits for another at the end.
    runs = [
        (num_devices, name, profile, distance_m)
        for num_devices in sorted(options.devices, reverse=True)
        for name in ("longer", "planner", "local")
        for profile, distance_m in itertools.product(("paper", "si"), DISTANCES_M)
    ]
    began = time.monotonic()
    found: dict[tuple[int, str, float], dict[str, Interval]] = {}
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for done, (run, reward) in enumerate(pool.imap_unordered(measure, runs), start=1):
            num_devices, name, profile, distance_m = run
            found.setdefault((num_devices, profile, distance_m), {})[name] = reward
            left_s = (time.monotonic() - began) / done * (len(runs) - done)
            print(*run, reward.text(3), f"  {left_s:.0f} s left", flush=True)
    write(dict(sorted(found.items())))
    return 0


def measure(run: tuple[int, str, str, float]) -> tuple[tuple[int, str, str, float], Interval]:
    """The reward of one policy, beside what was asked."""
    num_devices, name, profile, distance_m = run
    fields: dict[str, Any] = {"num_devices": num_devices, "profile": profile}
    if distance_m > Scenario.distance_range_m[1]:
        fields["distance_range_m"] = FAR_M
    scenario = Scenario.from_dict(fields)
    budget = PlannerBudget()
    if name == "longer":
        budget = dataclasses.replace(budget, rounds=TIMES * budget.rounds)
    policy = (
        LocalOnly(scenario) if name == "local" else Planner(scenario, budget=budget, cache=False)
    )
    return run, evaluate(policy, episodes=EPISODES, distance_m=distance_m)["reward"]


def write(found: dict[tuple[int, str, float], dict[str, Interval]]) -> None:
    """The numbers as CSV, and a page."""
    rows: list[dict[str, Any]] = []
    for (num_devices, profile, distance_m), rewards in found.items():
        row: dict[str, Any] = {"N": num_devices, "profile": profile, "distance, m": distance_m}
        for name in ("planner", "longer", "local"):
            row |= {name: rewards[name].mean, f"{name} ±": rewards[name].half_width}
        row["behind, %"] = 100.0 * (rewards["planner"].mean / rewards["longer"].mean - 1.0)
        rows.append(row)
    with (RESULTS / "planner.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    listed = " ".join(map(str, sorted({row["N"] for row in rows})))
    lines = [
        "# The planner, beside a search with four times its rounds",
        "",
        f"Reward, mean ± 95 % interval of {EPISODES} episodes, seed 0, 50 tasks an MD, all MDs at "
        f"one distance. Command: `python benchmarks/planner.py --devices {listed}`. "
        f"Machine: {describe_machine()}.",
        "",
        "| N | profile | distance, m | planner | four times the rounds | behind, % | local only |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['N']} | {row['profile']} | {row['distance, m']:g} "
            f"| {row['planner']:.2f} ± {row['planner ±']:.2f} "
            f"| {row['longer']:.2f} ± {row['longer ±']:.2f} "
            f"| {row['behind, %']:.2f} | {row['local']:.2f} |"
            for row in rows
        ),
        "",
        f"At most {max(row['behind, %'] for row in rows):.2f} % behind; "
        "a negative number is a shorter search that was luckier.",
    ]
    (RESULTS / "planner.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
