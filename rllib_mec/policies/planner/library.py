"""All plans of a planner: for each set of MDs with tasks left, at each of some places."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from rllib_mec.envs import laws
from rllib_mec.envs.draws import Draw
from rllib_mec.envs.episodes import usual_distance_m
from rllib_mec.envs.mdp import MDP
from rllib_mec.network.path_loss import more_loss_db
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import PLANNING_SEED
from rllib_mec.policies.planner.episode_search import WindowCosts, best_windows
from rllib_mec.policies.planner.episode_values import EpisodeValues
from rllib_mec.policies.planner.plans import Plans, window_shapes
from rllib_mec.policies.planner.stored import Kept
from rllib_mec.policies.planner.window_search import PlannerBudget, WindowSearch

_TIE = 0.004
"""Of windows that cost the same up to this share, larger ones are taken, for steady decisions."""

_MOST_ARRANGED = 700  # plans, with those in which equal MDs change places
_MOST_COMPARED = 160  # plans at each of several places that the values of episodes look at
_QUEUES = 1.6  # longest queues that are told apart, as a share of the mean number of tasks
_MOST_DEVICES, _MOST_SETS = 6, 15  # of more, a few plans for all MDs together do
_MOST_MOVING = 4  # of more MDs, plans are searched at the usual distance alone
_TRIED, _WORTH = 3, 0.005  # other places are searched if the first of them gain this much
_BEAM = 64  # states kept by the search over an episode that is too long for a table
_LESS = 4  # searches at other places are shorter by this factor: they begin with what is known


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

    MDs stand at positions: those of one kind in a row, the longest queue first, or the nearest one
    where plans are searched at several places.

    Args:
        mdp: Task windows.
        distances_m: Where every MD stays, ``(N,)``; ``None`` where they are drawn in every window.
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
        """Search all plans."""
        self._mdp, self._budget, self._report = mdp, budget, report
        self._kept, self._seed = kept, seed
        self._less = dataclasses.replace(
            budget,
            rounds=budget.rounds // _LESS,
            samples=max(budget.samples // 2, 2),
            final_samples=max(budget.final_samples // _LESS, 1),
        )
        self.moves = distances_m is None
        usual = np.full(mdp.scenario.num_devices, usual_distance_m(mdp.scenario))
        base = usual if distances_m is None else distances_m
        self.devices, self.kinds = by_kind(mdp, base)
        _, members = np.unique(self.kinds, return_counts=True)
        sets = list(itertools.product(*(range(count + 1) for count in members)))[1:]
        starts = np.searchsorted(self.kinds, np.arange(len(members)))
        self.positions = [
            np.concatenate([np.arange(s, s + c) for s, c in zip(starts, counts, strict=True)])
            for counts in sets
        ]
        self._begun, self._to_search = 0, len(sets)
        self.places = [[self._first_place(base[self.devices[p]], p)] for p in self.positions]
        if self.moves and budget.places > 1 and len(self.devices) <= _MOST_MOVING:
            self._add_places()
        mean_tasks = mdp.scenario.of_devices("mean_tasks")[self.devices]
        self._report("searching plans", 1.0)
        longest = int(max(_QUEUES * mean_tasks.max(), 2 * mdp.scenario.max_window))
        usual_tasks = np.maximum(np.rint(mean_tasks).astype(np.int64), 1)
        self.values = EpisodeValues(self.kinds, *self._choices(), usual_tasks, longest)
        self._falling: list[np.ndarray] = []  # rows for the search over episodes
        if self.values.longest < usual_tasks.max() and not self.kinds.any():
            self._falling = [_falling_rows(places[0]) for places in self.places]
            self._windows = WindowCosts(
                [
                    p[0].plans.sizes[rows]
                    for p, rows in zip(self.places, self._falling, strict=True)
                ],
                [p[0].cost[rows] for p, rows in zip(self.places, self._falling, strict=True)],
            )
        self._chosen: dict[tuple[int, ...], int] = {}

    def row(self, index: int, queues: np.ndarray) -> int:
        """The plan at the first place that is best for these queues.

        Args:
            index: Of the set of MDs with tasks left.
            queues: Tasks left, by position, ``(N,)`` int.
        """
        key = tuple(queues.tolist())
        if key not in self._chosen and not self._falling:
            self._chosen[key] = int(self.totals(index, 0, queues).argmin())
        elif key not in self._chosen:
            for state, row in best_windows(queues, self._windows, _BEAM):
                rows = self._falling[np.count_nonzero(state) - 1]
                self._chosen.setdefault(state, int(rows[row]))
        return self._chosen[key]

    @property
    def by_distance(self) -> bool:
        """Whether positions are sorted by distance, not by queue."""
        return len(self.places[-1]) > 1

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
        self._report("searching plans", self._begun / self._to_search)
        self._begun += 1

    def _first_place(self, distances_m: np.ndarray, positions: np.ndarray) -> Place:
        """Plans searched from scratch."""
        self._progress()
        devices = self.devices[positions]
        search = WindowSearch(self._mdp, devices, distances_m)
        limits = self._mdp.scenario.of_devices("max_window")[devices]
        shapes = window_shapes(limits, search.alike)
        plans, cost = self._searched(search, shapes, self._budget, None)
        rows, order = _arrangements(plans.sizes, search.alike)
        return self._place(distances_m, plans.take(rows).of_devices(order), cost[rows])

    def _searched(
        self, search: WindowSearch, shapes: np.ndarray, budget: PlannerBudget, known: Plans | None
    ) -> tuple[Plans, np.ndarray]:
        """Plans of some shapes and what they cost, searched or as kept."""
        search.rng = np.random.default_rng([self._seed, *search.devices])
        return self._kept(
            [search.devices, search.distances_m, shapes, dataclasses.astuple(budget), self._seed],
            lambda: search.run(shapes, budget, known),
        )

    def _place(self, distances_m: np.ndarray, plans: Plans, cost: np.ndarray) -> Place:
        most = plans.sizes.shape[1] * self._mdp.scenario.max_window
        return Place(distances_m, plans, cost * (1.0 + _TIE * (1.0 - plans.sizes.sum(1) / most)))

    def _add_places(self) -> None:
        """Search at other places too, if that is worth it: where transmissions hardly count, no."""
        first = PLANNING_SEED + (1 << 32)
        seeds = first + np.arange(self._budget.places - 1, dtype=np.uint64)
        num_devices = len(self.devices)
        none = np.zeros((len(seeds), 2), dtype=np.int64)
        draw = Draw.at(seeds, none, np.zeros(len(seeds)), num_devices)
        shape = (len(seeds), num_devices)
        drawn = laws.numbers(self._mdp, "draw_distances", shape, draw)
        self._to_search += min(_TRIED, len(drawn))
        everyone = len(self.places) - 1
        gains = self._search_places([(everyone, distances_m) for distances_m in drawn[:_TRIED]])
        if np.mean(gains) < _WORTH:
            del self.places[everyone][1:]
            return
        left = [(index, d) for index in range(everyone) for d in drawn]
        left += [(everyone, d) for d in drawn[_TRIED:]]
        self._to_search += len(left)
        self._search_places(left)

    def _search_places(self, wanted: list[tuple[int, np.ndarray]]) -> list[float]:
        """Search some sets of MDs, each for one more place; by what share the least cost falls."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # the simulator runs without the GIL
            found = list(pool.map(lambda each: self._other_place(*each), wanted))
        for (index, _), (place, _) in zip(wanted, found, strict=True):
            self.places[index].append(place)
        return [gain for _, gain in found]

    def _other_place(self, index: int, drawn: np.ndarray) -> tuple[Place, float]:
        """A set's plans at one more place, and by what share they lower the least cost there."""
        self._progress()
        positions = self.positions[index]
        devices, kinds = self.devices[positions], self.kinds[positions]
        distances_m = drawn[devices][np.lexsort((drawn[devices], kinds))]
        search = WindowSearch(self._mdp, devices, distances_m)
        limits = self._mdp.scenario.of_devices("max_window")[devices]
        few = len(devices) <= 4  # else, those nearer do no less than those farther off
        shapes = window_shapes(limits, np.arange(len(devices)) if few else kinds)
        known = self._known(self.places[index][0], shapes, distances_m, kinds)
        plans, cost = self._searched(search, shapes, self._less, known)
        before, after = (
            search.cost(each, self._less.final_samples, PLANNING_SEED).min()
            for each in (known, plans)
        )
        gain = (before - after) / abs(before) if before else 0.0
        return self._place(distances_m, plans, cost), float(gain)

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
                if self.by_distance:
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
    loss_db = more_loss_db(distances_m, found_at_m, scenario)
    return plans._replace(power_dbm=plans.power_dbm + share * loss_db[..., None])


def has_plans_of_sets(mdp: MDP, distance_m: Any) -> bool:
    """Whether the MDs are few enough for plans of each set of them: or of all of them together.

    Args:
        mdp: Says how many MDs there are, and which are equal.
        distance_m: Where they stay, one number or ``(N,)``, m; ``None`` where distances are drawn.
    """
    num_devices = mdp.scenario.num_devices
    if num_devices > _MOST_DEVICES:
        return False
    where = np.empty(num_devices)
    where[:] = 1.0 if distance_m is None else distance_m
    _, members = np.unique(by_kind(mdp, where)[1], return_counts=True)
    return bool(np.prod(members + 1) - 1 <= _MOST_SETS)


def by_kind(mdp: MDP, distances_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The MDs, those alike in a row, ``(N,)``, and the kind of each of these, ``(N,)``.

    Args:
        mdp: Says which are equal.
        distances_m: Where they are, ``(N,)``, m.
    """
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


def _falling_rows(place: Place) -> np.ndarray:
    """The plans whose window sizes fall."""
    return np.flatnonzero((np.diff(place.plans.sizes, axis=1) <= 0).all(1))
