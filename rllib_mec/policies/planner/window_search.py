"""Offline search of the best decisions of the task windows of some MDs, where they are."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.vector import VectorStep
from rllib_mec.network.path_loss import more_loss_db
from rllib_mec.network.streams import PLANNING_SEED
from rllib_mec.policies.planner.plans import Plans
from rllib_mec.policies.planner.simulation import actions_of, simulated

_WORLDS_A_CALL = 20_000
_LEAST_DBM = 0.0
_POWER_SHIFTS_DBM = (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)
_POWER_STEPS_DBM = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)
_POWER_LEVELS = np.linspace(0.0, 1.0, 10)[2:7]  # of an MD's most, where a search begins
_STARTS = 4  # plans of each shape that are refined at first,
_TRIED = 6  # for this part of the rounds
_HEATS = 8  # proposals first race on this part of the samples
_HEAT_MARGIN = 0.01  # and go on if they lose by no more than this share


@dataclasses.dataclass(frozen=True)
class PlannerBudget:
    """How long the planner searches.

    Attributes:
        refined: Window shapes whose plan is refined, the best ones of each set of MDs.
        rounds: Rounds of refinement.
        proposals: Changed copies of each plan in a round.
        samples: Shadowing samples that plans are compared on.
        final_samples: Fresh samples that the plans' costs are estimated on, so that the luckiest
            of many plans is not taken for the best.
        places: Where MDs move, the most distances that plans are searched at.
        network_tasks: Tasks simulated in search of plans for more MDs than each set of them can
            have plans of its own.
    """

    refined: int = 40
    rounds: int = 120
    proposals: int = 8
    samples: int = 128
    final_samples: int = 2048
    places: int = 12
    network_tasks: float = 6e7


@dataclasses.dataclass
class WindowSearch:
    """Searches plans for windows of some MDs at given distances.

    Args:
        mdp: Task windows of N MDs.
        devices: The k MDs that have tasks left, ``(k,)`` int.
        distances_m: Where they are, ``(k,)``, m.
        rng: Where proposals are drawn from.

    Attributes:
        alike: For each of these MDs the first one like it at the same distance.
    """

    mdp: MDP
    devices: np.ndarray
    distances_m: np.ndarray
    rng: np.random.Generator = dataclasses.field(default_factory=np.random.default_rng)

    def __post_init__(self) -> None:
        """Shorten names."""
        self.scenario = scenario = self.mdp.scenario
        self.num_active = len(self.devices)
        self._local = scenario.full_local
        self._playable = scenario.playable[self.devices]
        self._most_dbm = scenario.of_devices("max_power_dbm")[self.devices][:, None]
        alike = [
            (scenario.mobile_devices[n], float(d))
            for n, d in zip(self.devices, self.distances_m, strict=True)
        ]
        self.alike = [alike.index(each) for each in alike]

    def run(
        self, shapes: np.ndarray, budget: PlannerBudget, known: Plans | None = None
    ) -> tuple[Plans, np.ndarray]:
        """Plans for windows of some shapes, and their expected costs, ``(L,)``.

        Args:
            shapes: Window sizes, ``(L, k)``.
            budget: How long to search.
            known: Plans of these shapes, to begin with where they are better.
        """
        seed = PLANNING_SEED
        starts = self.initial(shapes, budget.samples // 2, seed) + ([known] if known else [])
        costs = np.stack([self.cost(plans, budget.samples, seed) for plans in starts])
        plans = _best_of(starts, costs)
        best = np.argsort(costs.min(0))[: budget.refined]
        # From several starts at first, since a search from one often ends where it began.
        tried = [
            self.refine(start.take(best), budget.rounds // _TRIED, budget, seed)
            for start in _ranked(starts, costs)[:_STARTS]
        ]
        promising = _best_of([found for found, _ in tried], np.stack([cost for _, cost in tried]))
        refined, _ = self.refine(promising, budget.rounds, budget, seed)
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
        reward = self.window(plans, samples, seed).reward
        return -reward.reshape(len(plans.sizes), samples).mean(1)

    def window(self, plans: Plans, samples: int, seed: int) -> VectorStep:
        """What happens in each plan's window under each sample: L times samples worlds.

        Args:
            plans: L plans.
            samples: Number of shadowing samples, the same for each plan.
            seed: Seed of the samples.
        """
        count = len(plans.sizes)
        num_tasks = np.zeros((count, self.scenario.num_devices), dtype=np.int64)
        num_tasks[:, self.devices] = self.scenario.max_window
        distances_m = np.full(num_tasks.shape, self.distances_m[0])
        distances_m[:, self.devices] = self.distances_m
        actions = actions_of(plans, self.devices, self.scenario)
        return simulated(self.mdp, actions, num_tasks, distances_m, samples, seed)

    def initial(self, shapes: np.ndarray, samples: int, seed: int) -> list[Plans]:
        """Structured plans for each shape, the best ones of each number j of MDs that work locally.

        Those j MDs that lose least by it work locally, for every j; the others offload the input or
        cut at the point that serves each one best when alone; servers and channels are dealt to the
        MDs in turn, or to the tasks as they come; one power for all, or more for those farther off.

        Args:
            shapes: Window sizes, ``(L, k)``.
            samples: Shadowing samples that plans are compared on.
            seed: Seed of the samples.
        """
        found = []
        points, gain = self.alone(samples, seed)
        # MDs by what they gain from a server: the last ones work locally first.
        order = np.argsort(-(shapes * gain), axis=1, kind="stable")
        powers = [
            np.broadcast_to(level * self._most_dbm, (len(gain), 1)) for level in _POWER_LEVELS
        ]
        if np.ptp(self.distances_m):
            loss_db = more_loss_db(self.distances_m, 1.0, self.scenario)[:, None]
            extra = 0.5 * (loss_db - loss_db.mean())
            powers += [(power + extra).clip(_LEAST_DBM, self._most_dbm) for power in powers]
        for num_local in range(self.num_active + 1):
            offloading = self.num_active - num_local
            best, least = self.blank(shapes), np.full(len(shapes), np.inf)
            for by_task in (False, True) if offloading else (False,):
                dealt = self.blank(shapes)
                self.deal(dealt, order, offloading, by_task)
                sends = np.argsort(order, axis=1)[..., None] < offloading
                for point, power in itertools.product(points, powers if offloading else powers[:1]):
                    partition = np.where(sends, point[:, None], dealt.partition)
                    plans = dealt._replace(
                        partition=partition, power_dbm=np.broadcast_to(power, partition.shape)
                    )
                    cost = self.cost(plans, samples, seed)
                    better = np.flatnonzero(cost < least)
                    best.put(better, plans.take(better))
                    least[better] = cost[better]
            found.append(best)
        return found

    def blank(self, shapes: np.ndarray) -> Plans:
        """Everything local, or as much of it as the MDs can hold.

        Args:
            shapes: Window sizes, ``(L, k)``.
        """
        shape = (*shapes.shape, self.scenario.max_window)
        zeros = np.zeros(shape, dtype=np.int64)
        local = np.broadcast_to(self._playable[:, -1, None], shape).copy()
        return Plans(shapes.copy(), local, zeros, zeros.copy(), np.full(shape, 10.0))

    def alone(self, samples: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Points to try, ``(k,)`` each, and what each MD gains a task by a server, ``(k,)``.

        Args:
            samples: Shadowing samples.
            seed: Seed of the samples.
        """
        if not self._local:
            return [np.zeros(self.num_active, dtype=np.int64)], np.ones(self.num_active)
        best, gain = np.zeros(self.num_active, dtype=np.int64), np.zeros(self.num_active)
        for n in range(self.num_active):
            if (first := self.alike[n]) < n:
                best[n], gain[n] = best[first], gain[first]
                continue
            own = slice(n, n + 1)
            lone = WindowSearch(self.mdp, self.devices[own], self.distances_m[own])
            plans = lone.blank(np.ones((self._local + 1, 1), dtype=np.int64))
            plans.partition[:] = np.arange(self._local + 1)[:, None, None]
            plans.power_dbm[:] = 0.4 * lone._most_dbm
            cost = lone.cost(plans, samples, seed)
            best[n] = cost[:-1].argmin()
            gain[n] = cost[-1] - cost[best[n]]
        points = [np.zeros_like(best), best] if best.any() else [best]
        # Who gains nothing alone still is in the order of sizes, those of MDs alike falling.
        return points, np.maximum(gain, 1e-9)

    def deal(self, plans: Plans, order: np.ndarray, offloading: int, by_task: bool) -> None:
        """Deal servers and channels to the first MDs in order, or to their tasks as they start.

        Args:
            plans: L plans, changed in place.
            order: The MDs of each, ``(L, k)`` int.
            offloading: How many of them use a server.
            by_task: Whether to deal to their tasks.
        """
        scenario = self.scenario
        place = np.argsort(order, axis=1)[..., None]
        plans.channel[:] = place % scenario.num_channels
        plans.server[:] = place % scenario.num_servers
        if not by_task:
            return
        speed = scenario.physics.server_speeds
        for index, sizes in enumerate(plans.sizes):
            ready = np.where(place[index, :, 0] < offloading, 0.0, np.inf)
            free = np.zeros(scenario.num_servers)
            done = np.zeros(self.num_active, dtype=int)
            first = order[index]
            for _ in range(int(sizes[first[:offloading]].sum())):
                n = int(first[ready[first].argmin()])
                m = int((free + 1.0 / speed).argmin())
                plans.server[index, n, done[n]] = m
                free[m] = ready[n] = max(free[m], ready[n]) + 1.0 / speed[m]
                done[n] += 1
                if done[n] == sizes[n]:
                    ready[n] = np.inf

    def refine(
        self, plans: Plans, rounds: int, budget: PlannerBudget, seed: int
    ) -> tuple[Plans, np.ndarray]:
        """Improve each plan by random changes, the best of which is kept where it is better.

        Args:
            plans: Where to start, L plans.
            rounds: Number of rounds.
            budget: How many changed copies of each plan in a round, and how many samples.
            seed: Seed of the samples.

        Returns:
            The plans and their expected costs on these samples, ``(L,)``.
        """
        proposals, samples = budget.proposals, budget.samples
        plans = plans.take(np.arange(len(plans.sizes)))
        heat = max(samples // _HEATS, 1)
        cost, first = self.cost(plans, samples, seed), self.cost(plans, heat, seed)
        for _ in range(rounds):
            parent = np.repeat(np.arange(len(cost)), proposals)
            proposed = self.changed(plans.take(parent))
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

    def changed(self, plans: Plans, device: np.ndarray | None = None) -> Plans:
        """Change each of some plans, in place: one decision of one task, MD, slot or of all.

        Args:
            plans: L plans.
            device: Of which MD, ``(L,)`` int; any if ``None``.
        """
        rng, scenario = self.rng, self.scenario
        count, devices, slots = plans.partition.shape
        device = rng.integers(devices, size=count) if device is None else device
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
            own = np.arange(self.num_active)[:, None]
            np.copyto(plans.partition, self._playable[own, value], where=mask)
        elif name == "power":
            power = plans.power_dbm + rng.choice(_POWER_STEPS_DBM, size=shape)
            np.copyto(plans.power_dbm, power.clip(_LEAST_DBM, self._most_dbm), where=mask)
        elif name == "channel":
            shift = rng.integers(1, scenario.num_channels, size=shape)
            np.copyto(plans.channel, (plans.channel + shift) % scenario.num_channels, where=mask)
        else:
            shift = rng.integers(1, scenario.num_servers, size=shape)
            np.copyto(plans.server, (plans.server + shift) % scenario.num_servers, where=mask)


def _ranked(starts: list[Plans], costs: np.ndarray) -> list[Plans]:
    """Plans of equal shapes, sorted by cost: the best one of each shape, the second, and so on."""
    order = np.argsort(costs, axis=0, kind="stable")
    everything = Plans.concatenate(starts)
    columns = np.arange(costs.shape[1])
    return [everything.take(rank * costs.shape[1] + columns) for rank in order]


def _best_of(starts: list[Plans], costs: np.ndarray) -> Plans:
    """The cheapest plan of each shape; costs ``(K, L)`` of K times L plans."""
    return _ranked(starts, costs)[0]
