"""Betters another policy's decisions at decision time, by trying others in the simulator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from typing_extensions import Self

from rllib_mec.envs import laws
from rllib_mec.envs.actions import power_w
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import State
from rllib_mec.errors import MecError
from rllib_mec.network.checks import positive_number, whole_number
from rllib_mec.network.streams import PLANNING_SEED
from rllib_mec.policies.planner.library import by_kind
from rllib_mec.policies.planner.plans import POWER_LEVELS, Plans
from rllib_mec.policies.planner.simulation import actions_of, simulated
from rllib_mec.policies.planner.window_search import WindowSearch
from rllib_mec.policies.policy import Policy

_A_ROUND = 8  # candidates that are compared together
_DEALT_AGAIN = 0.15  # share of the later rounds that try structured plans, as the first ones do
_RESIZED = 0.4  # share of the changes that are of a window size
_ROLES = 0.6  # share of these in which the MD works locally from now on, or offloads all
_FEW = 0.6  # share of the structured plans in which few MDs offload
_INPUT = 0.8  # share in which they offload the input, not from some point on
_BY_TASK = 0.3  # share in which resources are dealt to tasks, not to MDs
_KNOWN = 8  # earlier finds of a world
_RATE = 0.1  # of the running mean
_MARGIN = 0.01  # what is better by less than this share of a window's cost is so by luck


class Lookahead(Policy):
    """Another policy, whose every decision is a candidate among others that are simulated.

    A plan of a window is judged as if it were repeated to the end of the episode, MDs of a kind
    taking turns by their queues: by Σ (−r_k − c̄) over the windows to come, c̄ being a running mean
    of the least mean cost of a window that decisions found. So no critic is needed, and windows of
    any sizes are compared, whatever decides otherwise: a checkpoint or a rule of thumb. The
    policy's own decision may also be followed by the policy's next ones, so that a good policy,
    which repeats nothing, is not taken for a worse one; it is asked about windows to come and must
    keep nothing between decisions. Candidates are what the world's earlier decisions were,
    structured plans (some MDs offload windows of one size and are dealt to channels and servers,
    the others work locally, with windows of another size), and changes of the best so far. It knows
    the model, like the planner, but not the shadowing to come.

    Where MDs move, the windows to come are taken to be played from where they are now.

    Args:
        policy: Makes the first candidate.
        candidates: How many others are tried for each decision, rounded up to rounds of 8.
        mdp: Where it decides, and what it simulates; where the policy decides by default.
        samples: Shadowing samples, common to the candidates.
        budget_ms: Stop after the round in which this time has passed since a decision was asked
            for; ``None``: when all candidates have been tried, which depends on no clock.
        seed: Of the candidates and the samples.

    Raises:
        MecError: The MDP's steps cannot be simulated, or it is of a shape that the policy does not
            take, or a number is out of its range.
    """

    def __init__(
        self,
        policy: Policy,
        candidates: int,
        *,
        mdp: MDP | None = None,
        samples: int = 16,
        budget_ms: float | None = None,
        seed: int = 0,
    ):
        """Nothing is tried before a decision is asked for."""
        mdp = policy.mdp if mdp is None else mdp
        super().__init__(mdp)
        if not mdp.can_simulate:
            raise MecError(
                "search tries steps by themselves in the simulator, "
                f"which {mdp.env_id} has not: leave it out there"
            )
        if budget_ms is not None:
            positive_number("budget_ms", budget_ms)
        self._policy = policy.on(mdp)
        self._rounds = -(-whole_number("candidates", candidates) // _A_ROUND)
        self._samples = whole_number("samples", samples)
        self._budget_ms = budget_ms
        self._seed = whole_number("seed", seed, least=0)
        self._asked = {"samples": samples, "budget_ms": budget_ms, "seed": seed}
        self.name = f"{policy.name} + search"
        scenario = self.scenario
        self._everyone = np.arange(scenario.num_devices)
        self._limits = scenario.of_devices("max_window")
        devices, kinds = by_kind(self.mdp, np.zeros(scenario.num_devices))
        self._kinds = kinds[np.argsort(devices)]
        self._begin(0)

    def on(self, mdp: MDP) -> Self:
        """The same search where another MDP is decided in; see the base class."""
        if mdp == self.mdp:
            return self
        return type(self)(self._policy, self._rounds * _A_ROUND, mdp=mdp, **self._asked)

    def _begin(self, num_worlds: int) -> None:
        """Forget what was found, as other worlds are to be decided in."""
        self._rng = np.random.default_rng([self._seed, num_worlds])
        self._changes = WindowSearch(self.mdp, self._everyone, self._kinds + 1.0, self._rng)
        self._is_new = True
        self._mean_cost = np.zeros(num_worlds)
        self._known: list[Plans] = []

    def expect_distances(self, distance_m: float | Sequence[float] | None) -> None:
        """Passed on to the policy, and a new evaluation; see the base class."""
        self._policy.expect_distances(distance_m)
        self._begin(0)

    @property
    def report(self) -> Callable[[str, float], None]:
        """The policy's own."""
        return self._policy.report

    @report.setter
    def report(self, report: Callable[[str, float], None]) -> None:
        """Set the policy's own.

        Args:
            report: Told what takes long.
        """
        self._policy.report = report

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Better the policy's decision in each of B worlds; see the base class.

        Worlds are taken to be those of the decision before, if there are as many.
        """
        asked_at = time.perf_counter()
        actions = self._policy.decide(observation)
        state = laws.decoded(self.mdp, observation)
        if len(observation) != len(self._mean_cost):
            self._begin(len(observation))
        is_on = state.queues.sum(1) > 0
        if is_on.any():
            found = self._bettered(state, actions, is_on, asked_at)
            actions = {
                head: np.where(is_on.reshape(-1, *[1] * (own.ndim - 1)), found[head], own)
                for head, own in actions.items()
            }
        return actions

    def _bettered(
        self, state: State, actions: Mapping[str, np.ndarray], is_on: np.ndarray, asked_at: float
    ) -> dict[str, np.ndarray]:
        """What is found for the worlds that have tasks; anything in the others."""
        queues = np.where(is_on[:, None], state.queues, 1)
        state = State(queues, state.distances_m)
        worlds = np.arange(len(queues))
        seed = PLANNING_SEED + int(self._rng.integers(1 << 40))
        plans = self._plans(queues, actions)
        order = self._order(queues)
        # What the policy decides is worth what the cheaper way to go on from it makes of it.
        costs, counts = (
            np.stack(values)
            for values in zip(
                self._rest(state, worlds, plans, seed),
                self._rest_by_policy(state, actions, seed),
                strict=True,
            )
        )
        least = (costs / counts).min(0)
        usual = np.where(self._is_new, least, self._mean_cost)
        way = (costs - usual * counts).argmin(0)
        cost, count = costs[way, worlds], counts[way, worlds]
        for round_ in range(self._rounds):
            parents = np.repeat(worlds, _A_ROUND)
            tried = self._candidates(round_, plans.take(parents), queues[parents], order)
            costs, counts = self._rest(state, parents, tried, seed)
            costs, counts = costs.reshape(-1, _A_ROUND), counts.reshape(-1, _A_ROUND)
            least = np.minimum(least, np.minimum((costs / counts).min(1), cost / count))
            known = np.where(self._is_new, least, self._mean_cost)
            usual = known + _RATE * (least - known)
            totals = costs - usual[:, None] * counts
            winner = totals.argmin(1)
            own = cost - (count + _MARGIN) * usual
            better = np.flatnonzero(totals[worlds, winner] < own)
            plans.put(better, tried.take(better * _A_ROUND + winner[better]))
            cost[better], count[better] = (v[better, winner[better]] for v in (costs, counts))
            if self._budget_ms and (time.perf_counter() - asked_at) * 1e3 > self._budget_ms:
                break
        self._mean_cost, self._is_new = usual, False
        self._known = [plans.of_devices(order), *self._known[: _KNOWN - 1]]
        asked = plans._replace(sizes=plans.sizes.clip(1))
        return actions_of(asked, self._everyone, self.scenario)

    def _plans(self, queues: np.ndarray, actions: Mapping[str, np.ndarray]) -> Plans:
        """What actions mean, with 0 tasks for MDs with empty queues."""
        sizes = np.minimum(np.minimum(actions["window"] + 1, self._limits), queues)
        power_dbm = 10.0 * np.log10(1e3 * power_w(actions["power"], self.scenario))
        partition, channel, server = (
            np.array(actions[head]) for head in ("partition", "channel", "server")
        )
        return Plans(sizes, partition, channel, server, power_dbm)

    def _order(self, queues: np.ndarray) -> np.ndarray:
        """The MDs of each kind in the order of falling queues, ``(B, N)``."""
        return np.lexsort((-queues, np.broadcast_to(self._kinds, queues.shape)), axis=1)

    def _rest(
        self, state: State, worlds: np.ndarray, plans: Plans, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Summed costs −r_k of the windows to come, and their number, if plans are repeated.

        A window is simulated when it is the first one of its sizes; until they change, as queues
        run out, those that follow are taken to cost the same.

        Args:
            state: Of B worlds.
            worlds: The world of each plan, ``(L,)`` int.
            plans: L plans.
            seed: Of the shadowing samples.

        Returns:
            Both ``(L,)``.
        """
        left, distances_m = state.queues[worlds].copy(), state.distances_m[worlds]
        by_rank = plans.of_devices(self._order(left))
        last = np.full_like(left, -1)
        cost, total, count = (np.zeros(len(left)) for _ in range(3))
        going_on = np.arange(len(left))
        while len(going_on):
            order = self._order(left[going_on])
            queues = np.take_along_axis(left[going_on], order, axis=1)
            sizes = np.minimum(by_rank.sizes[going_on].clip(1), queues)
            is_new = (sizes != last[going_on]).any(1)
            if is_new.any():
                new = going_on[is_new]
                asked = by_rank.take(new)._replace(sizes=sizes[is_new].clip(1))
                asked = asked.of_devices(np.argsort(order[is_new], axis=1))
                step = simulated(
                    self.mdp,
                    actions_of(asked, self._everyone, self.scenario),
                    left[new],
                    distances_m[new],
                    self._samples,
                    seed,
                )
                cost[new] = -step.reward.reshape(len(new), -1).mean(1)
                last[new] = sizes[is_new]
            total[going_on] += cost[going_on]
            count[going_on] += 1
            following = np.empty_like(queues)
            np.put_along_axis(following, order, queues - sizes, axis=1)
            left[going_on] = following
            going_on = going_on[following.any(1)]
            seed += self._samples
        return total, count

    def _rest_by_policy(
        self, state: State, actions: Mapping[str, np.ndarray], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Summed costs −r_k of the windows to come, and their number, if the policy goes on.

        Args:
            state: Of B worlds.
            actions: Its decisions there.
            seed: Of the shadowing samples.

        Returns:
            Both ``(B,)``.
        """
        left, distances_m = state.queues.copy(), state.distances_m
        total, count = np.zeros(len(left)), np.zeros(len(left))
        going_on = np.arange(len(left))
        while len(going_on):
            queues = left[going_on]
            step = simulated(
                self.mdp, dict(actions), queues, distances_m[going_on], self._samples, seed
            )
            total[going_on] -= step.reward.reshape(len(queues), -1).mean(1)
            count[going_on] += 1
            left[going_on] -= np.minimum(np.minimum(actions["window"] + 1, self._limits), queues)
            going_on = going_on[left[going_on].any(1)]
            seed += self._samples
            if len(going_on):
                to_come = State(left[going_on], distances_m[going_on])
                actions = self._policy.decide(laws.observed(self.mdp, to_come))
        return total, count

    def _candidates(
        self, round_: int, plans: Plans, queues: np.ndarray, order: np.ndarray
    ) -> Plans:
        """Others for each of B worlds' plans, ``_A_ROUND`` times B of them in a row.

        Args:
            round_: Rounds before.
            plans: The best so far, each as often.
            queues: Likewise.
            order: The MDs of B worlds, by :meth:`_order`.
        """
        if round_ == 0 and self._known:
            return self._earlier(queues, order)
        if round_ <= 1 or self._rng.random() < _DEALT_AGAIN:
            return self._dealt(plans, queues)
        return self._changed(plans, queues)

    def _earlier(self, queues: np.ndarray, order: np.ndarray) -> Plans:
        """What was found in each world before, for the MDs that have these places now."""
        age = np.arange(len(queues)) % _A_ROUND % len(self._known)
        row = np.arange(len(queues)) // _A_ROUND + age * len(order)
        plans = Plans.concatenate(self._known).take(row)
        plans = plans.of_devices(np.argsort(order, axis=1).repeat(_A_ROUND, axis=0))
        return plans._replace(sizes=np.minimum(plans.sizes.clip(1), queues))

    def _dealt(self, plans: Plans, queues: np.ndarray) -> Plans:
        """Structured plans, half of them with the powers of those there are."""
        rng, scenario = self._rng, self.scenario
        count, _, slots = plans.partition.shape
        rank = np.argsort(np.argsort(-queues, axis=1, kind="stable"), axis=1)
        sending = 1 + (rng.random(count) * (queues > 0).sum(1)).astype(np.int64)
        few = 4 * max(scenario.num_channels, scenario.num_servers)
        few = np.minimum(1 + rng.integers(few, size=count), sending)
        sending = np.where(rng.random(count) < _FEW, few, sending)
        sends = rank < sending[:, None]
        levels = self._sizes((2, count, 1))
        sizes = np.minimum(np.minimum(np.where(sends, *levels), self._limits), queues)
        by_task = (rng.random(count) < _BY_TASK)[:, None, None] * np.arange(slots)
        turn = rank[..., None] + by_task
        anywhere = rng.integers(scenario.num_points, size=count)
        point = np.where(rng.random(count) < _INPUT, 0, anywhere)[:, None]
        partition = np.where(sends, point, scenario.num_points - 1)[..., None]
        level = rng.choice(POWER_LEVELS, size=(count, 1)) * scenario.of_devices("max_power_dbm")
        keeps = (rng.random(count) < 0.5)[:, None, None]
        return plans._replace(
            power_dbm=np.where(keeps, plans.power_dbm, level[..., None]),
            sizes=sizes,
            partition=np.broadcast_to(partition, turn.shape).copy(),
            channel=turn % scenario.num_channels,
            server=turn % scenario.num_servers,
        )

    def _changed(self, plans: Plans, queues: np.ndarray) -> Plans:
        """The plans with one change each, of decisions about tasks or of a window size."""
        rng, count = self._rng, len(queues)
        rows = np.arange(count)
        device = (rng.random(queues.shape) * (queues > 0)).argmax(1)
        resized = rng.random(count) < _RESIZED
        most = np.minimum(queues, self._limits)[rows, device]
        sizes = plans.sizes.copy()
        size = np.minimum(self._sizes((count,)), most)
        sizes[rows, device] = np.where(resized, size, sizes[rows, device])
        asked = plans._replace(sizes=plans.sizes.clip(1))
        changed = self._changes.changed(asked.take(rows), device)
        kept = rows[resized]  # what else they decide stays, or is another role
        changed.put(kept, asked.take(kept))
        roles = rows[resized & (rng.random(count) < _ROLES)]
        ends = (self.scenario.num_points - 1) * rng.integers(2, size=(len(roles), 1))
        changed.partition[roles, device[roles]] = ends
        return changed._replace(sizes=sizes)

    def _sizes(self, shape: tuple[int, ...]) -> np.ndarray:
        """Window sizes: half of them the smallest or the largest."""
        rng, most = self._rng, self.scenario.max_window
        ends = np.where(rng.random(shape) < 0.5, 1, most)
        return np.where(rng.random(shape) < 0.5, ends, rng.integers(1, most + 1, size=shape))
