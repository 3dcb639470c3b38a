"""Plans that were searched elsewhere, tried in the simulator where the MDs are."""

from __future__ import annotations

import numpy as np

from rllib_mec.envs.mdp import MDP
from rllib_mec.network.streams import PLANNING_SEED
from rllib_mec.policies.planner.library import Library, followed_to
from rllib_mec.policies.planner.plans import Plans
from rllib_mec.policies.planner.window_search import actions_of, expected_cost

_CANDIDATES = 4  # plans of each place that are tried
_FEW, _FINALISTS, _MANY = 8, 12, 64  # samples for all, how many go on, samples for these
_WORLDS_A_CALL = 20_000


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
    num_worlds = len(queues)
    candidates, rests = [], []
    for i, place in enumerate(places):
        totals = np.stack([library.totals(index, i, own) for own in queues])
        rows = np.argsort(totals, axis=1, kind="stable")[:, :_CANDIDATES]
        rests.append(np.take_along_axis(totals, rows, axis=1) - place.cost[rows])
        where = np.repeat(distances_m[:, seats], rows.shape[1], axis=0)
        plans = place.plans.take(rows.ravel())
        candidates.append(followed_to(plans, place.distances_m, where, mdp.scenario, followed))
    # From (place, world, candidate) to (world, place and candidate).
    ends = np.cumsum([rest.size for rest in rests])
    numbers = np.concatenate(
        [
            end + np.arange(-rest.size, 0).reshape(rest.shape)
            for rest, end in zip(rests, ends, strict=True)
        ],
        axis=1,
    )
    rest = np.concatenate(rests, axis=1)
    plans = Plans.concatenate(candidates).take(numbers.ravel())

    def total(plans: Plans, rest: np.ndarray, samples: int) -> np.ndarray:
        """Cost of each world's plans with what comes after them, as ``rest``.

        Args:
            plans: As many for each world.
            rest: What comes after them, ``(B, K)``.
            samples: Shadowing samples.
        """
        of_world = np.repeat(np.arange(num_worlds), rest.shape[1])
        costs = []
        for start in range(0, len(of_world), max(_WORLDS_A_CALL // samples, 1)):
            part = np.arange(start, min(start + max(_WORLDS_A_CALL // samples, 1), len(of_world)))
            by_device = np.argsort(library.devices)
            costs.append(
                expected_cost(
                    mdp,
                    actions_of(plans.take(part), library.devices[seats], mdp.scenario),
                    queues[of_world[part]][:, by_device],
                    distances_m[of_world[part]][:, by_device],
                    samples,
                    PLANNING_SEED,
                )
            )
        return np.concatenate(costs).reshape(rest.shape) + rest

    best = np.argsort(total(plans, rest, _FEW), axis=1, kind="stable")[:, :_FINALISTS]
    finalists = plans.take((best + np.arange(num_worlds)[:, None] * rest.shape[1]).ravel())
    final = total(finalists, np.take_along_axis(rest, best, axis=1), _MANY)
    return finalists.take(final.argmin(1) + np.arange(num_worlds) * best.shape[1])
