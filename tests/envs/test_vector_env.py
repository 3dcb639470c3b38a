"""The batch of worlds: the same trajectories as single worlds, resumable bit by bit."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rllib_mec.envs import TaskStreamMDP, TaskWindowMDP, TimeSlotMDP, task_window_v0
from rllib_mec.envs.actions import power_w
from rllib_mec.errors import MecError
from rllib_mec.network.defaults import PROFILES
from rllib_mec.network.flow import play_flow
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.slots import play_slots
from rllib_mec.network.windows import play_windows
from rllib_mec.policies import LocalOnly, RandomPolicy

KEYS = ("partition", "channel", "server", "power", "window")


@functools.cache
def scenario_of(**fields):
    return Scenario(**fields)


def per_agent(actions, world):
    """One world's actions as the PettingZoo environment takes them."""
    num_devices = actions["window"].shape[1]
    return {f"md_{n}": {key: actions[key][world, n] for key in KEYS} for n in range(num_devices)}


def uniform_actions(scenario, num_envs, *, partition=0, power=0.5, window=4):
    """The same action for all, MDs dealt to channels and servers in turn."""
    actions = LocalOnly(scenario).decide(np.zeros((num_envs, 2 * scenario.num_devices)))
    actions["partition"][:] = partition
    actions["power"][:] = power
    actions["window"][:] = window
    return actions


def assert_same_step(first, second):
    for name, one, two in zip(first._fields, first, second, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=name)


@pytest.mark.parametrize(
    ("mdp_class", "kernel"),
    [(TaskWindowMDP, play_windows), (TimeSlotMDP, play_slots), (TaskStreamMDP, play_flow)],
)
def test_actions_that_are_read_only_compile_nothing_anew(mdp_class, kernel):
    mdp = mdp_class(Scenario(num_devices=2))
    actions = RandomPolicy(mdp, 1).decide(mdp.make(3).observation())
    first = mdp.make(3, seed=0).step(actions)
    compiled = kernel.signatures
    for values in actions.values():
        values.flags.writeable = False
    again = mdp.make(3, seed=0).step(actions)
    np.testing.assert_array_equal(again.reward, first.reward)
    assert kernel.signatures == compiled and not actions["window"].flags.writeable


@pytest.mark.parametrize("profile", PROFILES)
def test_a_world_of_a_batch_is_the_single_environment_with_its_seed(profile):
    fields = {"profile": profile, "num_devices": 3, "mean_tasks": 6.0}
    scenario = Scenario(**fields)
    worlds = TaskWindowMDP(scenario).make(3, seed=40)
    envs = [task_window_v0.parallel_env(**fields) for _ in range(3)]
    singles = [env.reset(seed=40 + b)[0] for b, env in enumerate(envs)]
    observation = worlds.observation()
    policy = RandomPolicy(scenario, 1)
    ended = 0
    for _ in range(30):
        for b in range(3):
            np.testing.assert_array_equal(singles[b]["md_0"][:6], observation[b])
            np.testing.assert_array_equal(envs[b].state(), observation[b])
        actions = policy.decide(observation)
        step = worlds.step(actions)
        observation = step.observation
        for b, env in enumerate(envs):
            singles[b], rewards, terminations, _, infos = env.step(per_agent(actions, b))
            assert set(rewards.values()) == {step.reward[b]}
            assert set(terminations.values()) == {step.terminated[b]}
            for n, info in enumerate(infos.values()):
                assert info.pop("action_mask")
                assert info == {
                    "latency_ms": step.latency_ms[b],
                    "energy_j": step.energy_j[b],
                    "waiting_ms": step.waiting_ms[b],
                    "window_size": step.window_size[b, n],
                }
            if step.terminated[b]:
                singles[b], _ = env.reset()
                ended += 1
    assert ended > 3


def test_a_world_does_not_depend_on_the_other_worlds_of_its_batch():
    scenario = Scenario(num_devices=2, mean_tasks=4.0)
    alone = TaskWindowMDP(scenario).make(1, [5])
    among = TaskWindowMDP(scenario).make(3, [900, 5, 31])
    policy = RandomPolicy(scenario)
    for _ in range(20):  # several episodes
        actions = policy.decide(among.observation())
        one = alone.step({key: values[1:2] for key, values in actions.items()})
        three = among.step(actions)
        for value, values in zip(one, three, strict=True):
            if value is not None:
                np.testing.assert_array_equal(value[0], values[1])


def test_distances_do_not_depend_on_what_was_decided():
    scenario = Scenario(num_devices=2)
    worlds = [TaskWindowMDP(scenario).make(4, 3) for _ in range(2)]
    for _ in range(5):
        for i, world in enumerate(worlds):
            world.step(uniform_actions(scenario, 4, partition=i, window=i))
        np.testing.assert_array_equal(worlds[0].distances_m, worlds[1].distances_m)


