"""Plans that were searched elsewhere, tried in the simulator where the MDs are."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rllib_mec.envs.mdp import MDP
from rllib_mec.network.streams import PLANNING_SEED
from rllib_mec.policies.planner.library import Library, followed_to
from rllib_mec.policies.planner.plans import Plans
from rllib_mec.policies.planner.simulation import actions_of, simulated

_NEAREST, _CANDIDATES = 4, 3  # places, and plans of each, that are tried
_FEW, _FINALISTS, _MANY = 16, 4, 48  # samples for all, how many go on, samples for these
_WORLDS_A_CALL = 10_000


def cost_where(
    mdp: MDP,
    devices: np.ndarray,
    seats: np.ndarray,
    plans: Plans,
    queues: np.ndarray,
    distances_m: np.ndarray,
    samples: int,
    seed: int,
) -> np.ndarray:
    """Expected −r_k of plans where the MDs are, ``(B, K)``, K of them in each of B worlds.

    Args:
        mdp: Task windows.
        devices: The MD at each position, ``(N,)`` int.
        seats: Positions of the MDs that the plans are of, ``(k,)`` int.
        plans: B times K plans.
        queues: Tasks left, by position, ``(B, N)`` int.
        distances_m: Where the MDs are, by position, ``(B, N)``, m.
        samples: Shadowing samples, common to all.
        seed: Seed of the samples.
    """
    count = len(plans.sizes)
    of_world = np.repeat(np.arange(len(queues)), count // len(queues))
    by_device = np.argsort(devices)

    def cost(part: np.ndarray) -> np.ndarray:
        """Of some of the plans.

        Args:
            part: Their rows.
        """
        step = simulated(
            mdp,
            actions_of(plans.take(part), devices[seats], mdp.scenario),
            queues[of_world[part]][:, by_device],
            distances_m[of_world[part]][:, by_device],
            samples,
            seed,
        )
        return -step.reward.reshape(len(part), samples).mean(1)

    parts = np.array_split(np.arange(count), 1 + count * samples // _WORLDS_A_CALL)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the simulator runs without the GIL
        return np.concatenate(list(pool.map(cost, parts))).reshape(len(queues), -1)


def tried(
    mdp: MDP,
    library: Library,
    index: int,
    queues: np.ndarray,
    distances_m: np.ndarray,
    followed: float,
) -> Plans:
    """Of the best plans of every place, those that cost least with what comes after them.

    Args:
        mdp: Task windows.
        library: The plans.
        index: Of the set of MDs with tasks left.
        queues: Tasks left in B worlds, by position, ``(B, N)`` int.
        distances_m: Where the MDs are, by position, ``(B, N)``, m.
        followed: Share of the path loss that the powers make up for.

    Returns:
        B plans.
    """
    seats, places = library.positions[index], library.places[index]
    at_m = np.stack([place.distances_m for place in places])
    apart = np.abs(np.log(distances_m[:, None, seats] / at_m)).sum(2)  # (B, places)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, :_NEAREST]
    each = min(_CANDIDATES, *(len(place.cost) for place in places))
    rest = np.empty((len(queues), nearest.shape[1] * each))
    plans = places[0].plans.take(np.zeros(rest.size, dtype=np.int64))
    for i, place in enumerate(places):
        worlds, rank = np.nonzero(nearest == i)
        if not len(worlds):
            continue
        totals = np.stack([library.totals(index, i, own) for own in queues[worlds]])
        rows = np.argsort(totals, axis=1, kind="stable")[:, :each]
        columns = rank[:, None] * each + np.arange(each)
        rest[worlds[:, None], columns] = np.take_along_axis(totals, rows, axis=1) - place.cost[rows]
        where = distances_m[worlds][:, seats].repeat(each, axis=0)
        found = followed_to(
            place.plans.take(rows.ravel()), place.distances_m, where, mdp.scenario, followed
        )
        plans.put((worlds[:, None] * rest.shape[1] + columns).ravel(), found)

    def total(plans: Plans, rest: np.ndarray, samples: int) -> np.ndarray:
        """Cost of each world's plans with what comes after them, as ``rest``.

        Args:
            plans: As many for each world.
            rest: What comes after them, ``(B, K)``.
            samples: Shadowing samples.
        """
        return rest + cost_where(
            mdp, library.devices, seats, plans, queues, distances_m, samples, PLANNING_SEED
        )

    best = np.argsort(total(plans, rest, _FEW), axis=1, kind="stable")[:, :_FINALISTS]
    rows = np.arange(len(queues))
    finalists = plans.take((best + rows[:, None] * rest.shape[1]).ravel())
    final = total(finalists, np.take_along_axis(rest, best, axis=1), _MANY)
    return finalists.take(final.argmin(1) + rows * best.shape[1])
