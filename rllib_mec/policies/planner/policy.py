"""A near-optimal, model-based reference: it plans, and learns nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from rllib_mec.cache import cache_folder
from rllib_mec.envs import laws
from rllib_mec.envs.actions import action_of_dbm
from rllib_mec.envs.episodes import EVALUATION_DISTANCE_M
from rllib_mec.envs.mdp import MDP
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import PLANNING_SEED
from rllib_mec.policies.planner.episode_search import WindowCosts, best_windows
from rllib_mec.policies.planner.window_search import (
    PlannerBudget,
    Plans,
    WindowSearch,
)
from rllib_mec.policies.policy import Policy

_TIE = 0.004
"""Of windows that cost the same up to this share, larger ones are taken, for steady decisions."""

_FOLLOWED = np.linspace(0.0, 1.0, 6)  # shares of the path loss that the power may make up for


class Planner(Policy):
    """Decides task windows by search in the simulator; near-optimal, slow to make, fast to ask.

    It knows the model (Eq. 1 to 8) but, like every policy, not the shadowing of the window to come.
    It is made in two steps. For each number of MDs with tasks left and each combination of window
    sizes, a random local search looks for the partition points, channels, servers and powers of
    least expected cost −r_k over sampled shadowing, at 50 m. Asked for a decision, it then looks
    for the sequence of window sizes, down to empty queues, of least mean cost (the paper's average
    reward is the mean over windows), larger windows going to longer queues. MDs nearer or farther
    than 50 m make up for part of their path loss by power; which part is searched as well.

    On small cases it can be compared to an enumeration of all decisions: see
    ``tests/policies/test_planner.py``.

    Args:
        where: The scenario, or its task-window MDP.
        seed: Seed of the search.
        budget: How long to search; about 10 s for N = 3 and a minute for N = 6 by default.
        cache: Whether to keep the plans in the user's cache folder, and to take them from there.

    Raises:
        MecError: ``where`` is the time-slot MDP, or its devices differ.
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
        """Search, or load what an equal search has found."""
        super().__init__(where)
        check_plannable(self.mdp)
        scenario = self.scenario
        self._budget = budget or PlannerBudget()
        file = self._cache_file(seed)
        found = _load(file) if cache else None
        if found is None:
            rng = np.random.default_rng(seed)
            found = [
                WindowSearch(self.mdp, num_active, EVALUATION_DISTANCE_M, rng).run(self._budget)
                for num_active in range(1, scenario.num_devices + 1)
            ]
            if cache:
                _save(file, found)
        self._plans = [plans for plans, _ in found]
        self._costs = WindowCosts(
            [plans.sizes for plans in self._plans],
            [cost * _preference(plans, scenario.max_window) for plans, cost in found],
        )
        self._chosen: dict[tuple[int, ...], int] = {}  # falling queues -> row of the plans
        self._followed = self._search_followed()

    def _cache_file(self, seed: int) -> Path:
        """Where the plans of an equal search are kept."""
        package = Path(__file__).parents[2]
        rooms = ("network", "envs")
        sources = [Path(__file__).with_name("window_search.py")]
        sources += [file for room in rooms for file in package.glob(f"{room}/*.py")]
        # A user's laws are part of the question: their classes and where they are written.
        sources += [Path(file) for law in type(self.mdp).__mro__ if (file := _source(law))]
        fields = {**self.scenario.to_dict(), **self.mdp.settings}
        budget = dataclasses.replace(self._budget, beam=0)  # it has no part in the search
        asked = [
            type(self.mdp).__qualname__,
            self.scenario.physics,
            fields,
            seed,
            dataclasses.astuple(budget),
        ]
        key = json.dumps(asked, default=lambda v: getattr(v, "tolist", v.__str__)())
        name = hashlib.sha256(key.encode()).hexdigest()[:24]
        return cache_folder("plans", set(sources)) / f"{name}.npz"

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Plan one window in each of B worlds; see the base class."""
        scenario = self.scenario
        state = laws.decoded(self.mdp, observation)
        queues, distances = state.queues, state.distances_m
        order = np.argsort(-queues, axis=1, kind="stable")  # MDs by falling queue
        falling = np.take_along_axis(queues, order, axis=1)

        actions = self._same_for_all(observation, partition=0, power=0.0)
        actions["window"][:] = 0
        power_dbm = np.zeros(actions["power"].shape)
        distinct, world_state = np.unique(falling, axis=0, return_inverse=True)
        for index, own in enumerate(distinct):
            num_active = np.count_nonzero(own)
            if not num_active:
                continue
            worlds = np.flatnonzero(world_state.ravel() == index)[:, None]
            devices = order[worlds[:, 0], :num_active]
            plans, row = self._plans[num_active - 1], self._choose(own)
            for head in ("partition", "channel", "server"):
                actions[head][worlds, devices] = getattr(plans, head)[row]
            power_dbm[worlds, devices] = plans.power_dbm[row]
            actions["window"][worlds, devices] = plans.sizes[row] - 1
        power_dbm = power_dbm + self._compensation_db(distances)
        actions["power"] = action_of_dbm(power_dbm, scenario).clip(0.0, 1.0)
        return actions

    def _choose(self, falling: np.ndarray) -> int:
        """Row of the plan for these queues."""
        key = tuple(falling.tolist())
        if key not in self._chosen:
            path = best_windows(falling, self._costs, self._budget.beam)
            for state, row in path:
                self._chosen.setdefault(state, row)
        return self._chosen[key]

    def _compensation_db(self, distances_m: np.ndarray) -> np.ndarray:
        """What the powers found at 50 m change by at other distances, ``(B, N, 1)``, dB."""
        scenario = self.scenario
        loss = 10 * scenario.path_loss_exponent * np.log10(distances_m / EVALUATION_DISTANCE_M)
        return self._followed * loss[..., None]

    def _search_followed(self) -> float:
        """The share of the path loss to make up for, best where distances are drawn."""
        self._followed = 0.0
        worlds = self.mdp.make(
            self._budget.final_samples, PLANNING_SEED, num_tasks=4 * self.scenario.max_window
        )
        rewards = []
        for self._followed in _FOLLOWED:
            rewards.append(worlds.simulate(self.decide(worlds.observation())).reward.mean())
        return float(_FOLLOWED[int(np.argmax(rewards))])


def check_plannable(mdp: MDP) -> None:
    """Refuse what the planner cannot plan for.

    Args:
        mdp: What is to be planned.

    Raises:
        MecError: Its steps cannot be simulated, or its devices differ.
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
    if "devices" in mdp.scenario.unlike:
        raise MecError("the planner plans for equal devices, but those of this scenario differ")