def test_the_constructor_begins_what_reset_with_its_seed_begins():
    scenario = Scenario()
    worlds = TaskWindowMDP(scenario).make(4, seed=9)
    first = worlds.observation()
    np.testing.assert_array_equal(worlds.reset(), first)  # nothing was played: still the first
    second = worlds.reset()
    assert not np.array_equal(second, first)
    np.testing.assert_array_equal(worlds.reset(9), first)
    np.testing.assert_array_equal(worlds.reset(), second)
    np.testing.assert_array_equal(worlds.reset([9, 10, 11, 12]), first)


def test_a_world_that_ends_begins_its_next_episode_at_once():
    scenario = Scenario(num_devices=2, max_window=5)
    worlds = TaskWindowMDP(scenario).make(2, 0, num_tasks=7, distance_m=30.0)
    step = worlds.step(uniform_actions(scenario, 2))
    assert worlds.queues.tolist() == [[2, 2], [2, 2]] and not step.terminated.any()
    step = worlds.step(uniform_actions(scenario, 2))
    assert step.terminated.all() and step.window_size.tolist() == [[2, 2], [2, 2]]
    assert worlds.queues.tolist() == [[7, 7], [7, 7]]
    np.testing.assert_allclose(step.observation, [[7 / 50, 7 / 50, 0.3, 0.3]] * 2)
    np.testing.assert_array_equal(step.observation, worlds.observation())


def test_the_worlds_end_independently():
    scenario = Scenario(num_devices=1, mean_tasks=6.0)
    worlds = TaskWindowMDP(scenario).make(50, 0)
    queues = worlds.queues[:, 0]
    for _ in range(10):
        step = worlds.step(uniform_actions(scenario, 50))
        np.testing.assert_array_equal(step.terminated, queues <= 5)
        np.testing.assert_array_equal(step.window_size[:, 0], np.minimum(queues, 5))
        expected = np.where(step.terminated, worlds.queues[:, 0], queues - 5)
        queues = worlds.queues[:, 0]
        np.testing.assert_array_equal(queues, expected)


def test_a_restored_state_continues_bit_for_bit():
    scenario = Scenario(num_devices=3, mean_tasks=6.0)
    worlds = TaskWindowMDP(scenario).make(4, 2)
    policy = RandomPolicy(scenario)
    for _ in range(3):
        worlds.step(policy.decide(worlds.observation()))
    state = worlds.get_state()
    actions = [policy.decide(worlds.observation()) for _ in range(10)]
    steps = [worlds.step(action) for action in actions]
    other = TaskWindowMDP(scenario).make(4, 77)
    other.set_state(state)
    for action, step in zip(actions, steps, strict=True):
        assert_same_step(other.step(action), step)
    np.testing.assert_array_equal(other.reset(), worlds.reset())


def test_a_state_is_a_copy():
    worlds = TaskWindowMDP(Scenario()).make(2, 2)
    state = worlds.get_state()
    before = {key: np.copy(value) for key, value in state.items()}
    worlds.step(uniform_actions(worlds.scenario, 2))
    for key, value in before.items():
        np.testing.assert_array_equal(state[key], value)


def test_a_state_of_another_shape_is_refused():
    state = TaskWindowMDP(Scenario()).make(2).get_state()
    with pytest.raises(MecError, match="worlds"):
        TaskWindowMDP(Scenario()).make(3).set_state(state)


def test_simulating_is_stepping_without_going_on():
    scenario = Scenario(num_devices=2, mean_tasks=5.0)
    worlds = TaskWindowMDP(scenario).make(3, 4)
    actions = RandomPolicy(scenario).decide(worlds.observation())
    before = worlds.observation()
    simulated = worlds.simulate(actions)
    sample = worlds.simulate(actions, shadowing_sample=1)
    np.testing.assert_array_equal(worlds.observation(), before)
    step = worlds.step(actions)
    for name in step._fields:
        if name != "observation":
            np.testing.assert_array_equal(getattr(simulated, name), getattr(step, name), name)
    assert not np.array_equal(sample.stage_ends, step.stage_ends)


def test_tasks_are_poisson_with_at_least_one_for_every_device():
    queues = TaskWindowMDP(Scenario(num_devices=4)).make(2500, 11).queues.ravel()
    assert queues.mean() == pytest.approx(50.0, abs=4.5 * (50.0 / 10_000) ** 0.5)
    assert queues.var() == pytest.approx(50.0, abs=4.5 * 50.0 * (2 / 10_000) ** 0.5)
    few = TaskWindowMDP(Scenario(num_devices=4, mean_tasks=0.5)).make(2500, 11).queues.ravel()
    assert few.min() == 1
    # P(X <= 1) = 1.5 exp(-0.5) = 0.90980, of standard deviation 0.286
    assert (few == 1).mean() == pytest.approx(0.90980, abs=4.5 * 0.286 / 100)


