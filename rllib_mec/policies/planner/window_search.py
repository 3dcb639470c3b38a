"""Offline search of the best decision of one task window, for every choice of window sizes."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import NamedTuple

import numpy as np

from rllib_mec.envs.actions import action_of_dbm
from rllib_mec.envs.mdp import MDP
from rllib_mec.network.streams import PLANNING_SEED

_MAX_SHAPES = 260  # window sizes searched for one number of MDs; 6 MDs with W_max = 5 have 210
_WORLDS_A_CALL = 20_000
_LEAST_DBM = 0.0
_POWER_SHIFTS_DBM = (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)
_POWER_STEPS_DBM = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)
_HEATS = 8  # proposals first race on this part of the samples
_HEAT_MARGIN = 0.01  # and go on if they lose by no more than this share


class Plans(NamedTuple):
    """L decisions of a window of k MDs, in the order of falling window sizes.

    Attributes:
        sizes: W_n, tasks of each MD, ``(L, k)`` int, falling along the MDs.
        partition: Partition point of each task, ``(L, k, W_max)`` int; so ``channel``, ``server``.
        channel: See ``partition``.
        server: See ``partition``.
        power_dbm: Transmit power of each task, ``(L, k, W_max)``, dBm.
    """

    sizes: np.ndarray
    partition: np.ndarray
    channel: np.ndarray
    server: np.ndarray
    power_dbm: np.ndarray

    def take(self, index: np.ndarray) -> Plans:
        """Copies of some plans.

        Args:
            index: Rows, ``(K,)`` int.
        """
        return Plans(*(values[index] for values in self))

    def put(self, index: np.ndarray, plans: Plans) -> None:
        """Overwrite some plans.

        Args:
            index: Rows, ``(K,)`` int.
            plans: K plans.
        """
        for own, new in zip(self, plans, strict=True):
            own[index] = new

    @classmethod
    def concatenate(cls, parts: list[Plans]) -> Plans:
        """All plans, in their order.

        Args:
            parts: Plans of as many MDs each.
        """
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def window_shapes(num_devices: int, max_window: int) -> np.ndarray:
    """Falling window sizes of some MDs, ``(L, k)``.

    All of them where they are few; else those of at most two different sizes, and of these, if
    they still are many, ones spread evenly over the range. All ones are always there.

    Args:
        num_devices: k, the MDs that have tasks left.
        max_window: W_max.
    """
    sizes = range(max_window, 0, -1)
    if math.comb(max_window + num_devices - 1, num_devices) <= _MAX_SHAPES:
        return np.array(list(itertools.combinations_with_replacement(sizes, num_devices)))
    shapes = [(size,) * num_devices for size in sizes]
    for large, small in itertools.combinations(sizes, 2):
        for count in range(1, num_devices):
            shapes.append((large,) * count + (small,) * (num_devices - count))
    keep = np.unique(np.linspace(0, len(shapes) - 1, _MAX_SHAPES).astype(int))
    ones = (1,) * num_devices
    return np.array([ones] + [shapes[i] for i in keep if shapes[i] != ones])


@dataclasses.dataclass(frozen=True)
class PlannerBudget:
    """How long the planner searches.

    Attributes:
        refined: Window shapes whose plan is refined, the best ones of each number of MDs.
        rounds: Rounds of refinement.
        proposals: Changed copies of each plan in a round.
        samples: Shadowing samples that plans are compared on.
        final_samples: Fresh samples that the plans' costs are estimated on, so that the luckiest
            of many plans is not taken for the best.
        beam: Queue states kept for each number of windows by the search over the episode.
    """

    refined: int = 40
    rounds: int = 120
    proposals: int = 8
    samples: int = 128
    final_samples: int = 2048
    beam: int = 64


@dataclasses.dataclass
class WindowSearch:
    """Searches plans for windows of some MDs at one distance.

    Args:
        mdp: Task windows of N MDs.
        num_active: k, the MDs that have tasks left.
        distance_m: Distance of every MD to the base station.
        rng: Where proposals are drawn from.
    """

    mdp: MDP
    num_active: int
    distance_m: float
    rng: np.random.Generator

    def __post_init__(self) -> None:
        """Shorten names."""
        self.scenario = scenario = self.mdp.scenario
        self._local = scenario.full_local
        self._most_dbm = scenario.max_power_dbm

    def run(self, budget: PlannerBudget) -> tuple[Plans, np.ndarray]:
        """Plans for windows of every shape, and their expected costs, ``(L,)``.

        Args:
            budget: How long to search.
        """
        seed = PLANNING_SEED
        shapes = window_shapes(self.num_active, self.scenario.max_window)
        plans = self.initial(shapes, budget.samples // 2, seed)
        cost = self.cost(plans, budget.samples, seed)
        best = np.argsort(cost)[: budget.refined]
        refined, _ = self.refine(
            plans.take(best), budget.rounds, budget.proposals, budget.samples, seed
        )
        plans.put(best, refined)
        # Fresh samples: the luckiest of many plans must not be taken for the best.
        return self.adjust_power(plans, best, budget.final_samples, seed + budget.samples)

    def adjust_power(
        self, plans: Plans, rows: np.ndarray, samples: int, seed: int
    ) -> tuple[Plans, np.ndarray]:
        """Shift all powers of some plans together by what costs least.

        The cost is flat around the best power, where latency and energy are not.

        Args:
            plans: All plans.
            rows: Those to adjust.
            samples: Number of shadowing samples.
            seed: Seed of the samples.

        Returns:
            All plans and their expected costs on these samples, ``(L,)``.
        """
        cost = self.cost(plans, samples, seed)
        plans = plans.take(np.arange(len(plans.sizes)))
        originals = plans.take(rows)
        for shift in _POWER_SHIFTS_DBM:
            power = (originals.power_dbm + shift).clip(_LEAST_DBM, self._most_dbm)
            shifted = originals._replace(power_dbm=power)
            costs = self.cost(shifted, samples, seed)
            better = np.flatnonzero(costs < cost[rows])
            plans.put(rows[better], shifted.take(better))
            cost[rows[better]] = costs[better]
        return plans, cost

    def cost(self, plans: Plans, samples: int, seed: int) -> np.ndarray:
        """Expected −r_k of plans, ``(L,)``, the mean over common shadowing samples.

        The N − k other MDs have empty queues.

        Args:
            plans: The plans.
            samples: Number of shadowing samples, the same for each plan.
            seed: Seed of the samples.
        """
        chunk = max(_WORLDS_A_CALL // samples, 1)
        costs = [
            self._cost(plans.take(np.arange(i, min(i + chunk, len(plans.sizes)))), samples, seed)
            for i in range(0, len(plans.sizes), chunk)
        ]
        return np.concatenate(costs)

    def _cost(self, plans: Plans, samples: int, seed: int) -> np.ndarray:
        scenario, count = self.scenario, len(plans.sizes)
        idle = scenario.num_devices - self.num_active
        worlds = self.mdp.make(
            count * samples,
            np.tile(seed + np.arange(samples, dtype=np.uint64), count),
            num_tasks=(scenario.max_window,) * self.num_active + (0,) * idle,
            distance_m=self.distance_m,
        )

        def of_all(values: np.ndarray) -> np.ndarray:
            """For all N MDs and all samples, ``(L * samples, N, ...)``."""
            padding = [(0, 0), (0, idle)] + [(0, 0)] * (values.ndim - 2)
            return np.repeat(np.pad(values, padding), samples, axis=0)

        power = action_of_dbm(plans.power_dbm, scenario).clip(0.0, 1.0)
        step = worlds.simulate(
            {
                "partition": of_all(plans.partition),
                "channel": of_all(plans.channel),
                "server": of_all(plans.server),
                "power": of_all(power),
                "window": of_all(plans.sizes - 1),
            }
        )
        return -step.reward.reshape(count, samples).mean(1)

    def initial(self, shapes: np.ndarray, samples: int, seed: int) -> Plans:
        """The best structured plan for each shape.

        The j MDs of the smallest windows work locally, for every j; the others offload the input
        or cut at the point that serves a lone MD best; servers and channels are dealt to the MDs
        in turn, or to the tasks as they come; one power for all.

        Args:
            shapes: Falling window sizes, ``(L, k)``.
            samples: Shadowing samples that plans are compared on.
            seed: Seed of the samples.
        """
        best, least = self._blank(shapes), np.full(len(shapes), np.inf)
        powers = np.linspace(_LEAST_DBM, self._most_dbm, 10)[2:7]
        points = sorted({0, self._lone_point(samples, seed)} - {self._local})
        for num_local in range(self.num_active + 1):
            deals = (False, True) if num_local < self.num_active else (False,)
            for point, by_task, power in itertools.product(points, deals, powers):
                plans = self._blank(shapes)
                offloading = self.num_active - num_local
                plans.partition[:, :offloading] = point
                plans.power_dbm[:] = power
                self._deal(plans, offloading, by_task)
                cost = self.cost(plans, samples, seed)
                better = np.flatnonzero(cost < least)
                best.put(better, plans.take(better))
                least[better] = cost[better]
                if num_local == self.num_active:
                    break  # power means nothing
        return best

    def _blank(self, shapes: np.ndarray) -> Plans:
        """Everything local."""
        shape = (*shapes.shape, self.scenario.max_window)
        zeros = np.zeros(shape, dtype=np.int64)
        return Plans(
            shapes.copy(), np.full(shape, self._local), zeros, zeros.copy(), np.full(shape, 10.0)
        )

    def _lone_point(self, samples: int, seed: int) -> int:
        """The partition point, but full local, that is best for an MD alone."""
        lone = WindowSearch(self.mdp, 1, self.distance_m, self.rng)
        plans = lone._blank(np.ones((max(self._local, 1), 1), dtype=np.int64))
        plans.partition[:] = np.arange(max(self._local, 1))[:, None, None]
        plans.power_dbm[:] = 0.4 * self._most_dbm
        return int(lone.cost(plans, samples, seed).argmin())

    def _deal(self, plans: Plans, offloading: int, by_task: bool) -> None:
        """Deal servers and channels to the first MDs, or to their tasks in order of start."""
        scenario = self.scenario
        device = np.arange(self.num_active)[:, None]
        plans.channel[:] = device % scenario.num_channels
        plans.server[:] = device % scenario.num_servers
        if not by_task:
            return
        for index, sizes in enumerate(plans.sizes):
            ready = np.where(np.arange(self.num_active) < offloading, 0.0, np.inf)
            free = np.zeros(scenario.num_servers)
            done = np.zeros(self.num_active, dtype=int)
            for _ in range(int(sizes[:offloading].sum())):
                n, m = int(ready.argmin()), int(free.argmin())
                plans.server[index, n, done[n]] = m
                free[m] = ready[n] = max(free[m], ready[n]) + 1.0
                done[n] += 1
                if done[n] == sizes[n]:
                    ready[n] = np.inf

    def refine(
        self, plans: Plans, rounds: int, proposals: int, samples: int, seed: int
    ) -> tuple[Plans, np.ndarray]:
        """Improve each plan by random changes, the best of which is kept where it is better.

        Args:
            plans: Where to start, L plans.
            rounds: Number of rounds.
            proposals: Changed copies of each plan in a round.
            samples: Shadowing samples, common to all.
            seed: Seed of the samples.

        Returns:
            The plans and their expected costs on these samples, ``(L,)``.
        """
        plans = plans.take(np.arange(len(plans.sizes)))
        heat = max(samples // _HEATS, 1)
        cost, first = self.cost(plans, samples, seed), self.cost(plans, heat, seed)
        for _ in range(rounds):
            parent = np.repeat(np.arange(len(cost)), proposals)
            proposed = self._changed(plans.take(parent))
            # Most changes do harm, which a few of the samples tell already.
            firsts = self.cost(proposed, heat, seed)
            racing = np.flatnonzero(firsts < (1.0 + _HEAT_MARGIN) * first[parent])
            if not len(racing):
                continue
            costs = np.full(len(parent), np.inf)
            costs[racing] = self.cost(proposed.take(racing), samples, seed)
            costs = costs.reshape(len(cost), proposals)
            winner = costs.argmin(1)
            better = np.flatnonzero(costs[np.arange(len(cost)), winner] < cost)
            won = better * proposals + winner[better]
            plans.put(better, proposed.take(won))
            cost[better], first[better] = costs[better, winner[better]], firsts[won]
        return plans, cost

    def _changed(self, plans: Plans) -> Plans:
        """Change each of ``plans``, in place: one decision of one task, MD, slot or of all."""
        rng, scenario = self.rng, self.scenario
        count, devices, slots = plans.partition.shape
        device = rng.integers(devices, size=count)
        size = plans.sizes[np.arange(count), device]
        slot = rng.integers(size)
        on_device = np.arange(devices)[None, :, None] == device[:, None, None]
        on_slot = np.arange(slots)[None, None, :] == slot[:, None, None]
        # Tasks touched: one; the MD's from it on; the whole MD; all.
        from_slot = np.arange(slots)[None, None, :] >= slot[:, None, None]
        scope = rng.choice(4, p=[0.5, 0.15, 0.25, 0.1], size=count)[:, None, None]
        chosen = np.where(
            scope == 0,
            on_device & on_slot,
            np.where(scope == 1, on_device & from_slot, (scope == 3) | on_device),
        )
        kinds = ["partition", "power", "power"]
        kinds += ["channel"] * (scenario.num_channels > 1)
        kinds += ["server"] * (scenario.num_servers > 1)
        for _ in range(2):  # half of the time two kinds change together
            kind = rng.integers(len(kinds), size=count)[:, None, None]
            for index, name in enumerate(kinds):
                self._change(plans, name, chosen & (kind == index))
            chosen = chosen & (rng.random(count) < 0.5)[:, None, None]
        return plans

    def _change(self, plans: Plans, name: str, mask: np.ndarray) -> None:
        rng, scenario = self.rng, self.scenario
        shape = (len(mask), 1, 1)
        if name == "partition":
            anywhere = rng.integers(self._local + 1, size=shape)
            end = np.where(rng.random(shape) < 0.5, 0, self._local)
            value = np.where(rng.random(shape) < 0.3, anywhere, end)
            np.copyto(plans.partition, value, where=mask)
        elif name == "power":
            power = plans.power_dbm + rng.choice(_POWER_STEPS_DBM, size=shape)
            np.copyto(plans.power_dbm, power.clip(_LEAST_DBM, self._most_dbm), where=mask)
        elif name == "channel":
            shift = rng.integers(1, scenario.num_channels, size=shape)
            np.copyto(plans.channel, (plans.channel + shift) % scenario.num_channels, where=mask)
        else:
            shift = rng.integers(1, scenario.num_servers, size=shape)
            np.copyto(plans.server, (plans.server + shift) % scenario.num_servers, where=mask)
