"""All plans of a planner: for each set of MDs with tasks left, at each of some places."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rllib_mec.envs.draws import Draw, step_keys
from rllib_mec.envs.episodes import usual_distance_m
from rllib_mec.envs.mdp import MDP
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import PLANNING_SEED
from rllib_mec.policies.planner.episode_values import EpisodeValues
from rllib_mec.policies.planner.plans import Plans, window_shapes
from rllib_mec.policies.planner.window_search import PlannerBudget, WindowSearch

_TIE = 0.004
"""Of windows that cost the same up to this share, larger ones are taken, for steady decisions."""

_MOST_ARRANGED = 700  # plans, with those in which equal MDs change places
_MOST_COMPARED = 160  # plans at each of several places that the values of episodes look at
_QUEUES = 1.6  # longest queues that are told apart, as a share of the mean number of tasks
_TRIED, _WORTH = 3, 0.005  # other places are searched if the first of them gain this much
_LESS = 4  # rounds at other places are fewer by this factor: they begin with the first one's plans

Search = Callable[[WindowSearch, np.ndarray, PlannerBudget, Plans | None], tuple[Plans, np.ndarray]]


class Place(NamedTuple):
    """What the windows of a set of MDs cost where they are.

    Attributes:
        distances_m: Of each of the k MDs, ``(k,)``, m.
        plans: L plans of windows of these MDs.
        cost: Their expected −r_k, ``(L,)``, with a slight preference for larger windows.
    """

    distances_m: np.ndarray
    plans: Plans
    cost: np.ndarray


class Library:
    """Plans for every set of MDs with tasks left, and what an episode costs from every state.

    MDs stand at positions: those of one kind in a row, the longest queue first where they stay, the
    nearest one first where they move.

    Args:
        mdp: Task windows.
        distances_m: Where every MD stays, ``(N,)``; ``None`` where they are drawn in every window.
        budget: How long to search.
        search: Searches, or knows what an equal search has found.
        report: Told what is being searched, and the share of it that is done.
    """

    def __init__(
        self,
        mdp: MDP,
        distances_m: np.ndarray | None,
        budget: PlannerBudget,
        search: Search,
        report: Callable[[str, float], None],
    ):
        """Search all plans."""
        self._mdp, self._budget, self._search, self._report = mdp, budget, search, report
        self.moves = distances_m is None
        usual = np.full(mdp.scenario.num_devices, usual_distance_m(mdp.scenario))
        base = usual if distances_m is None else distances_m
        self.devices, self.kinds = _by_kind(mdp, base)
        _, members = np.unique(self.kinds, return_counts=True)
        sets = list(itertools.product(*(range(count + 1) for count in members)))[1:]
        starts = np.searchsorted(self.kinds, np.arange(len(members)))
        self.positions = [
            np.concatenate([np.arange(s, s + c) for s, c in zip(starts, counts, strict=True)])
            for counts in sets
        ]
        self._searched, self._to_search = 0, len(sets)
        self.places = [[self._first_place(base[self.devices[p]], p)] for p in self.positions]
        if self.moves and budget.places > 1:
            self._add_places()
        mean_tasks = mdp.scenario.of_devices("mean_tasks")[self.devices]
        self.values = EpisodeValues(
            self.kinds,
            *self._choices(),
            np.maximum(np.rint(mean_tasks).astype(np.int64), 1),
            int(max(_QUEUES * mean_tasks.max(), 2 * mdp.scenario.max_window)),
        )

    def totals(self, index: int, place: int, queues: np.ndarray) -> np.ndarray:
        """What the plans cost with what comes after them, ``(L,)``; inf where too large.

        Args:
            index: Of the set of MDs with tasks left.
            place: Of the place.
            queues: Tasks left, by position, ``(N,)`` int.
        """
        _, plans, cost = self.places[index][place]
        after = np.tile(queues, (len(cost), 1))
        after[:, self.positions[index]] -= plans.sizes
        return np.where((after >= 0).all(1), cost + self.values(after.clip(0)), np.inf)

    def _progress(self) -> None:
        self._report("searching plans", self._searched / self._to_search)
        self._searched += 1

    def _first_place(self, distances_m: np.ndarray, positions: np.ndarray) -> Place:
        """Plans searched from scratch."""
        self._progress()
        devices = self.devices[positions]
        search = WindowSearch(self._mdp, devices, distances_m)
        limits = self._mdp.scenario.of_devices("max_window")[devices]
        plans, cost = self._search(search, window_shapes(limits, search.alike), self._budget, None)
        if not self.moves:
            rows, order = _arrangements(plans.sizes, search.alike)
            plans, cost = plans.take(rows).of_devices(order), cost[rows]
        return self._place(distances_m, plans, cost)

    def _place(self, distances_m: np.ndarray, plans: Plans, cost: np.ndarray) -> Place:
        most = plans.sizes.shape[1] * self._mdp.scenario.max_window
        return Place(distances_m, plans, cost * (1.0 + _TIE * (1.0 - plans.sizes.sum(1) / most)))

    def _add_places(self) -> None:
        """Search at other places too, if that is worth it: where transmissions hardly count, no."""
        first = PLANNING_SEED + (1 << 32)
        seeds = first + np.arange(self._budget.places - 1, dtype=np.uint64)
        drawn = self._mdp.draw_distances(
            Draw(step_keys(seeds, np.zeros((len(seeds), 2), dtype=np.int64)), len(self.devices))
        )
        self._to_search += min(_TRIED, len(drawn))
        gains = [self._add_place(-1, distances_m) for distances_m in drawn[:_TRIED]]
        if np.mean(gains) < _WORTH:
            del self.places[-1][1:]
            return
        self._to_search += len(drawn) * len(self.places) - len(gains)
        for index in range(len(self.places)):
            for i, distances_m in enumerate(drawn):
                if index < len(self.places) - 1 or i >= _TRIED:
                    self._add_place(index, distances_m)

    def _add_place(self, index: int, drawn: np.ndarray) -> float:
        """Search a set's plans for one more place; by what share that lowers the least cost."""
        self._progress()
        positions = self.positions[index]
        devices, kinds = self.devices[positions], self.kinds[positions]
        distances_m = drawn[devices][np.lexsort((drawn[devices], kinds))]
        search = WindowSearch(self._mdp, devices, distances_m)
        limits = self._mdp.scenario.of_devices("max_window")[devices]
        few = len(devices) <= 4  # else, those nearer do no less than those farther off
        shapes = window_shapes(limits, np.arange(len(devices)) if few else kinds)
        known = self._known(self.places[index][0], shapes, distances_m, kinds)
        less = self._budget.rounds // _LESS
        plans, cost = self._search(
            search, shapes, dataclasses.replace(self._budget, rounds=less), known
        )
        self.places[index].append(self._place(distances_m, plans, cost))
        before = search.cost(known, self._budget.final_samples // _LESS, PLANNING_SEED).min()
        after = search.cost(plans, self._budget.final_samples // _LESS, PLANNING_SEED).min()
        return float(1.0 - after / before)

    def _known(
        self, place: Place, shapes: np.ndarray, distances_m: np.ndarray, kinds: np.ndarray
    ) -> Plans:
        """Plans found for equal sizes elsewhere, the MDs of a kind changing places as needed."""
        order = np.lexsort((-shapes, np.broadcast_to(kinds, shapes.shape)), axis=1)
        falling = np.take_along_axis(shapes, order, axis=1)
        rows = np.array([int(abs(place.plans.sizes - f).sum(1).argmin()) for f in falling])
        plans = place.plans.take(rows).of_devices(np.argsort(order, axis=1))
        plans = plans._replace(sizes=shapes.copy())
        return followed_to(plans, place.distances_m, distances_m, self._mdp.scenario, 0.5)

    def _choices(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Sizes and costs of the windows to choose from, as :class:`EpisodeValues` takes them."""
        all_sizes, all_costs = [], []
        rng = np.random.default_rng(0)
        for positions, places in zip(self.positions, self.places, strict=True):
            kept = len(places[0].cost) if len(places) == 1 else _MOST_COMPARED
            length = max(min(len(place.cost), kept) for place in places)
            sizes = np.zeros((len(places), length, len(self.devices)), dtype=np.int64)
            costs = np.full((len(places), length), np.inf)
            for i, place in enumerate(places):
                ones = int((place.plans.sizes == 1).all(1).argmax())
                rows = np.argsort(place.cost, kind="stable")[:kept]
                if ones not in rows:
                    rows[-1] = ones
                # Who is nearer has the longer queue as often as not.
                seats = positions
                if self.moves:
                    seats = positions[
                        np.lexsort((rng.random(len(positions)), self.kinds[positions]))
                    ]
                sizes[i][: len(rows), seats] = place.plans.sizes[rows]
                costs[i, : len(rows)] = place.cost[rows]
            all_sizes.append(sizes)
            all_costs.append(costs)
        return all_sizes, all_costs


def followed_to(
    plans: Plans,
    found_at_m: np.ndarray,
    distances_m: np.ndarray,
    scenario: Scenario,
    share: float,
) -> Plans:
    """Plans with powers that make up for part of a difference in path loss.

    Args:
        plans: L plans of k MDs.
        found_at_m: Distances that they were found at, ``(k,)``, m.
        distances_m: Where the MDs are, ``(k,)`` or ``(L, k)``, m.
        scenario: Gives path loss and limits of power.
        share: Which part.
    """
    loss_db = 10 * scenario.path_loss_exponent * np.log10(distances_m / found_at_m)
    return plans._replace(power_dbm=plans.power_dbm + share * loss_db[..., None])


def _by_kind(mdp: MDP, distances_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The MDs, those alike in a row, ``(N,)``, and the kind of each of these, ``(N,)``."""
    alike = list(zip(mdp.scenario.mobile_devices, distances_m.tolist(), strict=True))
    names = {each: i for i, each in enumerate(dict.fromkeys(alike))}
    kinds = np.array([names[each] for each in alike])
    devices = np.argsort(kinds, kind="stable")
    return devices, kinds[devices]


def _arrangements(sizes: np.ndarray, alike: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Every plan with its MDs in every order that changes the sizes: rows, and orders.

    If that makes too many, every plan as it is.
    """
    num_devices = sizes.shape[1]
    groups = [np.flatnonzero(np.asarray(alike) == kind) for kind in dict.fromkeys(alike)]
    orders = (
        [
            np.concatenate(parts)[np.argsort(np.concatenate(groups))]
            for parts in itertools.product(*(itertools.permutations(group) for group in groups))
        ]
        if num_devices <= 6
        else []
    )
    rows, order, seen = [], [], set()
    for row, own in enumerate(sizes):
        for each in orders:
            if (key := (row, *own[each].tolist())) not in seen:
                seen.add(key)
                rows.append(row)
                order.append(each)
        if len(rows) > _MOST_ARRANGED:
            break
    if not orders or len(rows) > _MOST_ARRANGED:
        return np.arange(len(sizes)), np.tile(np.arange(num_devices), (len(sizes), 1))
    return np.array(rows), np.array(order)
