"""MDs that move through an environment: what worlds, evaluations and policies make of it."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from rllib_mec.envs import TaskStreamMDP, TaskWindowMDP, TimeSlotMDP
from rllib_mec.envs.draws import Draw
from rllib_mec.errors import MecError
from rllib_mec.evaluation import comparison_table, evaluate
from rllib_mec.network.path_loss import losses_db, sight_probability
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly, Neurosurgeon, Planner, RandomPolicy
from rllib_mec.policies.planner import PlannerBudget

FAST = {"mobility": "random_waypoint", "speed_range_mps": (10.0, 40.0)}
CORRELATED = {"shadowing": "correlated"}
MACRO = {"path_loss": "uma", "noise_w": 1e-13}
WORLDS = [
    {"mobility": "gauss_markov", "mean_speed_mps": 20.0, **CORRELATED},
    {**FAST, **CORRELATED, **MACRO},
    {**FAST, **MACRO},
    {**CORRELATED, **MACRO},
]
every_world = pytest.mark.parametrize("fields", WORLDS, ids=["gauss", "macro", "fast", "uniform"])


def seen(mdp, times, num_envs=4, seed=3, policy=RandomPolicy, **fixed):
    """Distances and gains at some times, ``(times, B, N)`` each."""
    worlds, found = mdp.make(num_envs, seed, num_tasks=1000, **fixed), []
    decide = policy(mdp)
    while len(found) < len(times):
        if (worlds.clock_ms == times[len(found)]).all():
            found.append((worlds.distances_m, worlds._gains()))
        worlds.step(decide.decide(worlds.observation()))
    return (np.array(each) for each in zip(*found, strict=True))


@pytest.mark.parametrize("fields", WORLDS[:2], ids=["gauss", "macro"])
def test_time_alone_says_where_all_are_and_what_they_receive(fields):
    times = [0.0, 200.0, 400.0, 1000.0]
    short, long = (TimeSlotMDP(Scenario(**fields), slot_ms=ms) for ms in (50.0, 200.0))
    distances_m, gains = seen(short, times)
    others = (
        seen(long, times), seen(short, times, policy=LocalOnly),
        seen(short, times, num_envs=1, seed=3), seen(short, times, num_envs=9),
    )  # fmt: skip
    for theirs_m, theirs in others:
        few = min(theirs.shape[1], 4)
        np.testing.assert_array_equal(theirs_m[:, :few], distances_m[:, :few])
        np.testing.assert_array_equal(theirs[:, :few], gains[:, :few])
    assert (np.diff(distances_m, axis=0) != 0.0).any()


def test_a_stream_begins_where_the_devices_are_when_its_first_task_comes():
    mdp = TaskStreamMDP(Scenario(**FAST, arrival_rate_hz=0.5), horizon_ms=1e5)
    worlds = mdp.make(6, 2)
    assert (worlds.clock_ms > 0.0).all()
    draw = Draw.at(worlds._seeds, worlds._counters, worlds.clock_ms, 3)
    np.testing.assert_array_equal(worlds.distances_m, mdp.draw_distances(draw))
    at_start = mdp.draw_distances(dataclasses.replace(draw, time_ms=np.zeros(6)))
    assert (worlds.distances_m != at_start).any()


@every_world
@pytest.mark.parametrize("make", [TaskWindowMDP, TimeSlotMDP, TaskStreamMDP])
def test_worlds_go_on_bit_for_bit_from_their_state(fields, make):
    mdp = make(Scenario(**fields))
    worlds, policy = mdp.make(3, 5), FullOffload(mdp)

    def run(worlds):
        return [worlds.step(policy.decide(worlds.observation())) for _ in range(6)]

    run(worlds)
    state = worlds.get_state()
    expected = run(worlds)
    other = mdp.make(3, 99)
    other.set_state(state)
    for one, two in zip(expected, run(other), strict=True):
        np.testing.assert_array_equal(one.observation, two.observation)
        np.testing.assert_array_equal(one.reward, two.reward)


@every_world
def test_a_simulated_sample_has_another_channel_at_the_same_place(fields):
    worlds = TaskWindowMDP(Scenario(**fields)).make(200, 1)
    actions = FullOffload(worlds.mdp).decide(worlds.observation())
    real, again, other = (worlds._gains(sample) for sample in (0, 0, 7))
    np.testing.assert_array_equal(real, again)
    assert (real != other).mean() > 0.99
    reward = worlds.simulate(actions).reward
    assert (worlds.simulate(actions, shadowing_sample=7).reward != reward).any()
    np.testing.assert_array_equal(worlds.step(actions).reward, reward)


def test_a_distance_that_is_given_is_kept_while_the_direction_moves():
    mdp = TimeSlotMDP(Scenario(**FAST, **CORRELATED), slot_ms=100.0)
    times = [0.0, 100.0, 3000.0]
    distances_m, gains = seen(mdp, times, num_envs=300, distance_m=40.0)
    assert (distances_m == 40.0).all()
    shadowing_db = 10 * np.log10(gains * 40.0**3)
    assert shadowing_db.std() == pytest.approx(8.0, rel=0.1)
    near, far = (
        np.corrcoef(shadowing_db[0].ravel(), each.ravel())[0, 1] for each in shadowing_db[1:]
    )
    assert near > 0.8 and far < 0.5


def test_devices_at_one_place_receive_alike(tmp_path):
    (tmp_path / "walk.csv").write_text(
        "time_s,device,x_m,y_m\n0,0,3,20\n0,1,3,20\n0,2,3,-20\n9,0,40,20\n9,1,40,20\n9,2,9,9\n"
    )
    mdp = TaskWindowMDP(Scenario(mobility=str(tmp_path / "walk.csv"), **CORRELATED, **MACRO))
    draw = Draw(np.arange(50, dtype=np.uint64), 3)
    distances_m = mdp.draw_distances(draw)
    gains = mdp.draw_gains(draw, distances_m)
    np.testing.assert_array_equal(gains[:, 0], gains[:, 1])
    assert (gains[:, 0] != gains[:, 2]).all() and len(np.unique(distances_m[:, 0])) == 50


@pytest.mark.parametrize("shadowing", ["independent", "correlated"])
@pytest.mark.parametrize("distance_m", [30.0, 90.0])
def test_gains_of_3gpp_are_a_mixture_of_both_states(shadowing, distance_m):
    scenario = Scenario(path_loss="umi_street_canyon", shadowing=shadowing, num_devices=1)
    at = np.full((40_000, 1), distance_m)
    gains = TaskWindowMDP(scenario).draw_gains(Draw(np.arange(40_000, dtype=np.uint64), 1), at)
    loss_db = -10 * np.log10(gains)
    (los, nlos), [sight] = losses_db(at[0], scenario), sight_probability(at[0], scenario)
    mean = sight * los + (1 - sight) * nlos
    power = sight * (16 + los**2) + (1 - sight) * (7.82**2 + nlos**2)
    assert loss_db.mean() == pytest.approx(float(mean[0]), abs=0.25)
    assert loss_db.std() == pytest.approx(float((power - mean**2)[0] ** 0.5), rel=0.03)


def test_line_of_sight_goes_with_the_place_where_shadowing_does():
    walking = {"mobility": "random_waypoint", "path_loss": "umi_street_canyon"}
    quiet = {"shadowing_std_db": 0.0, "num_devices": 40}

    def changes(shadowing):
        mdp = TaskWindowMDP(Scenario(**walking, **quiet, shadowing=shadowing))
        worlds = mdp.make(20)
        has = []
        for step in range(2):
            counters = np.array([[0, step]] * 20)
            draw = Draw.at(worlds._seeds, counters, np.full(20, 200.0 * step), 40)
            distances_m = mdp.draw_distances(draw)
            loss_db = -10 * np.log10(mdp.draw_gains(draw, distances_m))
            los, nlos = losses_db(distances_m, mdp.scenario)
            assert (np.isclose(loss_db, los) | np.isclose(loss_db, nlos)).all()
            has.append(np.isclose(loss_db, los))
        return (has[0] != has[1]).mean()

    assert changes("independent") > 0.1 > 0.03 > changes("correlated")


def test_who_moves_does_so_in_an_evaluation_unless_told_where_to_stay():
    scenario = Scenario(**FAST)
    policy = Neurosurgeon(scenario)
    moved = evaluate(policy, episodes=4)
    assert moved.distance_m is None and moved.num_tasks == 50
    assert "50 tasks an MD, moving by random_waypoint between 1 and 100 m" in comparison_table(
        [moved]
    )
    fixed = evaluate(policy, episodes=4, distance_m=30.0)
    assert fixed.distance_m == 30.0 and "50 tasks an MD, 30 m;" in comparison_table([fixed])
    drawn = comparison_table([evaluate(policy, episodes=4, draw=True)])
    assert re.search(r"queues drawn as in training \(mean [\d.]+ tasks an MD\), moving by", drawn)
    standing = evaluate(Neurosurgeon(Scenario()), episodes=4)
    assert standing.distance_m == 50.0
    stream = evaluate(LocalOnly(TaskStreamMDP(scenario, horizon_ms=500.0)), episodes=2)
    assert "tasks as they come, moving by random_waypoint" in comparison_table([stream])


def test_the_planner_plans_for_devices_that_move_by_laws_of_3gpp():
    budget = PlannerBudget(
        refined=2, rounds=2, proposals=2, samples=8, final_samples=8, places=2, network_tasks=1e4
    )
    scenario = Scenario(num_devices=2, max_window=2, mean_tasks=4.0, **WORLDS[1])
    found = evaluate(Planner(scenario, budget=budget, cache=False), episodes=3)
    assert np.isfinite(found["reward"].mean)


def test_a_remark_says_what_is_odd_about_the_noise():
    assert TaskWindowMDP(Scenario()).remarks == ()
    assert TaskWindowMDP(Scenario(path_loss="uma", noise_w=1e-13)).remarks == ()
    [odd] = TaskWindowMDP(Scenario(path_loss="uma")).remarks
    assert "noise_w is 1.0e-09, 54 dB above the thermal noise of 1 MHz, which is 4.0e-15 W" in odd
    far = Scenario(path_loss="uma", distance_range_m=(4000.0, 5000.0))
    _, drowned, load = TaskStreamMDP(far.replace(arrival_rate_hz=500.0)).remarks
    assert "even at 4000 m, with a line of sight" in drowned and "ρ = " in load


def test_a_distance_beyond_the_formulas_is_refused_in_one_line():
    mdp = TaskWindowMDP(Scenario(path_loss="inf_sl"))
    worlds = mdp.make(1, distance_m=601.0)
    with pytest.raises(MecError, match="a distance must be at most 600 m") as raised:
        worlds.step(LocalOnly(mdp).decide(worlds.observation()))
    assert "\n" not in str(raised.value)