def _preference(plans: Plans, max_window: int) -> np.ndarray:
    """Factors of the plans' costs that decide between equals, ``(L,)``."""
    most = plans.sizes.shape[1] * max_window
    return 1.0 + _TIE * (1.0 - plans.sizes.sum(1) / most)


def _save(file: Path, found: list[tuple[Plans, np.ndarray]]) -> None:
    """Write plans at once or not at all; without a place to write, do nothing."""
    arrays = {}
    for index, (plans, cost) in enumerate(found):
        arrays |= {f"{index}_{name}": values for name, values in plans._asdict().items()}
        arrays[f"{index}_cost"] = cost
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as draft:
            np.savez_compressed(draft, **arrays)
        os.replace(draft.name, file)
    except OSError:
        return


def _load(file: Path) -> list[tuple[Plans, np.ndarray]] | None:
    """Read plans; ``None`` where there are none."""
    try:
        with np.load(file) as arrays:
            count = len(arrays.files) // (len(Plans._fields) + 1)
            return [
                (Plans(*(arrays[f"{i}_{name}"] for name in Plans._fields)), arrays[f"{i}_cost"])
                for i in range(count)
            ]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _source(law: type) -> str | None:
    """The file that a class of a user's is written in; ``None`` where there is none to read."""
    try:
        return inspect.getsourcefile(law)
    except (OSError, TypeError):
        return None
