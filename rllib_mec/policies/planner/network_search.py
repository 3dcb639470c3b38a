"""Plans for the whole of a network of many MDs, too many for plans of each set of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from rllib_mec.envs.episodes import usual_distance_m
from rllib_mec.envs.mdp import MDP
from rllib_mec.network.streams import PLANNING_SEED
from rllib_mec.policies.planner.library import by_kind, followed_to
from rllib_mec.policies.planner.plans import POWER_LEVELS, Plans
from rllib_mec.policies.planner.stored import Kept
from rllib_mec.policies.planner.trials import cost_where
from rllib_mec.policies.planner.window_search import PlannerBudget, WindowSearch

_SHARES = np.linspace(0.0, 1.0, 9)  # of the MDs, that offload at first
_PER_RESOURCE = np.arange(1, 5)  # MDs on each channel, or server, if so many offload
_LEVELS = 5  # window sizes tried at first
_HEATS = ((4, 600), (16, 100), (96, 1))  # samples, and how many structured plans go on
_PLANS = 6  # that are refined, of different window sizes at first
_PROPOSALS = 8  # changed copies of each plan in a round
_FEW, _MANY = 12, 96  # samples for all of them, and for those that do not lose on these
_MARGIN = 0.005  # by more than this share, which is taken for luck elsewhere too
_FINAL = 512  # fresh samples: the luckiest of many plans must not be taken for the best
_LATEST = 0.15  # share of the MDs, those that finish last, that half of the changes are of
_RESIZED = 0.3  # share of the changes that are of a window size
_KEPT = 4  # plans, and that of all tasks local
_TRIALS = 64  # samples that a decision looks at
_TAIL = 2  # longest windows, from which on all that is left is searched
_TAIL_TRIALS = 16  # samples then
_BEAM = 8  # states kept then
_PARTS = 4  # see _candidates
_HOPELESS = 0.5  # of the mean cost, behind the best end so far


class NetworkPlans:
    """A few plans of windows of all MDs, of which each decision takes the best for its queues.

    First structured plans: some of the MDs offload, those that gain most by it, with windows of one
    size, and the others, with windows of another, do not. The best few are then refined by a local
    search over all decisions and sizes, mostly of the MDs that finish last, since a window is as
    long as its slowest MD. What comes out is judged on fresh samples, beside the structured plans.

    Args:
        mdp: Task windows of N MDs.
        distances_m: Where every MD stays, ``(N,)``; ``None`` where they are drawn: then plans are
            searched at the usual distance, and powers follow.
        budget: How long to search.
        kept: Keeps what is found.
        seed: Seed of the search.
        report: Told what is being searched, and the share of it that is done.
    """

    def __init__(
        self,
        mdp: MDP,
        distances_m: np.ndarray | None,
        budget: PlannerBudget,
        kept: Kept,
        seed: int,
        report: Callable[[str, float], None],
    ):
        """Search, or load what an equal search has found."""
        self._mdp = mdp
        self.moves = distances_m is None
        usual = np.full(mdp.scenario.num_devices, usual_distance_m(mdp.scenario))
        at_m = usual if distances_m is None else distances_m
        self.devices, self.kinds = by_kind(mdp, at_m)
        self._at_m = at_m[self.devices]
        search = WindowSearch(mdp, self.devices, self._at_m, np.random.default_rng(seed))
        self.plans, cost = kept(
            [self._at_m, budget.network_tasks, seed], lambda: _search(search, budget, report)
        )
        self._mean_cost = cost.min()
        self._found: dict[bytes, Plans] = {}

    def choose(self, queues: np.ndarray, distances_m: np.ndarray, followed: float) -> Plans:
        """The best plan in each of B worlds; a window is never longer than its MD's queue.

        Where MDs stay, the last windows are searched together: a few tasks that are left over make
        windows as long as any.

        Args:
            queues: Tasks left, by position, ``(B, N)`` int.
            distances_m: Where the MDs are, by position, ``(B, N)``, m.
            followed: Share of the path loss that the powers make up for.
        """
        if self.moves:
            plans = self._candidates(queues, 1)
            at_m = distances_m.repeat(len(plans.sizes) // len(queues), axis=0)
            plans = followed_to(plans, self._at_m, at_m, self._mdp.scenario, followed)
            cost = self._cost(plans, queues, distances_m, _TRIALS)
            chosen = plans.take(cost.argmin(1) + np.arange(len(cost)) * cost.shape[1])
        else:
            chosen = Plans.concatenate([self._next(own, distances_m[0]) for own in queues])
        return chosen._replace(sizes=chosen.sizes.clip(1))

    def _next(self, queues: np.ndarray, distances_m: np.ndarray) -> Plans:
        """The plan of one world where the MDs stay, as found now or before."""
        key = queues.tobytes()
        if key not in self._found:
            if queues.max() <= _TAIL * self._mdp.scenario.max_window:
                self._find_tail(queues, distances_m)
            else:
                plans = self._candidates(queues[None], 1)
                cost = self._cost(plans, queues[None], distances_m, _TRIALS)[0]
                self._found[key] = plans.take(cost.argmin()[None])
        return self._found[key]

    def _find_tail(self, queues: np.ndarray, distances_m: np.ndarray) -> None:
        """Search the windows down to empty queues, by a beam over their mean cost."""
        states, sums = queues[None], np.zeros(1)
        levels: list[tuple[np.ndarray, Plans, np.ndarray, np.ndarray]] = []
        best, end = np.inf, (0, 0)
        while len(states):
            plans = self._candidates(states, _PARTS)
            cost = self._cost(plans, states, distances_m, _TAIL_TRIALS)
            each = cost.shape[1]
            totals = (sums[:, None] + cost - self._mean_cost).ravel()
            after = self._sorted(states.repeat(each, axis=0) - plans.sizes)
            is_done = ~(after > 0).any(1)
            if is_done.any() and totals[is_done].min() < best:
                last = int(np.flatnonzero(is_done)[totals[is_done].argmin()])
                best, end = totals[last], (len(levels), last)
            order = np.argsort(np.where(is_done, np.inf, totals), kind="stable")
            order = order[: np.count_nonzero(~is_done)]
            _, first = np.unique(after[order], axis=0, return_index=True)
            kept = order[np.sort(first)][:_BEAM]
            kept = kept[totals[kept] < best + _HOPELESS * abs(self._mean_cost)]
            levels.append((states, plans, kept, np.arange(len(totals)) // each))
            states, sums = after[kept], totals[kept]
        level, row = end
        while True:
            states, plans, _, parents = levels[level]
            self._found[states[parents[row]].tobytes()] = plans.take(np.array([row]))
            if level == 0:
                return
            level, row = level - 1, int(levels[level - 1][2][parents[row]])

    def _candidates(self, queues: np.ndarray, parts: int) -> Plans:
        """The plans in each of B worlds, no longer than the queues.

        Args:
            queues: ``(B, N)``.
            parts: Each plan also as the first of 1 to ``parts`` - 1 windows that end all queues.
        """
        count, worlds = len(self.plans.sizes), len(queues)
        plans = self.plans.take(np.tile(np.arange(count), worlds * parts))
        queues = queues.repeat(count * parts, axis=0)
        part = np.tile(np.repeat(np.arange(parts), count), worlds)[:, None]
        limits = self._mdp.scenario.of_devices("max_window")[self.devices]
        even = np.minimum(-(-queues // np.maximum(part, 1)), limits)
        sizes = np.minimum(np.where(part == 0, plans.sizes, even), queues)
        return plans._replace(sizes=sizes)

    def _cost(
        self, plans: Plans, queues: np.ndarray, distances_m: np.ndarray, samples: int
    ) -> np.ndarray:
        everyone = np.arange(len(self.devices))
        seed = PLANNING_SEED + _MANY + _FINAL
        at_m = np.broadcast_to(distances_m, queues.shape)
        asked = plans._replace(sizes=plans.sizes.clip(1))
        return cost_where(self._mdp, self.devices, everyone, asked, queues, at_m, samples, seed)

    def _sorted(self, queues: np.ndarray) -> np.ndarray:
        """Queues as positions have them: falling within each kind."""
        kinds = np.broadcast_to(self.kinds, queues.shape)
        return np.take_along_axis(queues, np.lexsort((-queues, kinds), axis=1), axis=1)


def _search(
    search: WindowSearch, budget: PlannerBudget, report: Callable[[str, float], None]
) -> tuple[Plans, np.ndarray]:
    """Plans with window sizes that fall within each kind, and their expected costs."""
    report("searching plans", 0.0)
    starts = _structured(search)
    plans = starts.take(np.arange(len(starts.sizes)))
    tasks_a_round = plans.sizes.sum() * _PROPOSALS * (_FEW + _MANY / 4)
    rounds = max(int(budget.network_tasks / tasks_a_round), 1)
    latest = max(int(_LATEST * search.num_active), 1)
    (few, ends), (cost, _) = _played(search, plans, _FEW), _played(search, plans, _MANY)
    for round_ in range(rounds):
        parent = np.repeat(np.arange(len(cost)), _PROPOSALS)
        device = search.rng.integers(search.num_active, size=len(parent))
        late = np.argsort(-ends, axis=1)[parent, search.rng.integers(latest, size=len(parent))]
        device = np.where(search.rng.random(len(parent)) < 0.5, late, device)
        proposed = search.changed(plans.take(parent), device)
        _resize(search, proposed, device)
        firsts, their_ends = _played(search, proposed, _FEW)
        racing = np.flatnonzero(firsts < (1.0 + _MARGIN) * few[parent])
        if len(racing):
            costs = np.full(len(parent), np.inf)
            costs[racing] = _played(search, proposed.take(racing), _MANY)[0]
            winner = costs.reshape(len(cost), _PROPOSALS).argmin(1)
            won = np.arange(len(cost)) * _PROPOSALS + winner
            better = np.flatnonzero(costs[won] < cost)
            rows = won[better]
            plans.put(better, proposed.take(rows))
            cost[better], few[better], ends[better] = costs[rows], firsts[rows], their_ends[rows]
        report("searching plans", (round_ + 1) / rounds)
    limits = search.scenario.of_devices("max_window")[search.devices]
    local = search.blank(limits[None])
    everything = Plans.concatenate([local, plans, starts])
    cost = search.cost(everything, _FINAL, PLANNING_SEED + _MANY)
    best = 1 + np.argsort(cost[1:], kind="stable")[:_KEPT]
    # What is hardly better than all tasks local is so by luck.
    best = best[cost[best] < (1.0 - _MARGIN) * cost[0]]
    plans = everything.take(np.append(best, 0))
    kinds = np.broadcast_to(np.asarray(search.alike), plans.sizes.shape)
    plans = plans.of_devices(np.lexsort((-plans.sizes, kinds), axis=1))
    return plans, search.cost(plans, _FINAL, PLANNING_SEED + _MANY)


def _structured(search: WindowSearch) -> Plans:
    """The best of the structured plans, of different window sizes."""
    scenario, num_devices = search.scenario, search.num_active
    limits = scenario.of_devices("max_window")[search.devices]
    points, gain = search.alone(_HEATS[-1][0], PLANNING_SEED)
    rank = np.argsort(np.argsort(-gain, kind="stable"))
    levels = np.unique(np.rint(np.linspace(1, scenario.max_window, _LEVELS)).astype(int))
    parts = []
    counts = [np.rint(_SHARES * num_devices), _PER_RESOURCE * scenario.num_channels]
    counts = np.concatenate([*counts, _PER_RESOURCE * scenario.num_servers]).astype(int)
    for offloading in np.unique(counts[counts <= num_devices]):
        pairs = itertools.product(levels, levels)
        if offloading in (0, num_devices):
            pairs = zip(levels, levels, strict=True)
        shapes = np.array([np.where(rank < offloading, *pair) for pair in pairs])
        shapes = np.minimum(shapes, limits)
        order = np.tile(np.argsort(rank), (len(shapes), 1))
        for by_task in (False, True) if offloading else (False,):
            dealt = search.blank(shapes)
            search.deal(dealt, order, int(offloading), by_task)
            sends = (rank < offloading)[:, None]
            for point, level in itertools.product(points, POWER_LEVELS if offloading else (0.3,)):
                power = level * scenario.of_devices("max_power_dbm")[search.devices][:, None]
                parts.append(
                    dealt._replace(
                        partition=np.where(sends, point[:, None], dealt.partition),
                        power_dbm=np.broadcast_to(power, dealt.power_dbm.shape).copy(),
                    )
                )
    plans = Plans.concatenate(parts)
    cost = np.zeros(len(plans.sizes))
    for samples, left in _HEATS:
        cost = search.cost(plans, samples, PLANNING_SEED)
        if left > 1:
            kept = np.argsort(cost, kind="stable")[:left]
            plans, cost = plans.take(kept), cost[kept]
    order = np.argsort(cost, kind="stable")
    _, first = np.unique(plans.sizes[order], axis=0, return_index=True)
    return plans.take(order[np.sort(first)[:_PLANS]])


def _resize(search: WindowSearch, plans: Plans, device: np.ndarray) -> None:
    """Change the window size of an MD of some of the plans by one, in place."""
    rows = np.arange(len(device))
    limits = search.scenario.of_devices("max_window")[search.devices][device]
    by = search.rng.choice((-1, 1), size=len(rows)) * (search.rng.random(len(rows)) < _RESIZED)
    plans.sizes[rows, device] = np.clip(plans.sizes[rows, device] + by, 1, limits)


def _played(search: WindowSearch, plans: Plans, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Expected cost of each plan, ``(L,)``, and when each MD finishes, ``(L, k)``, ms."""
    count = len(plans.sizes)
    step = search.window(plans, samples, PLANNING_SEED)
    ends = step.stage_ends[..., 2].max(2).reshape(count, samples, -1).mean(1)
    return -step.reward.reshape(count, samples).mean(1), ends[:, search.devices]
