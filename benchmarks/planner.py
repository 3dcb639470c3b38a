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

from machine import describe_machine

from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, Planner, PlannerBudget

RESULTS = pathlib.Path(__file__).parent / "results"
DISTANCES_M = (5.0, 20.0, 50.0, 80.0, 200.0)
FAR_M = (100.0, 300.0)
TIMES = 4
EPISODES = 400


def main() -> int:
    """Measure every cell, print it and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 3, 4], metavar="N")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    # The longest first, so that no process waits for another at the end.
    cells = sorted(itertools.product(options.devices, ("paper", "si"), DISTANCES_M), reverse=True)
    began, rows = time.monotonic(), []
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for row in pool.imap_unordered(measure, cells):
            rows.append(row)
            left = (time.monotonic() - began) / len(rows) * (len(cells) - len(rows))
            print("  ".join(f"{k} {v}" for k, v in row.items()), f"  {left:.0f} s left", flush=True)
    rows.sort(key=lambda row: (row["N"], row["profile"], row["distance"]))
    write(rows, options.devices)
    return 0


def measure(cell: tuple[int, str, float]) -> dict[str, object]:
    """One row: rewards of the planner, of the longer search, and of local only."""
    num_devices, profile, distance_m = cell
    fields = {"distance_range_m": FAR_M} if distance_m > Scenario().distance_range_m[1] else {}
    scenario = Scenario(num_devices=num_devices, profile=profile, **fields)
    usual = PlannerBudget()
    longer = dataclasses.replace(usual, rounds=TIMES * usual.rounds)
    row: dict[str, object] = {"N": num_devices, "profile": profile, "distance": distance_m}
    for name, policy in (
        ("planner", Planner(scenario, cache=False)),
        ("longer", Planner(scenario, budget=longer, cache=False)),
        ("local", LocalOnly(scenario)),
    ):
        found = evaluate(policy, episodes=EPISODES, distance_m=distance_m)
        row[name] = round(found["reward"].mean, 3)
        row[f"{name} ±"] = round(found["reward"].half_width, 3)
    row["behind, %"] = round(100.0 * (row["planner"] / row["longer"] - 1.0), 2)  # type: ignore[operator]
    return row


def write(rows: list[dict[str, object]], devices: list[int]) -> None:
    """The numbers as CSV, and a page."""
    with (RESULTS / "planner.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    listed = " ".join(map(str, sorted(devices)))
    worst = max(float(str(row["behind, %"])) for row in rows)
    lines = [
        "# The planner, beside a search with four times its budget",
        "",
        f"Reward, mean ± 95 % interval of {EPISODES} episodes, seed 0, 50 tasks an MD, all MDs at one "
        f"distance. Command: `python benchmarks/planner.py --devices {listed}`. "
        f"Machine: {describe_machine()}.",
        "",
        "| N | profile | distance, m | planner | four times the rounds | behind, % | local only |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        values = [f"{row[n]} ± {row[f'{n} ±']}" for n in ("planner", "longer")]
        lines.append(
            f"| {row['N']} | {row['profile']} | {row['distance']:g} | {' | '.join(values)} "
            f"| {row['behind, %']} | {row['local']} |"
        )
    lines += ["", f"At most {worst:g} % behind. A negative number: the shorter search was luckier."]
    (RESULTS / "planner.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
