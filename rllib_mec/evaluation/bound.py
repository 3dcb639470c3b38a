"""A lower bound on cost that no policy gets below, however it decides: linear programs.

What a task window needs is linear in how many tasks each MD cuts where, sends over which channel at
which power, and has served by which server. Whoever plays it, its latency L is no less than

- the time that each MD needs for its tasks one after the other, alone in the network;
- the work of each server over its speed;
- the bits of each channel over what all MDs together can get through it.

Waiting costs no less than nothing, energy no less than that of the computing and of sending without
interference. The program chooses the tasks so that L + β/N · ΣE is least. It lets the tasks be
fractions, and MDs, servers and channels be busy all the time, as if they never waited for each
other: hence the distance to what can be reached.

Latencies and energies here are expectations over the shadowing, which is drawn after the decision:
the expectation of a maximum is no less than the maximum of expectations, and that of an MD's
transmission is E[1/R] times its bits. Of a channel's rate only quantiles are known (p, κ): with
probability p all MDs together do not get more than κ, so p · bits ≤ B(κ · E[L] + floor · E[air
time]), where the floor is that of the rate, which holds under any interference: who has it pays in
air time of its own.

For the reward, Eq. (8), a window may have any mix of the MDs' tasks, per unit of W_k: Σ y = N. Each
window's expected cost is bounded, and so is their mean, for policies that see observations. For
total latency and Eq. (4) each MD has its own tasks to do, over all windows of an episode.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rllib_mec.envs.episodes import evaluation_distance_m
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.task_window import TaskWindowMDP, VectorTaskWindow, as_mdp
from rllib_mec.errors import MecError
from rllib_mec.evaluation.protocol import Evaluation, one_if_same, setting_of
from rllib_mec.evaluation.radio_limits import best_trades, power_range_w, snr_db, sum_rates
from rllib_mec.network.defaults import CORRELATED
from rllib_mec.network.path_loss import PAPER, states
from rllib_mec.network.scenario import Scenario

BOUNDED = ("reward", "cost", "latency_ms")
"""Metrics that have a bound."""

_ROUNDING = 1e-6
"""The solver may be off by this; the bound is taken so much lower."""

_LAWS = ("task_rewards", "draw_tasks", "draw_distances", "draw_gains")


@dataclasses.dataclass(frozen=True)
class Bound:
    """What no policy gets below, in expectation over the shadowing.

    Attributes:
        mdp: Where.
        num_tasks: As in :class:`~rllib_mec.evaluation.Evaluation`, as is ``distance_m``.
        distance_m: Of the MDs.
        reward: No policy's is higher.
        cost: Least Eq. (4) of an episode, ms.
        latency_ms: Least total latency of an episode.
    """

    mdp: MDP
    num_tasks: Any
    distance_m: Any
    reward: float
    cost: float
    latency_ms: float

    def holds_for(self, mdp: MDP) -> bool:
        """Whether it bounds what policies achieve there: windows may be of another size.

        Args:
            mdp: Another one.
        """
        own, other = (dataclasses.asdict(each) for each in (self.mdp, mdp))
        for fields in (own, other):
            del fields["scenario"]["max_window"]
        return type(self.mdp) is type(mdp) and own == other

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, with the keys that an evaluation has."""
        return {
            "policy": "bound",
            **setting_of(self.mdp, self.num_tasks, self.distance_m),
            **{metric: {"mean": getattr(self, metric), "half_width": None} for metric in BOUNDED},
        }

    def gap(self, evaluation: Evaluation) -> dict[str, float]:
        """How many times the bound a policy's reward, Eq. (4) and latency are: more is worse.

        Args:
            evaluation: Of the policy, with the same queues and distances.

        Returns:
            Nothing where the bound does not hold for what it was evaluated on.
        """
        if not self.holds_for(evaluation.mdp):
            return {}
        return {metric: evaluation[metric].mean / getattr(self, metric) for metric in BOUNDED}


class _Group(NamedTuple):
    """Equal MDs at the same distance with as many tasks."""

    first: int
    count: int
    tasks: float
    distance_m: float


def why_unbounded(mdp: MDP) -> str:
    """Why there is no bound in an MDP; empty where there is one.

    Args:
        mdp: The MDP.
    """
    if not mdp.waits_for_all:
        return f"a {mdp.step_name} draws shadowing anew under a transmission"
    if mdp.vector_env is not VectorTaskWindow:
        return f"{mdp.env_id} runs its worlds in a way of its own"
    if mdp.scenario.shadowing == CORRELATED:
        return "correlated shadowing is common to all MDs"
    own = [n for n in _LAWS if getattr(type(mdp), n) is not getattr(TaskWindowMDP, n)]
    return f"{mdp.env_id} has a law of its own ({', '.join(own)})" if own else ""


