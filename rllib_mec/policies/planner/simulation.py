"""Plans as actions, and what the simulator says of them."""

from __future__ import annotations

import numpy as np

from rllib_mec.envs.actions import action_of_dbm
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.vector import VectorStep
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies.planner.plans import Plans


def actions_of(plans: Plans, devices: np.ndarray, scenario: Scenario) -> dict[str, np.ndarray]:
    """What plans say, as actions of all N MDs in L worlds.

    Args:
        plans: L plans of k MDs.
        devices: These MDs, ``(k,)`` int.
        scenario: Gives N and the power scale.
    """

    def of_all(values: np.ndarray) -> np.ndarray:
        """For all N MDs, ``(L, N, ...)``; 0 for the others.

        Args:
            values: ``(L, k, ...)``.
        """
        shape = (len(values), scenario.num_devices, *values.shape[2:])
        everyone = np.zeros(shape, dtype=values.dtype)
        everyone[:, devices] = values
        return everyone

    return {
        "partition": of_all(plans.partition),
        "channel": of_all(plans.channel),
        "server": of_all(plans.server),
        "power": action_of_dbm(of_all(plans.power_dbm), scenario).clip(0.0, 1.0),
        "window": of_all(plans.sizes - 1),
    }


def simulated(
    mdp: MDP,
    actions: dict[str, np.ndarray],
    queues: np.ndarray,
    distances_m: np.ndarray,
    samples: int,
    seed: int,
) -> VectorStep:
    """A window in each of L worlds, under each of some shadowing samples: L times samples worlds.

    Args:
        mdp: Task windows.
        actions: Of all MDs, ``(L, N, ...)``.
        queues: Tasks left, ``(L, N)`` int.
        distances_m: Distances of the MDs, ``(L, N)``, m.
        samples: Number of shadowing samples, the same for each world.
        seed: Seed of the samples.
    """
    seeds = np.tile(seed + np.arange(samples, dtype=np.uint64), len(queues))
    worlds = mdp.make(len(seeds), seeds, num_tasks=1, distance_m=1.0)
    state = worlds.get_state()
    state["queues"], state["distances_m"] = (
        values.repeat(samples, axis=0) for values in (queues, distances_m)
    )
    worlds.set_state(state)
    return worlds.simulate({head: v.repeat(samples, axis=0) for head, v in actions.items()})
