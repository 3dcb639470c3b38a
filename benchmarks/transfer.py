r"""One network in networks that it was and was not trained on, beside rules of thumb and the bound.

    python benchmarks/transfer.py [--checkpoint pretrained] [--episodes 20] [--most-searched 32]

Profile ``paper``, ResNet-50, all MDs at 50 m with 50 tasks each, seed 0. It writes
``results/transfer.csv`` and ``results/transfer.md``. Some minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
from typing import Any

from machine import describe_machine
from search import DISTANCE_M, measure

from rllib_mec.evaluation.bound import lower_bound
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, Lookahead, RoundRobin, ShortestQueue, load_policy

RESULTS = pathlib.Path(__file__).parent / "results"
SHAPES = [(1, 2, 2), (2, 2, 2), (3, 2, 2), (4, 2, 2), (6, 2, 2), (3, 3, 3), (5, 3, 3), (6, 4, 4)]
SHAPES += [(8, 4, 4), (12, 2, 2), (12, 6, 6), (16, 4, 4), (32, 2, 2), (32, 8, 8), (100, 10, 10)]
SHAPES += [(300, 30, 30)]
CANDIDATES = 32


def main() -> int:
    """Measure everything, print it and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="pretrained")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--most-searched", type=int, default=32, metavar="N")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        names = ("num_devices", "num_servers", "num_channels")
        scenario = Scenario.from_dict(dict(zip(names, shape, strict=True)))
        policies = {
            "local only": LocalOnly(scenario),
            "round robin": RoundRobin(scenario),
            "shortest queue": ShortestQueue(scenario),
            "network": load_policy(options.checkpoint, scenario),
        }
        if scenario.num_devices <= options.most_searched:
            policies["network + search"] = Lookahead(policies["network"], CANDIDATES)
        row: dict[str, Any] = dict(zip("NMC", shape, strict=True))
        for name, policy in policies.items():
            row |= measure(name, policy, options.episodes)
        row["bound"] = lower_bound(scenario, num_tasks=50, distance_m=DISTANCE_M).reward
        rows.append(row)
        print(line(row), flush=True)
    with (RESULTS / "transfer.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, max(rows, key=len))
        writer.writeheader()
        writer.writerows(rows)
    heads = [
        "N, M, C", "best rule of thumb", "network", "ms", "of its window",
        f"network + {CANDIDATES} candidates", "ms", "bound", "network above it, %",
    ]  # fmt: skip
    lines = [
        "# One network in many networks",
        "",
        f"Reward, mean ± 95 % interval of {options.episodes} episodes, seed 0, profile `paper`, "
        f"ResNet-50, 50 tasks an MD, all at {DISTANCE_M:g} m; the network is the checkpoint "
        f"`{options.checkpoint}`; *ms*: a decision for one network, the least of four; *of "
        "its window*: how many times that of simulating the window. Command: "
        f"`python benchmarks/transfer.py`. Machine: {describe_machine()}.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *map(line, rows),
    ]
    (RESULTS / "transfer.md").write_text("\n".join(lines) + "\n")
    return 0


def line(row: dict[str, Any]) -> str:
    """A row of the page's table.

    Args:
        row: Of the CSV.
    """
    rule = max(("local only", "round robin", "shortest queue"), key=lambda name: row[name])
    cells = [f"{row['N']}, {row['M']}, {row['C']}", f"{row[rule]:.2f} ({rule})"]
    for name in ("network", "network + search"):
        if name in row:
            cells += [f"{row[name]:.2f} ± {row[f'{name} ±']:.2f}"]
            cells += [f"{row[f'{name}, a decision, ms']:.1f}"]
            if name == "network":
                cells += [f"{row['network, a decision, ms'] / row['network, its window, ms']:.1f}"]
        else:
            cells += ["", ""]
    above = 100.0 * (row["network"] / row["bound"] - 1.0)
    return "| " + " | ".join([*cells, f"{row['bound']:.2f}", f"{above:.1f}"]) + " |"


if __name__ == "__main__":
    raise SystemExit(main())