def lower_bound(
    where: MDP | Scenario,
    *,
    num_tasks: int | Sequence[int] | None = None,
    distance_m: float | Sequence[float] | None = None,
    draw: bool = False,
) -> Bound:
    """Bound what any policy can achieve.

    Where distances are drawn or MDs move, a policy may use larger windows where they are good, so
    that no mean over distances is a bound; all MDs are then taken to stand at the least one. Queues
    that are drawn count by their mean: the bound is convex in them.

    Args:
        where: The MDP; a scenario stands for its task-window MDP.
        num_tasks: As for :func:`~rllib_mec.evaluation.evaluate`, as are the others.
        distance_m: Of the MDs.
        draw: Whether queues and distances are drawn.

    Raises:
        MecError: There is no bound in this MDP, or the solver found none.
    """
    mdp = as_mdp(where)
    if reason := why_unbounded(mdp):
        raise MecError(f"there is no bound on cost: {reason}")
    scenario = mdp.scenario
    if draw:
        mean_tasks = scenario.of_devices("mean_tasks")
        tasks = mean_tasks + np.exp(-mean_tasks)  # Poisson, and at least one
    else:
        tasks = scenario.usual_tasks if num_tasks is None else num_tasks
        distance_m = evaluation_distance_m(scenario) if distance_m is None else distance_m
    stays = distance_m is not None
    if not stays and scenario.path_loss != PAPER:
        raise MecError(
            f"there is no bound on cost: the nearest place need not be the best one by "
            f"path_loss {scenario.path_loss!r}; give distances"
        )
    distances: Any = distance_m if stays else scenario.distance_range_m[0]
    groups = _groups(scenario, tasks, distances)
    program = _Program(scenario, groups)
    weight = scenario.energy_weight
    return Bound(
        mdp=mdp,
        num_tasks=None if draw else one_if_same(tasks),
        distance_m=one_if_same(distances) if stays else None,
        reward=-program.solve(weight, own_tasks=False),
        cost=program.solve(weight, own_tasks=True),
        latency_ms=program.solve(0.0, own_tasks=True),
    )


def _groups(scenario: Scenario, tasks: Any, distances: Any) -> list[_Group]:
    """The MDs that have tasks, equal ones together."""
    shape = (scenario.num_devices,)
    members = list(
        zip(
            scenario.mobile_devices,
            np.broadcast_to(tasks, shape).tolist(),
            np.broadcast_to(distances, shape).tolist(),
            strict=True,
        )
    )
    first = {member: n for n, member in reversed(list(enumerate(members)))}
    return [
        _Group(first[member], count, member[1], member[2])
        for member, count in Counter(members).items()
        if member[1] > 0
    ]


