r"""Search at decision time, beside the planner, for few and many devices.

    python benchmarks/search.py [--devices 3 6 12 32 64] [--candidates 32 128] [--episodes 10] \
        [--planner]

A rule of thumb (shortest queue) is bettered by :class:`rllib_mec.policies.Lookahead`; for both
profiles, M = C = 2, all MDs at 50 m with 50 tasks each, seed 0. It writes ``results/search.csv``,
from which ``results/search.md`` has its first table. Some minutes on 2 cores; the planner's own
searches take up to a minute more each, and beyond 4 minutes for 6 devices.
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
from rllib_mec.policies import Lookahead, Planner, Policy, ShortestQueue

RESULTS = pathlib.Path(__file__).parent / "results"
DISTANCE_M = 50.0
DECISIONS = 5


def main() -> int:
    """Measure everything, print it as a table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[3, 6, 12, 32, 64], metavar="N")
    parser.add_argument("--candidates", type=int, nargs="+", default=[32, 128], metavar="K")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--planner", action="store_true", help="measure it too")
    options = parser.parse_args()
    print(f"{describe_machine()}; {options.episodes} episodes, seed 0")
    rows = []
    for num_devices in options.devices:
        for profile in ("paper", "si"):
            scenario = Scenario.from_dict({"num_devices": num_devices, "profile": profile})
            row: dict[str, Any] = {"N": num_devices, "profile": profile}
            for candidates in (0, *options.candidates):
                policy: Policy = ShortestQueue(scenario)
                if candidates:
                    policy = Lookahead(policy, candidates)
                row |= measure(f"{candidates} others", policy, options.episodes)
            if options.planner:
                row |= measure("planner", Planner(scenario, cache=False), options.episodes)
            row["bound"] = lower_bound(scenario, num_tasks=50, distance_m=DISTANCE_M).reward
            rows.append(row)
            cells = (f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values())
            print("| " + " | ".join(cells) + " |", flush=True)
    with (RESULTS / "search.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return 0


def measure(name: str, policy: Policy, episodes: int) -> dict[str, float]:
    """Reward with its interval, and times for one network, ms: of decisions, of their window.

    Args:
        name: Of the columns.
        policy: Decides.
        episodes: Of the evaluation.
    """
    policy.expect_distances(DISTANCE_M)
    worlds = policy.mdp.make(1, num_tasks=50, distance_m=DISTANCE_M)
    observation = worlds.observation()
    times, simulations = [], []
    for _ in range(DECISIONS):
        began = time.monotonic()
        actions = policy.decide(observation)
        times.append(1e3 * (time.monotonic() - began))
        began = time.monotonic()
        worlds.simulate(actions)
        simulations.append(1e3 * (time.monotonic() - began))
    found = evaluate(policy, episodes=episodes, distance_m=DISTANCE_M)["reward"]
    return {
        name: found.mean,
        f"{name} ±": found.half_width,
        f"{name}, first decision, ms": times[0],
        f"{name}, a decision, ms": min(times[1:]),
        f"{name}, its window, ms": min(simulations),
    }


if __name__ == "__main__":
    raise SystemExit(main())
