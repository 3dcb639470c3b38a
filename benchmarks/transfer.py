r"""Two networks in networks that they were and were not trained on, beside rules and the bound.

    python benchmarks/transfer.py [--profile paper] [--episodes 20] [--most-searched 32]

ResNet-50, all MDs at 50 m with 50 tasks each, seed 0. Search betters ``pretrained`` with up to 8
MDs, ``pretrained-many`` with more. It writes ``results/transfer.csv`` and ``results/transfer.md``
(``transfer_si`` in profile ``si``). Half an hour on 2 cores.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
from typing import Any

from machine import describe_machine
from search import DISTANCE_M, measure

from rllib_mec.checkpoints import PRETRAINED
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
    parser.add_argument("--profile", choices=("paper", "si"), default="paper")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--most-searched", type=int, default=32, metavar="N")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        names = ("num_devices", "num_servers", "num_channels")
        fields = dict(zip(names, shape, strict=True))
        scenario = Scenario.from_dict({**fields, "profile": options.profile})
        policies = {
            "local only": LocalOnly(scenario),
            "round robin": RoundRobin(scenario),
            "shortest queue": ShortestQueue(scenario),
            **{name: load_policy(name, scenario) for name in PRETRAINED},
        }
        if scenario.num_devices <= options.most_searched:
            policies["search"] = Lookahead(policies[nominal(scenario.num_devices)], CANDIDATES)
        row: dict[str, Any] = dict(zip("NMC", shape, strict=True))
        for name, policy in policies.items():
            row |= measure(name, policy, options.episodes)
        row["bound"] = lower_bound(scenario, num_tasks=50, distance_m=DISTANCE_M).reward
        rows.append(row)
        print(line(row), flush=True)
    page = "transfer" if options.profile == "paper" else f"transfer_{options.profile}"
    with (RESULTS / f"{page}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, max(rows, key=len))
        writer.writeheader()
        writer.writerows(rows)
    heads = [
        "N, M, C", "best rule of thumb", "`pretrained`", "`pretrained-many`", "ms", "of its window",
        f"its + {CANDIDATES} candidates", "ms", "bound", "network above it, %",
    ]  # fmt: skip
    lines = [
        "# Two networks in many networks",
        "",
        f"Reward, mean ± 95 % interval of {options.episodes} episodes, seed 0, profile "
        f"`{options.profile}`, ResNet-50, 50 tasks an MD, all at {DISTANCE_M:g} m. The columns "
        "after the two networks are of `pretrained` with up to 8 MDs, of `pretrained-many` with "
        "more; *ms*: a decision for one network, the least of four; *of its window*: how many "
        "times that of simulating the window. Command: `python benchmarks/transfer.py --profile "
        f"{options.profile}`. Machine: {describe_machine()}.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *map(line, rows),
    ]
    (RESULTS / f"{page}.md").write_text("\n".join(lines) + "\n")
    return 0


def nominal(num_devices: int) -> str:
    """The checkpoint that is meant for a number of MDs.

    Args:
        num_devices: N.
    """
    return "pretrained" if num_devices <= 8 else "pretrained-many"


def line(row: dict[str, Any]) -> str:
    """A row of the page's table.

    Args:
        row: Of the CSV.
    """
    rule = max(("local only", "round robin", "shortest queue"), key=lambda name: row[name])
    own = nominal(row["N"])
    decision = row[f"{own}, a decision, ms"]
    cells = [f"{row['N']}, {row['M']}, {row['C']}", f"{row[rule]:.2f} ({rule})"]
    cells += [f"{row[name]:.2f} ± {row[f'{name} ±']:.2f}" for name in PRETRAINED]
    cells += [f"{decision:.1f}", f"{decision / row[f'{own}, its window, ms']:.1f}"]
    cells += (
        [f"{row['search']:.2f} ± {row['search ±']:.2f}", f"{row['search, a decision, ms']:.1f}"]
        if "search" in row
        else ["", ""]
    )
    above = 100.0 * (row[own] / row["bound"] - 1.0)
    return "| " + " | ".join([*cells, f"{row['bound']:.2f}", f"{above:.1f}"]) + " |"


if __name__ == "__main__":
    raise SystemExit(main())
