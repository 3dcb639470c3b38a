"""The planner for many devices, beside every heuristic and the bound that nobody gets below.

    python benchmarks/planner_scale.py [--devices 12 32 64 128] [--episodes 20]

For both profiles, M = C = 2, all MDs at 50 m with 50 tasks each, seed 0. It writes
``results/planner_scale.csv`` and ``results/planner_scale.md``. About 15 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import time
from typing import Any

from machine import describe_machine

from rllib_mec.evaluation import evaluate
from rllib_mec.evaluation.bound import lower_bound
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import (
    FullOffload,
    LocalOnly,
    Neurosurgeon,
    Planner,
    RandomPolicy,
    RoundRobin,
    ShortestQueue,
)

RESULTS = pathlib.Path(__file__).parent / "results"
DISTANCE_M = 50.0
RULES = (LocalOnly, FullOffload, RandomPolicy, Neurosurgeon, RoundRobin, ShortestQueue)


def main() -> int:
    """Measure everything, print it and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[12, 32, 64, 128], metavar="N")
    parser.add_argument("--episodes", type=int, default=20)
    options = parser.parse_args()
    rows = []
    for num_devices in options.devices:
        for profile in ("paper", "si"):
            row = measure(num_devices, profile, options.episodes)
            rows.append(row)
            print(*(f"{v:.2f}" if isinstance(v, float) else v for v in row.values()), flush=True)
    write(rows, options)
    return 0


def measure(num_devices: int, profile: str, episodes: int) -> dict[str, Any]:
    """The planner, the best of the others and the bound, for so many MDs."""
    scenario = Scenario.from_dict({"num_devices": num_devices, "profile": profile})
    planner = Planner(scenario, cache=False)
    planner.expect_distances(DISTANCE_M)
    began = time.monotonic()
    planner.decide(planner.mdp.make(1, num_tasks=50, distance_m=DISTANCE_M).observation())
    search_s = time.monotonic() - began
    planned = evaluate(planner, episodes=episodes, distance_m=DISTANCE_M)["reward"]
    others = {
        rule.name: evaluate(rule(scenario), episodes=episodes, distance_m=DISTANCE_M)["reward"].mean
        for rule in RULES
    }
    best = max(others, key=others.__getitem__)
    bound = lower_bound(scenario, num_tasks=50, distance_m=DISTANCE_M).reward
    return {
        "N": num_devices,
        "profile": profile,
        "planner": planned.mean,
        "planner ±": planned.half_width,
        "best other": others[best],
        "which": best,
        "bound": bound,
        "above the bound, %": 100.0 * (planned.mean / bound - 1.0),
        "search, s": search_s,
    }


def write(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The numbers as CSV, and a page."""
    with (RESULTS / "planner_scale.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    listed = " ".join(map(str, options.devices))
    lines = [
        "# The planner for many devices",
        "",
        f"Reward, mean ± 95 % interval of {options.episodes} episodes, seed 0, 50 tasks an MD, all "
        f"at {DISTANCE_M:g} m, M = C = 2. Command: `python benchmarks/planner_scale.py --devices "
        f"{listed} --episodes {options.episodes}`. Machine: {describe_machine()}. "
        "*Search* is the time to the first decision.",
        "",
        "| N | profile | planner | best of the others | bound | planner above it, % | search, s |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['N']} | {row['profile']} | {row['planner']:.2f} ± {row['planner ±']:.2f} "
            f"| {row['best other']:.2f} ({row['which']}) | {row['bound']:.2f} "
            f"| {row['above the bound, %']:.1f} | {row['search, s']:.0f} |"
            for row in rows
        ),
    ]
    (RESULTS / "planner_scale.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
