"""Is the planner near-optimal where the MDs are? Beside a search with four times its budget.

    python benchmarks/planner.py [--devices 1 2 3 4] [--processes 2]

For both profiles and MDs that all stay at 5, 20, 50, 80 and 200 m (the last in a range of 100 to
300 m), with 50 tasks each, 400 episodes, seed 0: the reward of the planner and of one that refines
its plans in four times as many rounds. It writes ``results/planner.csv`` and
``results/planner.md`` whenever a cell is complete; rows of other N stay as they were measured.
About 20 minutes on 2 cores for N = 1 to 3, an hour with N = 4.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import multiprocessing
import pathlib
import time
from typing import Any

import pandas as pd
from machine import describe_machine

from rllib_mec.evaluation import Interval, evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, Planner, PlannerBudget

CSV = pathlib.Path(__file__).parent / "results" / "planner.csv"
PAGE = CSV.with_suffix(".md")
CELL = ["N", "profile", "distance, m"]
DISTANCES_M = (5.0, 20.0, 50.0, 80.0, 200.0)
FAR_M = (100.0, 300.0)
TIMES = 4
EPISODES = 400
POLICIES = ("longer", "planner", "local")


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
        for name in POLICIES
        for profile, distance_m in itertools.product(("paper", "si"), DISTANCES_M)
    ]
    began = time.monotonic()
    found: dict[tuple[int, str, float], dict[str, Interval]] = {}
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for done, (run, reward) in enumerate(pool.imap_unordered(measure, runs), start=1):
            num_devices, name, profile, distance_m = run
            cell = found.setdefault((num_devices, profile, distance_m), {})
            cell[name] = reward
            if len(cell) == len(POLICIES):
                write(num_devices, profile, distance_m, cell)
            left_s = (time.monotonic() - began) / done * (len(runs) - done)
            print(*run, reward.text(3), f"  {left_s:.0f} s left", flush=True)
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


def write(num_devices: int, profile: str, distance_m: float, rewards: dict[str, Interval]) -> None:
    """One more cell in the CSV, and the page of all of its rows."""
    row: dict[str, Any] = {
        "N": num_devices,
        "profile": profile,
        "distance, m": distance_m,
        **{name: rewards[name].mean for name in POLICIES},
        **{f"{name} ±": rewards[name].half_width for name in POLICIES},
        "behind, %": 100.0 * (rewards["planner"].mean / rewards["longer"].mean - 1.0),
        "machine": describe_machine(),
    }
    frame = pd.DataFrame([row])
    if CSV.exists():
        frame = pd.concat([pd.read_csv(CSV), frame]).drop_duplicates(CELL, keep="last")
    frame = frame.sort_values(CELL)
    frame.to_csv(CSV, index=False)
    machines = [
        f"N = {', '.join(map(str, rows['N'].unique()))}: {machine}"
        for machine, rows in frame.groupby("machine", sort=False)
    ]
    lines = [
        "# The planner, beside a search with four times its rounds",
        "",
        f"Reward, mean ± 95 % interval of {EPISODES} episodes, seed 0, 50 tasks an MD, all MDs at "
        "one distance. Command: `python benchmarks/planner.py`. "
        f"Measured on {'; '.join(machines)}.",
        "",
        "| N | profile | distance, m | planner | four times the rounds | behind, % | local only |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['N']} | {row['profile']} | {row['distance, m']:g} "
            f"| {row['planner']:.2f} ± {row['planner ±']:.2f} "
            f"| {row['longer']:.2f} ± {row['longer ±']:.2f} "
            f"| {row['behind, %']:.2f} | {row['local']:.2f} |"
            for row in frame.to_dict("records")
        ),
        "",
        f"At most {frame['behind, %'].max():.2f} % behind; "
        "a negative number is a shorter search that was luckier.",
    ]
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
