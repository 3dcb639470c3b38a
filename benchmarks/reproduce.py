"""The paper's tables and figures, each with the distance to a near-optimal planner.

    python benchmarks/reproduce.py --only fig12 table5 --budget quick

Trials run in parallel and are kept below ``runs/reproduce/``; figures share them. Ctrl-C is safe:
the same command goes on and does no finished trial again. Files go to ``benchmarks/results/``.
"""

from __future__ import annotations

import sys

import ablation
import fig6_convergence
import fig7_time_slot
import fig8_fig10_devices
import fig9_fig11_servers
import fig12_energy_weight
import headline
import table4_tasks
import table5_partitioning
from suite import cli

ITEMS = (
    headline.ITEM,
    fig6_convergence.ITEM,
    fig7_time_slot.ITEM,
    fig8_fig10_devices.CONVERGENCE,
    fig9_fig11_servers.CONVERGENCE,
    fig8_fig10_devices.COMPARISON,
    fig9_fig11_servers.COMPARISON,
    table4_tasks.ITEM,
    fig12_energy_weight.ITEM,
    table5_partitioning.ITEM,
    ablation.ITEM,
)

if __name__ == "__main__":
    sys.exit(cli.main(ITEMS, __doc__))