class _Program:
    """The linear program of a scenario, where each variable is of a group of equal MDs.

    Variables are L, then of each group: its full local tasks, where there may be any, the tasks cut
    at each point that it can play for each kind of server, the Mbit sent over each kind of channel
    by each of the best trades of air time for energy, and the air time beyond that.

    Args:
        scenario: The scenario.
        groups: Its MDs that have tasks.
    """

    def __init__(self, scenario: Scenario, groups: list[_Group]):
        """Write down variables and constraints."""
        self._scenario, self._groups = scenario, groups
        self._range_w = power_range_w(scenario).tolist()
        self._entries: list[tuple[int, int, float]] = []  # of rows that are at most 0
        self._equal: list[tuple[int, int, float]] = []  # of rows that equal 0
        self._energy_j: list[float] = [0.0]  # of each variable, L first
        self._task_variables: list[list[int]] = []
        self._num_rows = self._num_equal = 0

        of_servers = (values.tolist() for values in scenario.physics.servers)
        servers = Counter(zip(*of_servers, strict=True))
        channels = Counter((c.bandwidth_hz, c.noise_w) for c in scenario.radio_channels)
        self._server_rows = {kind: self._row(-count * kind[0]) for kind, count in servers.items()}
        self._channel_rows = {
            kind: self._rows_of_channel(kind[1], count) for kind, count in channels.items()
        }
        for group in groups:
            self._add(group)

    def _row(self, of_latency: float) -> int:
        """A new row: so many times L, and what is added to it, are at most 0."""
        self._entries.append((self._num_rows, 0, of_latency))
        self._num_rows += 1
        return self._num_rows - 1

    def _rows_of_channel(self, noise_w: float, count: int) -> list[tuple[int, float]]:
        """Rows in bit per hertz, and the probability of each."""
        scenario = self._scenario
        of_groups = [states(g.distance_m, scenario) for g in self._groups]
        best = [
            snr_db(self._range_w[g.first][1], gains, noise_w)
            for g, (gains, _, _) in zip(self._groups, of_groups, strict=True)
        ]
        shares = np.array([own for _, own, _ in of_groups])
        counts = np.array([g.count for g in self._groups])
        return [
            (
                self._row(
                    -count
                    * max(most - scenario.min_spectral_efficiency, 0.0)
                    / scenario.transmission_ms_per_s
                ),
                probability,
            )
            for probability, most in sum_rates(np.array(best), shares, of_groups[0][2], counts)
        ]

    def _variable(self, energy_j: float = 0.0) -> int:
        self._energy_j.append(energy_j)
        return len(self._energy_j) - 1

    def _add(self, group: _Group) -> None:
        """Add a group's variables to all rows that they have a part in."""
        scenario, physics = self._scenario, self._scenario.physics
        work = physics.stage_work[group.first]
        local, bits, _, kept = work[:4]
        energy_j = physics.local_energy_j[group.first]
        full_local = int(physics.full_local[group.first])
        floor, ms_per_s = scenario.min_spectral_efficiency, scenario.transmission_ms_per_s
        entries, sent = self._entries, self._num_equal
        self._num_equal += 1
        in_turn = self._row(-group.count)
        beside = self._row(-group.count) if kept.any() else None

        points = np.unique(scenario.playable[group.first]).tolist()
        tasks = []
        if points[-1] == full_local:
            tasks = [self._variable(energy_j[full_local])]
            entries += [(in_turn, tasks[0], local[full_local])]
            if beside is not None:
                entries += [(beside, tasks[0], local[full_local])]
        for (speed, delay_ms, of_server), row in self._server_rows.items():
            served = work[of_server]
            for point in points:
                if point == full_local:
                    continue
                x = self._variable(energy_j[point])
                tasks.append(x)
                entries += [
                    (in_turn, x, local[point] + served[point] / speed + delay_ms),
                    (row, x, served[point]),
                ]
                if beside is not None:
                    entries += [(beside, x, local[point] + kept[point])]
                self._equal += [(sent, x, bits[point] / 1e6)]
        self._task_variables.append(tasks)

        range_w = self._range_w[group.first]
        for (bandwidth_hz, noise_w), rows in self._channel_rows.items():
            mbit = 1e6 / bandwidth_hz  # s of a bit/s/Hz
            trades = best_trades(range_w, group.distance_m, noise_w, scenario)
            for air, air_j in zip(*trades, strict=True):
                x = self._variable(mbit * air_j)
                entries += [(in_turn, x, ms_per_s * mbit * air)]
                entries += [(row, x, mbit * (p - floor * air)) for row, p in rows]
                self._equal += [(sent, x, -1.0)]
            longer = self._variable(range_w[0])
            entries += [(in_turn, longer, ms_per_s), *((row, longer, -floor) for row, _ in rows)]

    def solve(self, energy_weight: float, *, own_tasks: bool) -> float:
        """The least of L + β/N · ΣE.

        Args:
            energy_weight: β.
            own_tasks: Whether each MD does its own tasks, or any does, N in all.

        Raises:
            MecError: The solver found none.
        """
        from scipy.optimize import linprog
        from scipy.sparse import csr_array

        num_devices, num_variables = self._scenario.num_devices, len(self._energy_j)
        equal, right = list(self._equal), [0.0] * self._num_equal
        if own_tasks:
            right += [group.count * group.tasks for group in self._groups]
        else:
            right += [float(num_devices)]
        for i, tasks in enumerate(self._task_variables):
            equal += [(self._num_equal + (i if own_tasks else 0), x, 1.0) for x in tasks]

        def matrix(found: list[tuple[int, int, float]], num_rows: int) -> csr_array:
            row, column, value = np.array(found).T
            index = (row.astype(int), column.astype(int))
            return csr_array((value, index), shape=(num_rows, num_variables))

        costs = energy_weight / num_devices * np.array(self._energy_j)
        costs[0] = 1.0
        solution = linprog(
            costs,
            A_ub=matrix(self._entries, self._num_rows),
            b_ub=np.zeros(self._num_rows),
            A_eq=matrix(equal, len(right)),
            b_eq=right,
            method="highs",
        )
        if solution.status != 0:
            raise MecError(f"there is no bound on cost: the solver says {solution.message!r}")
        return float(solution.fun) * (1.0 - _ROUNDING)
