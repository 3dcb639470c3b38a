"""The paper's own numbers: its Tables IV and V, and what its text says."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Sequence

from rllib_mec.envs.episodes import EVALUATION_DISTANCE_M
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.task_window import as_mdp
from rllib_mec.network.defaults import SERVER_LATENCY_MS
from rllib_mec.network.scenario import Scenario


def paper_row(
    where: MDP | Scenario,
    num_tasks: int | Sequence[int] | None,
    distance_m: float | Sequence[float] | None = EVALUATION_DISTANCE_M,
) -> dict[str, float] | None:
    """What the paper's EMH-PPO reaches in this setting, from its Tables IV and V.

    Args:
        where: Must be the task-window MDP, on Table III but for N and the DNN.
        num_tasks: Tasks of every MD; ``None`` if drawn.
        distance_m: Distance of every MD, which is 50 m in the paper; ``None`` if drawn.

    Returns:
        ``reward``, ``latency_ms`` and ``energy_j``, or ``None`` where the paper has no such row.
    """
    mdp = as_mdp(where)
    scenario = mdp.scenario
    if scenario.dnn not in SERVER_LATENCY_MS or distance_m != EVALUATION_DISTANCE_M:
        return None
    table_iii = Scenario(
        dnn=scenario.dnn, num_devices=scenario.num_devices, partition=scenario.partition
    )
    if mdp != as_mdp(table_iii):
        return None
    vertical = scenario.partition == "vertical"
    if scenario.dnn == "resnet50" and scenario.num_devices == 3 and not vertical:
        for row in _read_csv("table_iv.csv"):
            if row["method"] == "EMH-PPO" and int(row["num_tasks"]) == num_tasks:
                return {
                    "reward": float(row["average_reward"]),
                    "latency_ms": float(row["total_latency_ms"]),
                    "energy_j": float(row["energy_j"]),
                }
    prefix = "vertical" if vertical else "operator"
    for row in _read_csv("table_v.csv"):
        if (row["dnn"], int(row["num_devices"])) == (scenario.dnn, scenario.num_devices):
            if num_tasks == 50:
                return {
                    metric: float(row[f"{prefix}_{metric}"])
                    for metric in ("reward", "latency_ms", "energy_j")
                }
    return None


def _read_csv(name: str) -> list[dict[str, str]]:
    text = importlib.resources.files("rllib_mec.evaluation.paper").joinpath(name).read_text()
    return list(csv.DictReader(text.splitlines()))