def test_distances_are_uniform_over_their_range():
    scenario = Scenario(num_devices=4, distance_range_m=(20.0, 60.0))
    distances = TaskWindowMDP(scenario).make(2500, 11).distances_m.ravel()
    assert stats.kstest(distances, "uniform", (20.0, 40.0)).pvalue > 1e-5


def test_shadowing_is_log_normal_with_the_scenarios_spread():
    # A lone transmission of 1 mW at 50 m in 1 MHz: its rate gives away the gain.
    scenario = Scenario(num_devices=1, min_spectral_efficiency=0.0)
    worlds = TaskWindowMDP(scenario).make(4000, 1, distance_m=50.0)
    step = worlds.step(uniform_actions(scenario, 4000, power=0.0, window=0))
    mbit_per_s = scenario.table.bits[0] / 1e6 / step.stage_ends[:, 0, 0, 1]
    shadowing_db = 10 * np.log10((2.0**mbit_per_s - 1.0) * 1e-9 / 1e-3 / 50.0**-3)
    assert shadowing_db.mean() == pytest.approx(0.0, abs=4.5 * 8.0 / 4000**0.5)
    assert stats.kstest(shadowing_db / 8.0, "norm").pvalue > 1e-5


BAD_ARGUMENTS = [
    {"num_envs": 0},
    {"num_envs": 1.5},
    {"num_tasks": 0},
    {"num_tasks": 2.5},
    {"num_tasks": "5"},
    {"distance_m": 0.0},
    {"distance_m": float("nan")},
    {"seed": -1},
    {"seed": [1, 2, 3]},
]


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS, ids=str)
def test_bad_arguments_are_refused_by_name(arguments):
    with pytest.raises(MecError) as error:
        TaskWindowMDP(Scenario()).make(**{"num_envs": 2, **arguments})
    assert next(iter(arguments)) in str(error.value) and "\n" not in str(error.value)


def change(**changes):
    def apply(actions):
        return {**actions, **{key: edit(actions[key].copy()) for key, edit in changes.items()}}

    return apply


def put(value):
    def edit(array):
        array[1, 2] = value
        return array

    return edit


BAD_ACTIONS = {
    "misspelt key": (lambda a: {**a, "chanel": a["channel"]}, "did you mean 'channel'"),
    "missing key": (lambda a: {k: v for k, v in a.items() if k != "server"}, "lacks 'server'"),
    "wrong shape": (change(partition=lambda v: v[:, :2]), r"'partition' must have shape \(2, 3, 5"),
    "point too high": (change(partition=put(5)), r"'partition' must lie in \[0, 4\], but has 5"),
    "channel too high": (change(channel=put(2)), r"'channel' must lie in \[0, 1\], but has 2"),
    "negative server": (change(server=put(-1)), r"'server' must lie in \[0, 1\], but has -1"),
    "window too long": (change(window=put(5)), r"'window' must lie in \[0, 4\], but has 5"),
    "power too high": (change(power=put(1.5)), r"'power' must lie in \[0, 1\], but has 1.5"),
    "power that is no number": (change(power=put(np.nan)), "'power' .* nan"),
    "fractions for numbers": (change(server=lambda v: v + 0.5), "'server' must be of integers"),
    "text": (change(power=lambda v: v.astype(str)), "'power' must be an array of numbers"),
    "ragged": (lambda a: {**a, "window": [[1, 1, 1], [1]]}, "'window' must be an array of numb"),
}


@pytest.mark.parametrize(("edit", "message"), BAD_ACTIONS.values(), ids=BAD_ACTIONS)
def test_bad_actions_are_refused_in_one_line(edit, message):
    scenario = Scenario()
    assert scenario.table.num_points == 5
    worlds = TaskWindowMDP(scenario).make(2)
    state = worlds.get_state()
    with pytest.raises(MecError, match=message) as error:
        worlds.step(edit(RandomPolicy(scenario).decide(worlds.observation())))
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(worlds.get_state()["queues"], state["queues"])


worlds_and_actions = st.builds(
    lambda profile, partition, num_devices, seed: (
        scenario_of(profile=profile, partition=partition, num_devices=num_devices, mean_tasks=8.0),
        seed,
    ),
    st.sampled_from(list(PROFILES)),
    st.sampled_from(["pareto", "operator"]),
    st.integers(1, 5),
    st.integers(0, 2**32),
)


