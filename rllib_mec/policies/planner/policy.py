"""A near-optimal, model-based reference: it plans, and learns nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rllib_mec.envs import laws
from rllib_mec.envs.mdp import MDP
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import PLANNING_SEED
from rllib_mec.policies.planner.episode_values import row_of
from rllib_mec.policies.planner.library import Library, followed_to, has_plans_of_sets
from rllib_mec.policies.planner.network_search import NetworkPlans
from rllib_mec.policies.planner.plans import Plans
from rllib_mec.policies.planner.simulation import actions_of
from rllib_mec.policies.planner.stored import Found, kept
from rllib_mec.policies.planner.trials import tried
from rllib_mec.policies.planner.window_search import PlannerBudget
from rllib_mec.policies.policy import Policy

_FOLLOWED = np.linspace(0.0, 1.0, 6)  # shares of the path loss that the power may make up for


class Planner(Policy):
    """Decides task windows by search in the simulator; near-optimal, slow to make, fast to ask.

    It knows the model (Eq. 1 to 8) but, like every policy, not the shadowing of the window to come.
    For each set of MDs with tasks left and each combination of window sizes, a random local search
    looks for the partition points, channels, servers and powers of least expected cost −r_k over
    sampled shadowing. Dynamic programming over queues then says what each state still costs (the
    paper's average reward is the mean over windows), and a decision is the plan of least cost of
    its window and of what is left after it. Of 5 and 6 MDs a beam search over the windows of the
    episode takes its place. More MDs, or many unlike ones, are planned all together: see
    :class:`~rllib_mec.policies.planner.network_search.NetworkPlans`.

    Where MDs stay, as in the paper's protocol (:meth:`expect_distances`), plans are searched for
    these distances. Where they are drawn, plans are searched at several draws, and the best ones of
    each are tried in the simulator where the MDs are, their powers making up for part of the
    difference in path loss.

    On small cases it can be compared to an enumeration of all decisions: see
    ``tests/policies/test_planner.py``.

    Args:
        where: The scenario, or its task-window MDP.
        seed: Seed of the search.
        budget: How long to search.
        cache: Whether to keep the plans in the user's cache folder, and to take them from there.

    Raises:
        MecError: The MDP's steps cannot be simulated.
    """

    name = "planner"

    def __init__(
        self,
        where: MDP | Scenario,
        seed: int = 0,
        budget: PlannerBudget | None = None,
        *,
        cache: bool = True,
    ):
        """Nothing is searched before a decision is asked for."""
        super().__init__(where)
        check_plannable(self.mdp)
        self._seed, self._cache = seed, cache
        self._budget = budget or PlannerBudget()
        self._libraries: dict[bytes, Library | NetworkPlans] = {}
        self._expected: np.ndarray | None = None
        self._followed = 0.0

    def expect_distances(self, distance_m: float | Sequence[float] | None) -> None:
        """Plan for distances that stay as they are; see the base class."""
        self._expected = None
        if distance_m is not None:
            self._expected = np.broadcast_to(
                np.asarray(distance_m, dtype=float), (self.scenario.num_devices,)
            )

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Plan one window in each of B worlds; see the base class."""
        state = laws.decoded(self.mdp, observation)
        library = self._library()
        actions = self._same_for_all(observation, partition=0, power=0.0)
        actions["window"][:] = 0
        order = self._order(library, state.queues, state.distances_m)
        queues = np.take_along_axis(state.queues, order, axis=1)
        distances_m = np.take_along_axis(state.distances_m, order, axis=1)
        has_tasks = queues.any(1)
        if isinstance(library, NetworkPlans):
            parts = [(np.flatnonzero(has_tasks), np.arange(len(library.devices)))]
            plans = [library.choose(queues[has_tasks], distances_m[has_tasks], self._followed)]
        else:
            sets = row_of(queues > 0, library.kinds)
            present = np.unique(sets[has_tasks])
            parts = [
                (np.flatnonzero((sets == i) & has_tasks), library.positions[i]) for i in present
            ]
            plans = [
                self._choose(library, i, queues[worlds], distances_m[worlds])
                for i, (worlds, _) in zip(present, parts, strict=True)
            ]
        for (worlds, seats), chosen in zip(parts, plans, strict=True):
            devices = library.devices[seats]  # MDs like those of each world
            for head, values in actions_of(chosen, devices, self.scenario).items():
                actions[head][worlds[:, None], order[worlds][:, seats]] = values[:, devices]
        return actions

    def _library(self) -> Library | NetworkPlans:
        """The plans for where the MDs are expected, searched on the first use."""
        key = b"" if self._expected is None else self._expected.tobytes()
        if key not in self._libraries:
            made = Library if has_plans_of_sets(self.mdp, self._expected) else NetworkPlans
            self._libraries[key] = library = made(
                self.mdp, self._expected, self._budget, self._kept, self._seed, self.report
            )
            if library.moves:
                self._search_followed()
        return self._libraries[key]

    def _kept(self, asked: Sequence[Any], search: Callable[[], Found]) -> Found:
        """Search, or load what an equal search has found."""
        return kept(self.mdp, asked, search) if self._cache else search()

    @staticmethod
    def _order(
        library: Library | NetworkPlans, queues: np.ndarray, distances_m: np.ndarray
    ) -> np.ndarray:
        """Which MD takes which position, ``(B, N)``: of those with tasks, see :class:`Library`."""
        queues, distances_m = queues[:, library.devices], distances_m[:, library.devices]
        by_distance = isinstance(library, Library) and library.by_distance
        first = np.where(queues > 0, distances_m, np.inf) if by_distance else -queues
        kinds = np.broadcast_to(library.kinds, queues.shape)
        return library.devices[np.lexsort((first, kinds), axis=1)]

    def _choose(
        self, library: Library, index: int, queues: np.ndarray, distances_m: np.ndarray
    ) -> Plans:
        """A plan for each of B worlds with one set of MDs with tasks left."""
        if len(library.places[index]) > 1:
            return tried(self.mdp, library, index, queues, distances_m, self._followed)
        place = library.places[index][0]
        plans = place.plans.take(np.array([library.row(index, own) for own in queues]))
        if not library.moves:
            return plans
        where = distances_m[:, library.positions[index]]
        return followed_to(plans, place.distances_m, where, self.scenario, self._followed)

    def _search_followed(self) -> None:
        """The share of the path loss to make up for, best where distances are drawn."""
        worlds = self.mdp.make(
            self._budget.final_samples, PLANNING_SEED, num_tasks=4 * self.scenario.max_window
        )
        rewards = []
        for self._followed in _FOLLOWED:
            rewards.append(worlds.simulate(self.decide(worlds.observation())).reward.mean())
        self._followed = float(_FOLLOWED[int(np.argmax(rewards))])


def check_plannable(mdp: MDP) -> None:
    """Refuse what the planner cannot plan for.

    Args:
        mdp: What is to be planned.

    Raises:
        MecError: Its steps cannot be simulated, or tasks arrive in it.
    """
    if mdp.tasks_arrive:
        raise MecError(
            f"the planner cannot plan what has not come: in {mdp.env_id} tasks arrive, "
            "and it plans for those that are all there at the start"
        )
    if not mdp.can_simulate:
        raise MecError(
            f"the planner plans what can be simulated, as task windows can, not a {mdp.step_name}"
        )