@settings(max_examples=40, deadline=None)
@given(worlds_and_actions)
def test_nothing_is_ever_negative_and_every_task_is_done_once(given_):
    scenario, seed = given_
    worlds = TaskWindowMDP(scenario).make(2, seed)
    policy = RandomPolicy(scenario, seed)
    tasks = worlds.queues
    done = np.zeros_like(tasks)
    running = np.ones(2, dtype=bool)
    while running.any():
        step = worlds.step(policy.decide(worlds.observation()))
        for values in (step.latency_ms, step.energy_j, step.waiting_ms, step.local_share):
            assert (values >= 0.0).all() and np.isfinite(values).all()
        assert (step.latency_ms > 0.0).all() and (step.reward < 0.0).all()
        for rewards, reward in zip(step.task_rewards, step.reward, strict=True):
            assert sum(rewards.tolist()) == reward
        np.testing.assert_array_equal(step.played.sum(2), step.window_size)
        ends = step.stage_ends
        assert (np.diff(ends, axis=3)[step.played] >= 0.0).all() and not ends[~step.played].any()
        assert (step.latency_ms == ends.max((1, 2, 3))).all()
        done[running] += step.window_size[running]
        running &= ~step.terminated
    np.testing.assert_array_equal(done, tasks)


@settings(max_examples=40, deadline=None)
@given(worlds_and_actions, st.randoms(use_true_random=False))
def test_permuting_the_devices_permutes_the_result(given_, random):
    scenario, seed = given_
    num_devices = scenario.num_devices
    still = scenario_of(
        profile=scenario.profile,
        partition=scenario.partition,
        num_devices=num_devices,
        shadowing_std_db=0.0,
    )
    worlds = TaskWindowMDP(still).make(1, 0, num_tasks=9, distance_m=40.0)  # all gains are equal
    actions = RandomPolicy(still, seed).decide(worlds.observation())
    order = list(range(num_devices))
    random.shuffle(order)
    step = worlds.simulate(actions)
    permuted = worlds.simulate({key: values[:, order] for key, values in actions.items()})
    np.testing.assert_allclose(permuted.stage_ends, step.stage_ends[:, order], rtol=1e-9)
    np.testing.assert_array_equal(permuted.window_size, step.window_size[:, order])
    for name in ("reward", "latency_ms", "energy_j"):
        np.testing.assert_allclose(getattr(permuted, name), getattr(step, name), rtol=1e-9)
    np.testing.assert_allclose(permuted.waiting_ms, step.waiting_ms, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(worlds_and_actions, st.floats(1.0, 100.0))
def test_a_lone_device_takes_the_sum_of_its_stages(given_, distance_m):
    profile, partition = given_[0].profile, given_[0].partition
    scenario = scenario_of(
        profile=profile, partition=partition, num_devices=1, shadowing_std_db=0.0
    )
    table = scenario.table
    worlds = TaskWindowMDP(scenario).make(1, 0, num_tasks=9, distance_m=distance_m)
    actions = RandomPolicy(scenario, given_[1]).decide(worlds.observation())
    step = worlds.simulate(actions)
    count = step.window_size[0, 0]
    points = actions["partition"][0, 0, :count]
    power = power_w(actions["power"][0, 0, :count], scenario)
    efficiency = np.maximum(np.log2(1.0 + power * distance_m**-3.0 / 1e-9), 0.1523)
    on_air_s = table.bits[points] / (scenario.bandwidth_hz * efficiency)
    stages = (
        table.local_latency_ms[points]
        + on_air_s * {"paper": 1.0, "si": 1000.0}[profile]
        + table.server_latency_ms[points]
    )
    np.testing.assert_allclose(step.stage_ends[0, 0, :count, 2], np.cumsum(stages), rtol=1e-9)
    energy = (power * on_air_s + 1e-5 * table.local_mmacs[points]).sum()
    np.testing.assert_allclose(step.energy_j, energy, rtol=1e-9)
    np.testing.assert_allclose(step.reward, -(stages.sum() + 50.0 * energy) / count, rtol=1e-9)
    assert step.waiting_ms == 0.0


@settings(max_examples=40, deadline=None)
@given(worlds_and_actions, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_power_never_slows_a_lone_device(given_, low, high):
    low, high = sorted((low, high))
    scenario = scenario_of(profile=given_[0].profile, partition="operator", num_devices=1)
    worlds = TaskWindowMDP(scenario).make(1, given_[1])
    actions = RandomPolicy(scenario, given_[1]).decide(worlds.observation())
    shape = actions["power"].shape
    weak = worlds.simulate({**actions, "power": np.full(shape, low)})
    strong = worlds.simulate({**actions, "power": np.full(shape, high)})
    assert (strong.stage_ends <= weak.stage_ends * (1 + 1e-12)).all()
